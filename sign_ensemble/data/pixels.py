"""Rows of the manifest to decoded images, resized once and read from one memory-mapped file.

Fine-tuning passes over the images many times; decoding a JPEG costs more than a step on it. A cache
folder belongs to one way of making images. In it, ``pixels.u8`` holds a slot of S · S · 3 bytes per
image content and ``index.parquet`` says which sha256 has which slot, as in ``features.py``.

Letters: N images, S side in pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from sign_ensemble.config import DataConfig
from sign_ensemble.data.features import COMMIT, Progress, Work, read_index, write_index
from sign_ensemble.data.images import load_square
from sign_ensemble.errors import UserError
from sign_ensemble.run import write_json


@dataclass(frozen=True)
class Pixels:
    """Which slots of which file belong to some images; small enough to send anywhere."""

    path: str
    slots_N: NDArray[np.int64]
    side: int

    def open(self) -> NDArray[np.uint8]:
        """The memory-mapped file as (slots, S, S, 3); index it with ``slots_N``.

        Raises:
            UserError: this machine cannot read it.
        """
        row = (self.side, self.side, 3)
        try:
            slots = os.path.getsize(self.path) // int(np.prod(row))
            return np.memmap(self.path, np.uint8, "r", shape=(slots, *row))
        except OSError as fault:
            raise UserError(
                f"{self.path}: cannot be read on this node ({fault.strerror}); data.cache must lie "
                "on storage that all nodes share"
            ) from None


def pixels_of_rows(
    rows: pa.Table, root: Path, data: DataConfig, cache: Path, progress: Progress | None = None
) -> Pixels:
    """Decoded images of these rows, decoding only those that are missing.

    Args:
        rows: Manifest rows with path and sha256.
        root: Folder that the paths are relative to.
        data: Size and fit.
        cache: Folder of all caches.
        progress: Called with (images done, images missing).

    Raises:
        UserError: the cache cannot be written or is damaged.
    """
    key = {"size": data.size, "fit": data.fit, "dtype": "uint8"}
    name = "pixels-" + hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache / name
    wanted = rows.column("sha256").to_pylist()
    paths = rows.column("path").to_pylist()
    path = folder / "pixels.u8"
    each = data.size**2 * 3
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            slot_of = read_index(folder / "index.parquet")
            first = max(slot_of.values(), default=-1) + 1
            path.touch()
            if path.stat().st_size < first * each:
                raise UserError(
                    f"{path}: damaged (shorter than index.parquet says); delete its folder to "
                    "decode the images anew"
                )
            missing = {sha: str(root / path) for sha, path in zip(wanted, paths, strict=True)}
            works = [
                Work(path, sha, slot)
                for slot, (sha, path) in enumerate(
                    ((sha, path) for sha, path in missing.items() if sha not in slot_of), first
                )
            ]
            if works:
                write_json(folder / "settings.json", key)
                fill(folder, works, slot_of, data, progress)
    except OSError as fault:
        raise UserError(f"{folder}: images cannot be kept there ({fault})") from None
    return Pixels(str(path.resolve()), np.array([slot_of[sha] for sha in wanted]), data.size)


def fill(
    folder: Path,
    works: Sequence[Work],
    slot_of: dict[str, int],
    data: DataConfig,
    progress: Progress | None,
) -> None:
    """Decode images into their slots; the index follows every 512 images."""
    with (folder / "pixels.u8").open("r+b") as opened:
        opened.truncate(works[0].slot * data.size**2 * 3)
        opened.seek(works[0].slot * data.size**2 * 3)
        for done, (work, image_SS3) in enumerate(zip(works, decoded(works, data), strict=True), 1):
            opened.write(image_SS3.tobytes())
            slot_of[work.sha256] = work.slot
            if done % COMMIT == 0 or done == len(works):
                opened.flush()
                os.fsync(opened.fileno())
                write_index(folder / "index.parquet", slot_of)
            if progress:
                progress(done, len(works))


def decoded(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.uint8]]:
    """Each image in turn, (S, S, 3), decoding a few ahead."""

    def square(work: Work) -> NDArray[np.uint8]:
        return load_square(
            Path(work.path),
            size=data.size,
            fit=data.fit,
            max_pixels=data.max_pixels,
            min_side=data.min_side,
        )

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(works), 64):
            yield from pool.map(square, works[start : start + 64])

"""Rows of the manifest to frozen features, computed once and read from one memory-mapped file.

A cache folder belongs to one set of weights and one way of making images and views. In it,
``features.f16`` holds a slot per image content: 1 + V float16 rows of D values, the image and its V
views. ``index.parquet`` says which sha256 has which slot; it is written after the rows, so that a
slot that it names is whole, and whatever an interruption left beyond is written over.

Letters: N images, V views, D features, S side in pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from sign_ensemble.config import DataConfig
from sign_ensemble.data import backbone, views
from sign_ensemble.data.images import load_square
from sign_ensemble.errors import UserError
from sign_ensemble.run import whole, write_json

COMMIT = 512  # images between two writes of the index: at most this much work is lost
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Features:
    """Which rows of which file belong to some images; small enough to send anywhere."""

    path: str
    slots_N: NDArray[np.int64]
    views: int

    def open(self) -> NDArray[np.float16]:
        """The memory-mapped file as (slots, 1 + V, D); index it with ``slots_N``."""
        row = (1 + self.views, backbone.D)
        slots = os.path.getsize(self.path) // (2 * row[0] * row[1])
        return np.memmap(self.path, np.float16, "r", shape=(slots, *row))

    def plain(self) -> NDArray[np.float16]:
        """The features of the images themselves, without views: (N, D)."""
        return self.open()[self.slots_N, 0]


@dataclass(frozen=True)
class Work:
    """One image whose features are missing."""

    path: str
    sha256: str
    slot: int


def cache_key(data: DataConfig, weights_sha256: str) -> dict[str, object]:
    """What the content of a cache folder depends on, beside the images."""
    return {
        "weights": weights_sha256,
        "size": data.size,
        "fit": data.fit,
        "views": data.views,
        "ranges": views.settings() if data.views else None,
        "mirror": data.mirror if data.views else None,
        "dtype": "float16",
    }


def images_with_views(works: Sequence[Work], data: DataConfig) -> NDArray[np.uint8]:
    """Decode images and draw their views.

    Returns:
        uint8 (len(works) * (1 + V), S, S, 3), an image and then its views, image by image.
    """
    images_NSS3 = np.stack(
        [
            load_square(
                Path(work.path),
                size=data.size,
                fit=data.fit,
                max_pixels=data.max_pixels,
                min_side=data.min_side,
            )
            for work in works
        ]
    )
    keys = [work.sha256 for work in works]
    each = [images_NSS3]
    for view in range(1, data.views + 1):
        each.append(np.asarray(views.augment(images_NSS3, keys, view, data.mirror)))
    return np.stack(each, 1).reshape(-1, *images_NSS3.shape[1:])


def compute_here(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float16]]:
    """Features of each image in turn, (1 + V, D), decoding the next images meanwhile."""
    net = backbone.load(data.weights)
    size = backbone.BATCH  # so that every pass but the last is full
    groups = [works[i : i + size] for i in range(0, len(works), size)]

    def batches() -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(images_with_views, groups[0], data)
            for following in [*groups[1:], None]:
                images = ahead.result()
                if following is not None:
                    ahead = pool.submit(images_with_views, following, data)
                for i in range(0, len(images), backbone.BATCH):
                    yield images[i : i + backbone.BATCH]

    waiting: list[NDArray[np.float16]] = []
    for values_ND in net.features(batches()):
        waiting.extend(values_ND)
        while len(waiting) > data.views:
            yield np.stack(waiting[: 1 + data.views])
            del waiting[: 1 + data.views]


def features_of_images(
    images_NSS3: NDArray[np.uint8], weights: str, progress: Progress | None = None
) -> NDArray[np.float16]:
    """Features (N, D) of images that are already in memory, for strange sets and predictions."""
    return backbone.load(weights).of_images(images_NSS3, progress)


def features_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: Path,
    progress: Progress | None = None,
    spread: bool = False,
) -> Features:
    """Features of the images in these rows and of their views, computing only what is missing.

    Args:
        rows: Manifest rows with path and sha256.
        root: Folder that the paths are relative to.
        data: Size, fit, views and weights.
        cache: Folder of all feature caches.
        progress: Called with (images done, images missing).
        spread: Compute over the Ray cluster with Ray Data instead of in this process.

    Returns:
        Where the features lie.

    Raises:
        UserError: the cache cannot be written.
    """
    key = cache_key(data, backbone.load(data.weights).sha256)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache / name
    wanted = rows.column("sha256").to_pylist()
    paths = rows.column("path").to_pylist()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            slot_of = read_index(folder / "index.parquet")
            missing = {sha: str(root / path) for sha, path in zip(wanted, paths, strict=True)}
            missing = {sha: path for sha, path in missing.items() if sha not in slot_of}
            first = max(slot_of.values(), default=-1) + 1
            check_length(folder, first, data)
            works = [Work(p, sha, first + i) for i, (sha, p) in enumerate(missing.items())]
            if works:
                write_json(folder / "settings.json", key)
                fill(folder, works, slot_of, data, progress, spread)
    except OSError as fault:
        raise UserError(f"{folder}: features cannot be written ({fault})") from None
    slots_N = np.array([slot_of[sha] for sha in wanted], np.int64)
    return Features(str((folder / "features.f16").resolve()), slots_N, data.views)


def fill(
    folder: Path,
    works: Sequence[Work],
    slot_of: dict[str, int],
    data: DataConfig,
    progress: Progress | None,
    spread: bool,
) -> None:
    """Compute features and write them into their slots; the index follows every 512 images."""
    if spread:
        from sign_ensemble.data.spread import compute_on_cluster as compute
    else:
        compute = compute_here
    per_slot = slot_bytes(data)
    path = folder / "features.f16"
    path.touch()
    with path.open("r+b") as opened:
        opened.truncate(works[0].slot * per_slot)
        opened.seek(works[0].slot * per_slot)
        for done, (work, values_VD) in enumerate(zip(works, compute(works, data), strict=True), 1):
            opened.write(values_VD.tobytes())
            slot_of[work.sha256] = work.slot
            if done % COMMIT == 0 or done == len(works):
                opened.flush()
                os.fsync(opened.fileno())
                write_index(folder / "index.parquet", slot_of)
            if progress:
                progress(done, len(works))


def check_length(folder: Path, slots: int, data: DataConfig) -> None:
    """Refuse a features file that is shorter than its index says: what lacks would read as zeros.

    Raises:
        UserError: it is shorter.
    """
    path = folder / "features.f16"
    length = path.stat().st_size if path.exists() else 0
    if length < slots * slot_bytes(data):
        raise UserError(
            f"{path}: damaged (it has {length} bytes, index.parquet names {slots} images of "
            f"{slot_bytes(data)}); delete its folder to compute it anew"
        )


def slot_bytes(data: DataConfig) -> int:
    """Bytes of one image's features and its views'."""
    return 2 * (1 + data.views) * backbone.D


def read_index(path: Path) -> dict[str, int]:
    """sha256 → slot; empty if there is no index yet.

    Raises:
        UserError: the index is damaged.
    """
    if not path.exists():
        return {}
    content = pa.BufferReader(path.read_bytes())  # from here on an OSError is the content's
    try:
        table = pq.read_table(content, page_checksum_verification=True)
        return dict(
            zip(table.column("sha256").to_pylist(), table.column("slot").to_pylist(), strict=True)
        )
    except (pa.ArrowException, OSError, KeyError, ValueError) as fault:
        raise UserError(
            f"{path}: damaged ({fault}); delete its folder to compute it anew"
        ) from None


def write_index(path: Path, slot_of: dict[str, int]) -> None:
    """Write the index whole."""
    table = pa.table({"sha256": list(slot_of), "slot": list(slot_of.values())})
    with whole(path) as beside:
        pq.write_table(table, beside, write_page_checksum=True)

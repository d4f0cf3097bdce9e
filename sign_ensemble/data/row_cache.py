"""Rows of arrays, cached by the sha256 of what they were made from, in one memory-mapped file.

In a folder that this machine can open, the file grows, and ``index.parquet`` holds the row of each
sha256. The index is written after the rows, so that every row it names is complete; whatever an
interruption left behind them is overwritten. On an object store rows lie as in ``shards.py``, and
the file is this machine's copy.

Letters: N images, D values of a hand (features).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import atomic_write, write_json
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath, cannot_write
from sign_ensemble.data.shards import LocalCopy, Make, Progress, complete

COMMIT = 512  # rows between two writes of the index: at most this much work is lost


@dataclass(frozen=True)
class RowSchema:
    """Name of a cached array's file, shape and numpy type of its rows, and what they depend on
    besides their keys (kept as ``settings.json``).
    """

    file: str
    shape: tuple[int, ...]
    dtype: str
    about: dict[str, object]

    @property
    def bytes(self) -> int:
        """Bytes of a row."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class CachedArray:
    """The rows of some keys in a file; small enough to send anywhere."""

    path: str  # the file
    row_N: NDArray[np.int64]  # the row of each image
    shape: tuple[int, ...]  # shape of a row
    dtype: str  # its numpy type's name
    # fetches the file to a machine that lacks it, where it lies on an object store
    local_copy: LocalCopy | None = None
    columns: tuple[int, int] | None = None  # which of a row's last axis are shown; None shows all

    def open(self) -> NDArray[Any]:
        """Memory-map the file as (rows, *shape), of the last axis the ``columns``.

        Raises:
            UserError: this machine cannot read it.
        """
        path = self.path if self.local_copy is None else self.local_copy.file()
        try:
            rows = os.path.getsize(path) // (prod(self.shape) * np.dtype(self.dtype).itemsize)
            every = np.memmap(path, self.dtype, "r", shape=(rows, *self.shape))
            return every[..., slice(*(self.columns or (None,)))]
        except OSError as fault:
            raise UserError(
                f"{path}: cannot be read on this node ({fault.strerror}); data.cache must lie on "
                "storage that all nodes share"
            ) from None


@dataclass(frozen=True)
class Work:
    """One image to read, and the row of the cached array that its result goes to."""

    path: str
    sha256: str
    row: int
    values: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    mirrored: bool = False  # with the hand's values, if there are any, see ``Hands.values_ND``


@dataclass(frozen=True)
class HandWork:
    """What is known of the hands in N images."""

    values_ND: NDArray[np.float32]  # see ``Hands.values_ND``
    mirrored_N: NDArray[np.bool_]  # whether what is seen is mirrored


def cached_images(
    rows: pa.Table,
    root: Path,
    cache: StoragePath,
    schema: RowSchema,
    compute: Callable[[Sequence[Work]], Iterator[NDArray[Any]]],
    progress: Progress | None,
    prefix: str = "",
    hands: HandWork | None = None,
) -> CachedArray:
    """Cached rows of manifest rows with path (relative to ``root``) and sha256.

    They lie in a folder of the cache named after what they depend on. ``compute`` computes the rows
    of images, in their order; ``progress`` is called with (images done, images missing); ``hands``
    are what is known of the images' hands.

    Raises:
        UserError: the cache cannot be written, or is damaged.
    """
    about = json.dumps(schema.about, sort_keys=True).encode()
    folder = cache / (prefix + hashlib.sha256(about).hexdigest()[:12])
    wanted, paths = rows.column("sha256").to_pylist(), rows.column("path").to_pylist()
    if hands:  # a mirrored image has a row of its own
        pairs = zip(wanted, hands.mirrored_N, strict=True)
        wanted = [f"{sha256}-mirrored" if mirrored else sha256 for sha256, mirrored in pairs]
    number_of = {key: number for number, key in enumerate(wanted)}

    def work(key: str, row: int) -> Work:
        number = number_of[key]
        path, sha256 = str(root / paths[number]), key.removesuffix("-mirrored")
        if not hands:
            return Work(path, sha256, row)
        mirrored = bool(hands.mirrored_N[number])
        return Work(path, sha256, row, hands.values_ND[number], mirrored)

    def make(missing: Sequence[tuple[str, int]]) -> Iterator[NDArray[Any]]:
        return compute([work(key, row) for key, row in missing])

    return cached_rows(folder, schema, wanted, make, progress)


def cached_rows(
    folder: StoragePath,
    schema: RowSchema,
    keys: Sequence[str],
    make: Make,
    progress: Progress | None = None,
) -> CachedArray:
    """The rows of these keys; repeated keys share a row.

    ``make`` makes the rows that the folder lacks, of the (key, row number) pairs given, in their
    order. ``progress`` is called with (rows made, rows missing).

    Raises:
        UserError: the folder cannot be written, or is damaged.
    """
    unique = list(dict.fromkeys(keys))
    try:
        if isinstance(folder, Path):
            row_of_key = _in_one_file(folder, schema, unique, make, progress)
            path, local_copy = (folder / schema.file).resolve(), None
        else:
            if not (folder / "settings.json").exists():
                write_json(folder / "settings.json", schema.about)
            row_of_key = {key: row for row, key in enumerate(unique)}
            local_copy = LocalCopy(folder, schema.file, tuple(unique), schema.bytes)
            path = complete(local_copy, make, COMMIT, progress)
    except OSError as fault:
        raise cannot_write(folder / schema.file, fault) from None
    row_N = np.array([row_of_key[key] for key in keys], np.int64)
    return CachedArray(str(path), row_N, schema.shape, schema.dtype, local_copy)


def _in_one_file(
    folder: Path, schema: RowSchema, keys: Sequence[str], make: Make, progress: Progress | None
) -> dict[str, int]:
    """Row of each key, after appending what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        row_of_key = read_index(folder / "index.parquet")
        first, file = max(row_of_key.values(), default=-1) + 1, folder / schema.file
        length = file.stat().st_size if file.exists() else 0
        if length < first * schema.bytes:  # missing rows would read as zeros
            raise UserError(
                f"{file}: damaged (it has {length} bytes, index.parquet names {first} rows of "
                f"{schema.bytes}); delete its folder to compute it anew"
            )
        missing = [key for key in keys if key not in row_of_key]
        if missing:
            write_json(folder / "settings.json", schema.about)
            pairs = [(key, first + i) for i, key in enumerate(missing)]
            append_rows(folder, schema, pairs, row_of_key, make, progress)
    return row_of_key


def append_rows(
    folder: Path,
    schema: RowSchema,
    pairs: Sequence[tuple[str, int]],
    row_of_key: dict[str, int],
    make: Make,
    progress: Progress | None,
) -> None:
    """Make and write the rows of (key, row number) pairs, and the index every COMMIT rows."""
    path = folder / schema.file
    path.touch()
    with path.open("r+b") as opened:
        start = pairs[0][1] * schema.bytes
        opened.truncate(start)
        opened.seek(start)
        for done, ((key, row), values) in enumerate(zip(pairs, make(pairs), strict=True), 1):
            opened.write(np.ascontiguousarray(values).data)
            row_of_key[key] = row
            if done % COMMIT == 0 or done == len(pairs):
                opened.flush()
                os.fsync(opened.fileno())
                write_index(folder / "index.parquet", row_of_key)
            if progress:
                progress(done, len(pairs))


def read_index(path: Path) -> dict[str, int]:
    """Row of each sha256; empty if there is no index yet.

    Raises:
        UserError: the index is damaged.
    """
    if not path.exists():
        return {}
    content = pa.BufferReader(path.read_bytes())  # from here on an OSError is the content's
    try:
        table = pq.read_table(content, page_checksum_verification=True)
        columns = (table.column(name).to_pylist() for name in ("sha256", "row"))
        return dict(zip(*columns, strict=True))
    except (pa.ArrowException, OSError, KeyError, ValueError) as fault:
        raise UserError(
            f"{path}: damaged ({fault}); delete its folder to compute it anew"
        ) from None


def write_index(path: Path, row_of_key: dict[str, int]) -> None:
    """Write the index atomically."""
    table = pa.table({"sha256": list(row_of_key), "row": list(row_of_key.values())})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)

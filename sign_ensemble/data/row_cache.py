"""Rows keyed by the content they were made from: computed once, read from one memory-mapped file.

In a folder that this machine can open, the file grows: ``index.parquet`` says which key (a sha256)
has which slot of it; the index is written after the rows, so that a slot that it names is whole,
and whatever an interruption left beyond is written over. On an object store the rows lie as in
``shards.py``, and the file is this machine's copy.

Knows nothing of what a row is but its shape and type.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
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
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.shards import LocalCopy, Make, Progress, complete

COMMIT = 512  # rows between two writes of the index: at most this much work is lost


@dataclass(frozen=True)
class RowSchema:
    """What all rows of one folder are.

    Args:
        file: Name of the file that holds them, ``features.f16``.
        shape: Shape of a row.
        dtype: Its numpy type's name.
        about: What rows depend on beside their key, kept as ``settings.json``.
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
    """Which rows of which file belong to some keys; small enough to send anywhere.

    Args:
        path: The file.
        row_N: The row of each key.
        shape: Shape of a row.
        dtype: Its numpy type's name.
        copy: Makes the file on a machine that lacks it, where it is a copy from an object store.
        columns: Of a row's last axis only so many, the first, are shown; None shows all.
    """

    path: str
    row_N: NDArray[np.int64]
    shape: tuple[int, ...]
    dtype: str
    copy: LocalCopy | None = None
    columns: int | None = None

    def open(self) -> NDArray[Any]:
        """The memory-mapped file as (rows, *shape), the last axis cut to ``columns``; index it with
        ``row_N``.

        Raises:
            UserError: this machine cannot read it.
        """
        path = self.path if self.copy is None else self.copy.file()
        try:
            rows = os.path.getsize(path) // (prod(self.shape) * np.dtype(self.dtype).itemsize)
            return np.memmap(path, self.dtype, "r", shape=(rows, *self.shape))[..., : self.columns]
        except OSError as fault:
            raise UserError(
                f"{path}: cannot be read on this node ({fault.strerror}); data.cache must lie on "
                "storage that all nodes share"
            ) from None


def cached_rows(
    folder: StoragePath,
    kind: RowSchema,
    keys: Sequence[str],
    make: Make,
    progress: Progress | None = None,
) -> CachedArray:
    """The rows of these keys, making only what is missing.

    Args:
        folder: Where rows of this kind are kept.
        kind: What they are.
        keys: What each row is wanted for; one that comes twice has one slot.
        make: Rows of the (key, slot) pairs given, in their order.
        progress: Called with (rows made, rows missing).

    Raises:
        UserError: the folder cannot be written, or is damaged.
    """
    unique = list(dict.fromkeys(keys))
    try:
        if isinstance(folder, Path):
            slot_of = _in_one_file(folder, kind, unique, make, progress)
            path, copy = (folder / kind.file).resolve(), None
        else:
            if not (folder / "settings.json").exists():
                write_json(folder / "settings.json", kind.about)
            slot_of = {key: slot for slot, key in enumerate(unique)}
            copy = LocalCopy(folder, kind.file, tuple(unique), kind.bytes)
            path = complete(copy, make, COMMIT, progress)
    except OSError as fault:
        what = kind.file.partition(".")[0]
        raise UserError(f"{folder}: {what} cannot be written ({fault})") from None
    row_N = np.array([slot_of[key] for key in keys], np.int64)
    return CachedArray(str(path), row_N, kind.shape, kind.dtype, copy)


def _in_one_file(
    folder: Path, kind: RowSchema, keys: Sequence[str], make: Make, progress: Progress | None
) -> dict[str, int]:
    """Key → slot after what is missing was appended."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        slot_of = read_index(folder / "index.parquet")
        first = max(slot_of.values(), default=-1) + 1
        check_length(folder / kind.file, first, kind.bytes)
        missing = [key for key in keys if key not in slot_of]
        if missing:
            write_json(folder / "settings.json", kind.about)
            slots = {key: first + i for i, key in enumerate(missing)}
            append_rows(folder, kind, slots, slot_of, make, progress)
    return slot_of


def append_rows(
    folder: Path,
    kind: RowSchema,
    missing: dict[str, int],
    slot_of: dict[str, int],
    make: Make,
    progress: Progress | None,
) -> None:
    """Make rows and write them into their slots; the index follows every 512 rows."""
    path = folder / kind.file
    path.touch()
    with path.open("r+b") as opened:
        start = min(missing.values()) * kind.bytes
        opened.truncate(start)
        opened.seek(start)
        pairs = list(missing.items())
        for done, ((key, slot), row) in enumerate(zip(pairs, make(pairs), strict=True), 1):
            opened.write(np.ascontiguousarray(row).data)
            slot_of[key] = slot
            if done % COMMIT == 0 or done == len(pairs):
                opened.flush()
                os.fsync(opened.fileno())
                write_index(folder / "index.parquet", slot_of)
            if progress:
                progress(done, len(pairs))


def check_length(path: Path, slots: int, per_slot: int) -> None:
    """Refuse a file that is shorter than its index says: what lacks would read as zeros.

    Raises:
        UserError: it is shorter.
    """
    length = path.stat().st_size if path.exists() else 0
    if length < slots * per_slot:
        raise UserError(
            f"{path}: damaged (it has {length} bytes, index.parquet names {slots} images of "
            f"{per_slot}); delete its folder to compute it anew"
        )


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
    with atomic_write(path) as beside:
        pq.write_table(table, beside, write_page_checksum=True)

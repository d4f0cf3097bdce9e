"""Rows keyed by content on an object store, and each machine's copy of them.

    <folder>/shards/<name>.rows     some hundred rows, one after another
    <folder>/shards/<name>.parquet  their keys in order, and the sha256 of the rows; written last

A shard never changes. Its name is made of its keys, so two calls that make the same rows write the
same shard, and two that make others disturb nobody: no lock is needed, and object stores have none.

A copy is one file with the rows of one list of keys in its order. It is the same file on every
machine, so that places in it may be sent from one to another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import RemotePath, scratch_folder

AT_ONCE = 4  # shards under way at a time: 190 MB of features
_SHA256 = b"sign_ensemble.sha256"
Progress = Callable[[int, int], None]
Make = Callable[[Sequence[tuple[str, int]]], Iterator[NDArray]]
Shard = tuple[RemotePath, list[str], str]  # its rows, their keys, their sha256


@dataclass(frozen=True)
class LocalCopy:
    """A file of this machine with the rows of some keys, each key once, in their order."""

    folder: RemotePath
    name: str
    keys: tuple[str, ...]
    row_bytes: int

    def file(self) -> Path:
        """The file, made if this machine has none.

        Raises:
            UserError: rows are missing or damaged on the storage.
        """
        path = self._path()
        return path if path.exists() else complete(self, None)

    def _path(self) -> Path:
        parts = [str(self.folder), str(self.row_bytes), *self.keys]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
        return scratch_folder() / f"{digest}-{self.name}"


def complete(
    copy: LocalCopy,
    make: Make | None,
    commit: int = 1,
    progress: Progress | None = None,
) -> Path:
    """The copy's file, after the storage has all its rows.

    Args:
        copy: What is wanted.
        make: Rows of the (key, slot) pairs given, in their order; None makes nothing.
        commit: Rows of a new shard.
        progress: Called with (rows made, rows missing).

    Raises:
        UserError: rows are missing and cannot be made, or are damaged on the storage.
    """
    path = copy._path()
    slot_of = {key: slot for slot, key in enumerate(copy.keys)}
    with FileLock(path.with_name(f"{path.name}.lock")):
        if make is None and path.exists():
            return path
        shards = _shards(copy.folder)
        missing = slot_of.keys() - {key for _, keys, _ in shards for key in keys}
        if path.exists() and not missing:
            return path
        if missing and make is None:
            raise UserError(f"{copy.folder}: {len(missing)} of {len(slot_of)} rows are gone")
        with atomic_write(path) as beside, beside.open("wb") as opened:
            opened.truncate(len(slot_of) * copy.row_bytes)
            _fetch(copy, slot_of, shards, opened)
            if missing and make:
                pairs = [(key, slot) for key, slot in slot_of.items() if key in missing]
                _make(copy, pairs, make, commit, opened, progress)
    return path


def _shards(folder: RemotePath) -> list[Shard]:
    """What there is."""

    def read(index: RemotePath) -> Shard:
        try:
            table = pq.read_table(pa.BufferReader(index.read_bytes()))
            return (
                index.with_suffix(".rows"),
                table.column("key").to_pylist(),
                table.schema.metadata[_SHA256].decode(),
            )
        except (pa.ArrowException, OSError, KeyError, TypeError) as fault:
            raise UserError(f"{index}: damaged ({fault}); delete it to compute it anew") from None

    with ThreadPoolExecutor(4 * AT_ONCE) as pool:
        return list(pool.map(read, (folder / "shards").glob("*.parquet")))


def _fetch(copy: LocalCopy, slot_of: dict[str, int], shards: list[Shard], opened: BinaryIO) -> None:
    """Write the rows that the storage has into their slots."""
    wanted = [shard for shard in shards if not slot_of.keys().isdisjoint(shard[1])]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            read = pool.map(lambda shard: shard[0].read_bytes(), some)
            for (rows, keys, sha256), content in zip(some, read, strict=True):
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise UserError(f"{rows}: damaged; delete its folder to compute it anew")
                for i, key in enumerate(keys):
                    if key in slot_of:
                        opened.seek(slot_of[key] * copy.row_bytes)
                        opened.write(content[i * copy.row_bytes : (i + 1) * copy.row_bytes])


def _make(
    copy: LocalCopy,
    pairs: Sequence[tuple[str, int]],
    make: Make,
    commit: int,
    opened: BinaryIO,
    progress: Progress | None,
) -> None:
    """Make rows, write them into their slots and, a shard at a time, to the storage."""
    keys: list[str] = []
    rows: list[bytes] = []
    for done, ((key, slot), row) in enumerate(zip(pairs, make(pairs), strict=True), 1):
        keys.append(key)
        rows.append(row.tobytes())
        opened.seek(slot * copy.row_bytes)
        opened.write(rows[-1])
        if len(keys) == commit or done == len(pairs):
            _write(copy.folder, keys, b"".join(rows))
            keys, rows = [], []
        if progress:
            progress(done, len(pairs))


def _write(folder: RemotePath, keys: list[str], content: bytes) -> None:
    name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:24]
    shard = folder / "shards" / f"{name}.rows"
    shard.write_bytes(content)
    about = {_SHA256: hashlib.sha256(content).hexdigest().encode()}
    with atomic_write(shard.with_suffix(".parquet")) as beside:
        pq.write_table(pa.table({"key": keys}).replace_schema_metadata(about), beside)

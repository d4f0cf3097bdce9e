"""Cached rows on an object store, and each machine's copy of them.

    <folder>/shards/<name>.rows     some hundred rows, one after another
    <folder>/shards/<name>.parquet  their keys in order, and the sha256 of the rows; written last

A shard never changes and is named after its keys: two calls that make the same rows write the same
shard, and others do not conflict, so no lock is needed (object stores have none).

A local copy is one file with the rows of a list of keys in its order: the same file on every
machine, so that row numbers may be sent from one to another.
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

AT_ONCE = 4  # shards in transfer at a time: 190 MB of features
_SHA256 = b"sign_ensemble.sha256"
Progress = Callable[[int, int], None]
Make = Callable[[Sequence[tuple[str, int]]], Iterator[NDArray]]
Shard = tuple[RemotePath, list[str], str]  # its rows, their keys, their sha256


@dataclass(frozen=True)
class LocalCopy:
    """A file on this machine with the rows of distinct keys, in their order."""

    folder: RemotePath
    name: str
    keys: tuple[str, ...]
    row_bytes: int

    def file(self) -> Path:
        """The file, fetched if this machine has none.

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
    local_copy: LocalCopy,
    make: Make | None,
    commit: int = 1,
    progress: Progress | None = None,
) -> Path:
    """The copy's file, after the storage has all its rows.

    ``make`` makes the rows of (key, row number) pairs, in their order, for shards of ``commit``
    rows; None only fetches. ``progress`` is called with (rows made, rows missing).

    Raises:
        UserError: rows are missing and cannot be made, or are damaged on the storage.
    """
    path = local_copy._path()
    row_of_key = {key: row for row, key in enumerate(local_copy.keys)}
    with FileLock(path.with_name(f"{path.name}.lock")):
        if make is None and path.exists():
            return path
        shards = _shards(local_copy.folder)
        missing = row_of_key.keys() - {key for _, keys, _ in shards for key in keys}
        if path.exists() and not missing:
            return path
        if missing and make is None:
            raise UserError(
                f"{local_copy.folder}: {len(missing)} of {len(row_of_key)} rows are gone"
            )
        with atomic_write(path) as temporary, temporary.open("wb") as opened:
            opened.truncate(len(row_of_key) * local_copy.row_bytes)
            _fetch(local_copy, row_of_key, shards, opened)
            if missing and make:
                pairs = [(key, row) for key, row in row_of_key.items() if key in missing]
                _make(local_copy, pairs, make, commit, opened, progress)
    return path


def _shards(folder: RemotePath) -> list[Shard]:
    """All shards of a folder, by their indices."""

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


def _fetch(
    local_copy: LocalCopy, row_of_key: dict[str, int], shards: list[Shard], opened: BinaryIO
) -> None:
    """Write the rows that the storage has into the opened copy."""
    size = local_copy.row_bytes
    wanted = [shard for shard in shards if not row_of_key.keys().isdisjoint(shard[1])]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            read = pool.map(lambda shard: shard[0].read_bytes(), some)
            for (file, keys, sha256), content in zip(some, read, strict=True):
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise UserError(f"{file}: damaged; delete its folder to compute it anew")
                for i, key in enumerate(keys):
                    if key in row_of_key:
                        opened.seek(row_of_key[key] * size)
                        opened.write(content[i * size : (i + 1) * size])


def _make(
    local_copy: LocalCopy,
    pairs: Sequence[tuple[str, int]],
    make: Make,
    commit: int,
    opened: BinaryIO,
    progress: Progress | None,
) -> None:
    """Make rows; write them into the opened copy and, a shard at a time, to the storage."""
    keys: list[str] = []
    rows: list[bytes] = []
    for done, ((key, row), values) in enumerate(zip(pairs, make(pairs), strict=True), 1):
        keys.append(key)
        rows.append(values.tobytes())
        opened.seek(row * local_copy.row_bytes)
        opened.write(rows[-1])
        if len(keys) == commit or done == len(pairs):
            _write(local_copy.folder, keys, b"".join(rows))
            keys, rows = [], []
        if progress:
            progress(done, len(pairs))


def _write(folder: RemotePath, keys: list[str], content: bytes) -> None:
    name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:24]
    shard = folder / "shards" / f"{name}.rows"
    shard.write_bytes(content)
    about = {_SHA256: hashlib.sha256(content).hexdigest().encode()}
    with atomic_write(shard.with_suffix(".parquet")) as temporary:
        pq.write_table(pa.table({"key": keys}).replace_schema_metadata(about), temporary)

"""Files of users on this machine or an object store: listed, and told from another version."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sign_ensemble.core.storage import NOTHING, RemotePath, StoragePath

MISSING = (-1, -1)


@dataclass(frozen=True)
class StoredFile:
    """An object of a store."""

    path: RemotePath
    mark: tuple[int, int]  # see :func:`mark_of`


def files_below(folder: RemotePath) -> list[StoredFile]:
    """Every object below a folder of a store, sorted by path.

    Raises:
        StorageError: the store refuses or cannot be reached.
    """
    from pyarrow.fs import FileSelector, FileType

    with folder.connection() as (files, key):
        found = files.get_file_info(FileSelector(key, recursive=True, allow_not_found=True))
    found = [info for info in found if info.type == FileType.File]
    names = ((info.path[len(key) :].strip("/"), info) for info in found)
    return [StoredFile(folder / name, _mark(info)) for name, info in sorted(names, key=_first)]


def mark_of(path: StoragePath) -> tuple[int, int]:
    """A file's bytes and modification time in nanoseconds, MISSING where it cannot be seen: another
    version of it has another mark.

    Raises:
        StorageError: the store refuses or cannot be reached.
    """
    if isinstance(path, RemotePath):
        with path.connection() as (files, key):
            return _mark(files.get_file_info(key))
    with suppress(OSError, ValueError):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    return MISSING


def _mark(info: Any) -> tuple[int, int]:
    if int(info.type) == NOTHING:
        return MISSING
    return int(info.size or 0), int(info.mtime_ns or 0)


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]

"""A folder of this machine that is written completely or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StorageError, cannot_write


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder next to ``path`` that takes its place when the block succeeds, and is
    removed otherwise; so is what a killed process left there. A folder that was at ``path`` stays
    until then.

    The temporary folder has one name, and its owner holds a lock on it, which ends with the
    process.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
        UserError: another process is writing it.
    """
    temporary = path.parent / f".{path.name}.partial"
    held = _emptied(temporary, path)
    try:
        with _faults_name(path, temporary):
            yield temporary
            _put_in_place(temporary, path)
    finally:
        if _is_held(temporary, held):
            shutil.rmtree(temporary, ignore_errors=True)
        os.close(held)


def _emptied(temporary: Path, path: Path) -> int:
    """The temporary folder without content, made if it is not there; a descriptor that locks it."""
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        held = os.open(temporary, os.O_RDONLY)
    except OSError as fault:
        raise cannot_write(path, fault) from None
    try:
        with suppress(OSError):  # where the file system has no locks
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _in_use(path) from None
        if not _is_held(temporary, held):  # renamed by its owner in this moment
            raise _in_use(path)
        for left in temporary.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        probe = temporary / "probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as fault:
        os.close(held)
        raise cannot_write(path, fault) from None
    except UserError:
        os.close(held)
        raise
    return held


def _in_use(path: Path) -> UserError:
    return UserError(f"{path} is being written by another command: wait for its end")


def _is_held(temporary: Path, held: int) -> bool:
    """Whether the folder of this name is the one that is locked."""
    try:
        return temporary.stat().st_ino == os.fstat(held).st_ino
    except FileNotFoundError:
        return False


def _put_in_place(temporary: Path, path: Path) -> None:
    if not path.is_dir() or not any(path.iterdir()):
        os.replace(temporary, path)
        return
    earlier = path.parent / f".{path.name}.earlier"
    shutil.rmtree(earlier, ignore_errors=True)
    os.replace(path, earlier)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(earlier, path)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


@contextmanager
def _faults_name(path: Path, temporary: Path) -> Iterator[None]:
    """Faults of writing into the temporary folder become those of ``path``. A full disk's fault
    names no file; one that names another file is not about this folder.
    """
    try:
        yield
    except StorageError as fault:
        text = str(fault).replace(str(temporary), str(path))
        raise StorageError(text, fault.reason) from None
    except OSError as fault:
        of_ours = fault.filename is None or str(fault.filename).startswith(str(temporary))
        if fault.errno is None or not (of_ours or str(fault.filename) == str(path)):
            raise
        raise cannot_write(path, fault) from None

"""One command at a time writes into a run's folder, or into that of an unfinished table of
predictions: its name stands in the folder's ``.lock``.

Where the file system has locks, the file is locked by ``flock``, which ends with the process,
however that ends. On object stores, and where there is no ``flock``, the file is a lease: its owner
writes it anew every RENEW_SECONDS; one that does not change for LOST_SECONDS was left by a command
that was killed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from getpass import getuser
from pathlib import Path

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.console import say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StorageError, StoragePath

RENEW_SECONDS = 5.0
LOST_SECONDS = 20.0
SETTLE_SECONDS = 1.0  # two commands that begin at once have written their leases by then
ANOTHER_NAME = "give another run.name"


@contextmanager
def locked(run: RunFolder, instead: str = ANOTHER_NAME) -> Iterator[None]:
    """The folder is this command's for the length of the block, and removed if it is empty then.
    One that cannot be written needs no lock. ``instead`` is what another command can do.

    Raises:
        UserError: another command works on it; says which.
    """
    if isinstance(run.path, Path) and not os.access(run.path, os.W_OK):
        yield
        return
    try:
        held = _flock(run.lock, instead) if isinstance(run.lock, Path) else None
        try:
            if held is None:
                with _lease(run.lock, instead):
                    yield
            else:
                yield
        finally:
            if held is not None:
                run.lock.unlink(missing_ok=True)
                os.close(held)
    finally:
        with suppress(OSError, StorageError):
            run.path.rmdir()


def owner() -> str:
    """This command, in words."""
    user = str(os.getuid())
    with suppress(KeyError, OSError):  # a container's user without a name
        user = getuser()
    began = datetime.now().astimezone().isoformat(" ", "seconds")
    program = Path(sys.argv[0] or "python")
    command = program.parent.name if program.stem == "__main__" else program.stem
    return f"{command} of {user} on {socket.gethostname()}, process {os.getpid()}, since {began}"


def in_use(file: StoragePath, by: str, instead: str = ANOTHER_NAME) -> UserError:
    """The error for a folder that another command works on."""
    by = by.partition("\n")[0] or "another command"
    return UserError(f"{file.parent} is in use by {by}: wait for its end, or {instead}")


def _flock(file: Path, instead: str) -> int | None:
    """The locked file's descriptor, which no child process inherits; None if there are no locks."""
    while True:
        held = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            by = file.read_text(errors="replace") if file.exists() else ""
            os.close(held)
            raise in_use(file, by, instead) from None
        except OSError:
            os.close(held)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), file.stat()):
                with suppress(OSError):  # a full disk, or another user's file
                    os.fchmod(held, 0o666)  # else it would block other users once it is left
                    file.write_text(owner())
                return held
        os.close(held)  # the file that was locked has been removed by its owner meanwhile


@contextmanager
def _lease(file: StoragePath, instead: str) -> Iterator[None]:
    """Hold a lease for the block.

    A command that was stopped for longer than LOST_SECONDS and then goes on does not notice that
    another has taken its place.
    """
    if before := _text_of(file):
        by = before.partition("\n")[0]
        say(f"{file.parent} was in use by {by}: {LOST_SECONDS:.0f} s show whether it still is")
        time.sleep(LOST_SECONDS)
        if _text_of(file) != before:
            raise in_use(file, _text_of(file), instead)
    own, ended = f"{owner()}\n{secrets.token_hex(8)}", threading.Event()

    def renew() -> None:
        number = 0
        while not ended.wait(RENEW_SECONDS):
            with suppress(OSError, StorageError):  # the store may answer the next time
                if not _text_of(file).startswith(own):
                    return
                number += 1
                _write(file, f"{own} {number}")

    _write(file, own)
    time.sleep(SETTLE_SECONDS)
    if (seen := _text_of(file)) != own:
        raise in_use(file, seen, instead)
    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError, StorageError):
            if _text_of(file).startswith(own):
                file.unlink()


def _text_of(file: StoragePath) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _write(file: StoragePath, text: str) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(text)

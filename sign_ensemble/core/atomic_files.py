"""Atomic writes, and reading back: JSON and arrays, on local disks and object stores."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save as save_safetensors

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import RemotePath, StorageError, StoragePath, cannot_write


@contextmanager
def atomic_write(path: StoragePath) -> Iterator[Path]:
    """A temporary file that becomes ``path`` when the block succeeds and is removed otherwise.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    if not isinstance(path, Path):
        with TemporaryDirectory(prefix="sign_ensemble-") as folder:
            temporary = Path(folder) / path.name
            with _write_faults_name(path, temporary):
                yield temporary
            path.write_bytes(temporary.read_bytes())
        return
    temporary = path.parent / temporary_name(path)
    with _write_faults_name(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def temporary_name(path: StoragePath) -> str:
    """A hidden name of this process for a file until it is complete."""
    return f".{path.name}.{os.getpid()}"


@contextmanager
def _write_faults_name(path: StoragePath, temporary: Path) -> Iterator[None]:
    """Faults of writing the temporary file, or a folder above it, become those of ``path``.

    A full disk's fault names no file; one that names another file is not about this one.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as fault:
        ours = {None, *map(str, (temporary, *temporary.parents))}
        if fault.errno is None or fault.filename not in ours:
            raise
        raise cannot_write(path, fault) from None


def check_writable(path: StoragePath) -> None:
    """Try to write next to a file that is to hold the result of long work; its folder is made.

    Raises:
        StorageError: it cannot be written.
    """
    if isinstance(path, Path) and path.is_dir():
        raise UserError(f"{path}: cannot be written, since it is a folder")
    probe = path.parent / temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as fault:
        raise cannot_write(path, fault) from None


@contextmanager
def local_copy_of(path: StoragePath) -> Iterator[Path]:
    """The file or folder (its files only) on this machine: itself, or a copy for the block, never
    all of it in memory.

    Raises:
        FileNotFoundError: a remote file does not exist.
    """
    if isinstance(path, Path):
        yield path
        return
    with TemporaryDirectory(prefix="sign_ensemble-") as folder:
        copy = Path(folder) / path.name
        try:
            _copy_object(path, copy)
        except FileNotFoundError:
            if not path.is_dir():
                raise
            copy.mkdir()
            for file in path.glob("*"):
                _copy_object(file, copy / file.name)
        yield copy


def _copy_object(path: RemotePath, to: Path) -> None:
    with (
        path.connection() as (files, key),
        files.open_input_stream(key) as opened,
        to.open("wb") as into,
    ):
        shutil.copyfileobj(opened, into)


def write_json(path: StoragePath, value: Any) -> None:
    """Write ``value`` as JSON, atomically; floats are read back bit for bit."""
    with atomic_write(path) as file:
        file.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: StoragePath) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        UserError: missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: not there; has this stage of the run ended?") from None
    except ValueError as fault:
        raise UserError(f"{path}: not valid JSON ({fault})") from None


def write_arrays(
    path: StoragePath, arrays: dict[str, NDArray[Any]], metadata: dict[str, Any] | None = None
) -> str:
    """Write arrays, and JSON values in the header, as one safetensors file, atomically; return its
    sha256.
    """
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    arrays = {key: np.asarray(value, order="C") for key, value in arrays.items()}
    content = save_safetensors(arrays, header)
    with atomic_write(path) as file:
        file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_arrays(path: StoragePath) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and metadata of a safetensors file.

    Raises:
        UserError: missing or damaged.
    """
    try:
        with local_copy_of(path) as file, safe_open(file, "np") as opened:
            arrays = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            header = {key: json.loads(value) for key, value in (opened.metadata() or {}).items()}
    except FileNotFoundError:
        raise UserError(f"{path}: not there; has this stage of the run ended?") from None
    except StorageError:
        raise
    except Exception as fault:  # safetensors raises its own untyped error for damage
        raise UserError(f"{path}: damaged ({fault})") from None
    return arrays, header


def file_sha256(path: StoragePath) -> str:
    """sha256 of a file's bytes."""
    with local_copy_of(path) as file, file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

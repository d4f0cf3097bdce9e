"""Where files lie: a path of this machine, or an object store that pyarrow reaches.

A :data:`StoragePath` is a ``pathlib.Path`` (local disk, NFS) or a :class:`RemotePath`, which has
those of its methods that a run needs. Code that needs a real file takes ``atomic_write`` and
``local_copy_of`` of ``core/atomic_files.py``.

Credentials come from the environment, as pyarrow and the providers' libraries read them. A URI may
not hold any, since it is written to ``config.yaml``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from sign_ensemble.core.errors import UserError

# Object stores, which write an object completely or not at all; and a hint if one does not answer.
STORES = {
    "s3": "do AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL fit it?",
    "gs": "does GOOGLE_APPLICATION_CREDENTIALS fit it?",
    "gcs": "does GOOGLE_APPLICATION_CREDENTIALS fit it?",
    "abfs": "do the environment's credentials fit it?",
    "abfss": "do the environment's credentials fit it?",
}
RULE = "a path, or a URI such as s3://bucket/folder, gs://bucket/folder or file:///folder"
NOTHING, FOLDER = 0, 3  # pyarrow.fs.FileType's values; importing it takes a tenth of a second


class StorageError(UserError):
    """An object store refused or did not answer, or a disk cannot be written; ``reason`` is its
    message and a hint.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder of an object store, with the methods of ``pathlib.Path``; picklable.

    Every method raises StorageError if the store refuses or cannot be reached, and
    FileNotFoundError as ``pathlib.Path`` does.
    """

    root: str  # scheme and bucket, ``s3://bucket``
    path: str = ""  # the name in the bucket, without a slash at either end
    # the connection's options as pyarrow reads them, ``region=…&endpoint_override=…``
    query: str = ""

    def __str__(self) -> str:
        """As a user would type it."""
        return "/".join(filter(None, [self.root, self.path])) + f"?{self.query}" * bool(self.query)

    def __truediv__(self, below: str | PurePosixPath) -> RemotePath:
        return replace(self, path="/".join(filter(None, [self.path, str(PurePosixPath(below))])))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def parent(self) -> RemotePath:
        """The folder that holds it."""
        return replace(self, path=self.path.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> RemotePath:
        """The same name with another ending."""
        return replace(self, path=str(PurePosixPath(self.path).with_suffix(suffix)))

    def resolve(self) -> RemotePath:
        """Itself: a URI is never relative."""
        return self

    def exists(self) -> bool:
        """Whether there is such an object, or objects below it."""
        return self._kind() != NOTHING

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return self._kind() not in (NOTHING, FOLDER)

    def is_dir(self) -> bool:
        """Whether there are objects below it."""
        return self._kind() == FOLDER

    def read_bytes(self) -> bytes:
        """The object's content."""
        with self.connection() as (files, key), files.open_input_file(key) as file:
            return file.read()

    def read_text(self) -> str:
        """The object's content as UTF-8."""
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """Write or replace the object completely or not at all.

        In a thread, where no interrupt is raised: pyarrow would keep what was written before it.
        """
        with self.connection() as (files, key), ThreadPoolExecutor(1) as pool:
            pool.submit(_put, files, key, content).result()

    def write_text(self, text: str) -> None:
        """Write the object as UTF-8, completely or not at all."""
        self.write_bytes(text.encode())

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: folders of an object store are parts of names."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        try:
            with self.connection() as (files, key):
                files.delete_file(key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        """Delete pyarrow's marker of an empty folder.

        Raises:
            OSError: the folder is not empty.
        """
        if any(self.glob("*")):
            raise OSError(f"{self}: not empty")
        with self.connection() as (files, key):
            if self.is_dir():
                files.delete_dir(key)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Matching paths below, sorted; ``*`` stands for any part of a name, never for a slash."""
        from pyarrow.fs import FileSelector

        parts = pattern.split("/")
        with self.connection() as (files, key):
            selector = FileSelector(key, recursive=len(parts) > 1, allow_not_found=True)
            found = files.get_file_info(selector)
        for below in sorted(info.path[len(key) :].strip("/") for info in found):
            names = below.split("/")
            if len(names) == len(parts) and all(map(fnmatchcase, names, parts)):
                yield self / below

    def opened(self) -> tuple[Any, str]:
        """The pyarrow file system and the name in it, for libraries that take them."""
        files, bucket = _file_system(self.root, self.query)
        return files, "/".join(filter(None, [bucket, self.path]))

    def _kind(self) -> int:
        with self.connection() as (files, key):
            return int(files.get_file_info(key).type)

    @contextmanager
    def connection(self) -> Iterator[tuple[Any, str]]:
        """:meth:`opened`, with a one-line StorageError for faults of the store."""
        try:
            yield self.opened()
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as fault:  # pyarrow's ArrowInvalid is a ValueError
            reason = f"{reason_of(fault)}; {STORES[self.root.partition(':')[0]]}"
            raise StorageError(f"{self}: {reason}", reason) from None


StoragePath = Path | RemotePath


def storage_path(text: str, name: str = "the path") -> StoragePath:
    """The path of a text as users type it for the setting ``name``: a path, in which ``~`` is the
    home folder, or a URI such as ``s3://bucket/folder``.

    Raises:
        UserError: it looks like a URI but cannot be used.
    """
    scheme, colon, rest = text.partition(":")
    slashed = re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]+", scheme) and rest.startswith("/")
    if not colon or not (slashed or scheme.lower() in STORES):
        return Path(os.path.expanduser(text))
    try:
        parts = urlsplit(text)
    except ValueError as fault:
        raise UserError(f"{name} is {text}: it must be {RULE} ({fault})") from None
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(unquote(parts.path))
    if parts.scheme not in STORES or not parts.netloc or parts.fragment:
        raise UserError(f"{name} is {text}: it must be {RULE}")
    if parts.password is not None or (parts.username and parts.scheme not in ("abfs", "abfss")):
        raise UserError(
            f"{name} names a key of {parts.scheme}://{parts.hostname}: it must not, since it is "
            "written to config.yaml; give keys in the environment"
        )
    if {".", "..", ""} & set(parts.path.strip("/").split("/")) and parts.path.strip("/"):
        raise UserError(f"{name} is {text}: its parts must be names, not empty, . or ..")
    return RemotePath(f"{parts.scheme}://{parts.netloc}", parts.path.strip("/"), parts.query)


def absolute_path(text: str, name: str = "the path") -> StoragePath:
    """:func:`storage_path` without ``~``, ``..`` and symbolic links: one folder has one path.

    Raises:
        UserError: there is no such home folder, or no path can be so.
    """
    where = storage_path(text, name)
    if not isinstance(where, Path):
        return where
    try:
        return where.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as fault:
        raise UserError(f"{name} is {text}: it is not a path ({fault})") from None


def images_path(text: str, name: str = "") -> Path:
    """The file or folder of images of a text as users type it, for the setting ``name``.

    Raises:
        UserError: it is a web address, or on an object store.
    """
    scheme, slashes, _ = text.partition("://")
    if slashes and re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]+", scheme) and scheme.lower() != "file":
        raise UserError(
            f"{f'{name} is ' * bool(name)}{text}: images are read from files of this machine; "
            "download them and name their folder"
        )
    return Path(str(storage_path(text, name or "the path")))


def cannot_write(path: StoragePath, fault: OSError) -> StorageError:
    """The error of a file that the system did not let us write."""
    reason = reason_of(fault)
    if isinstance(fault, FileExistsError):  # where its folder should be
        reason = f"{fault.filename} is no folder"
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        reason += "; free some space, then the same command continues"
    return StorageError(f"{path}: cannot be written ({reason})", reason)


def filesystem_and_path(where: StoragePath) -> tuple[Any, str]:
    """Ray's ``storage_filesystem`` (pyarrow's; None on this machine) and ``storage_path``."""
    return (None, str(where)) if isinstance(where, Path) else where.opened()


def remove_folder(where: StoragePath) -> None:
    """Remove a folder and its content, if it exists."""
    if isinstance(where, Path):
        shutil.rmtree(where, ignore_errors=True)
    elif where.is_dir():
        files, key = where.opened()
        files.delete_dir(key)


def reason_of(fault: Exception) -> str:
    """A short message of an exception of the system or of pyarrow, without its request ids."""
    if isinstance(fault, OSError) and fault.errno:
        return os.strerror(fault.errno)
    text = " ".join(str(fault).split())
    aws = re.search(
        r"AWS Error (\w+)(?: \(.*?\))? during \w+ operation: ?(.*?)\.?( \(Request ID|; Details|$)",
        text,
    )
    return ", ".join(filter(None, aws.groups()[:2])) if aws else text[:200]


def scratch_folder() -> Path:
    """This user's folder on the local disk (in TMPDIR) for copies of remote files.

    It can be deleted whenever no command runs.

    Raises:
        UserError: it belongs to another user.
    """
    folder = Path(tempfile.gettempdir()) / f"sign_ensemble-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise UserError(f"{folder}: it belongs to another user; give TMPDIR another folder")
    return folder


def local_folder_for(where: StoragePath) -> Path:
    """A local folder for what libraries write about a folder: itself, if it is local."""
    if isinstance(where, Path):
        return where.resolve()
    digest = hashlib.sha256(str(where).encode()).hexdigest()[:12]
    folder = scratch_folder() / f"{where.name}-{digest}"
    folder.mkdir(exist_ok=True)
    return folder


def _put(files: Any, key: str, content: bytes) -> None:
    with files.open_output_stream(key) as file:
        file.write(content)


@lru_cache(maxsize=8)
def _file_system(root: str, query: str) -> tuple[Any, str]:
    """The pyarrow file system and the bucket's name in it."""
    from pyarrow.fs import FileSystem

    if root.startswith("s3:") and "allow_delayed_open" not in query:  # one request per small file
        query = "&".join(filter(None, [query, "allow_delayed_open=true"]))
    return tuple(FileSystem.from_uri(f"{root}?{query}" if query else root))

"""What a user names → files to read: pictures, videos, folders, patterns, tables, object stores.

Nothing is decoded here. Pictures of an object store are known by their endings alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sign_ensemble.core.atomic_files import local_copy_of
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.names import listed
from sign_ensemble.core.printable_text import storable
from sign_ensemble.core.storage import STORES, RemotePath, StoragePath, storage_path
from sign_ensemble.core.stored_files import MISSING, files_below, mark_of
from sign_ensemble.data.file_kinds import IMAGE_SUFFIXES, KINDS
from sign_ensemble.data.picture_files import HIDDEN, named_pictures
from sign_ensemble.data.video_frames import VIDEO_SUFFIXES

TABLES = (".csv", ".parquet")
TAKEN = (
    IMAGE_SUFFIXES
    | VIDEO_SUFFIXES
    | {ending for kind in KINDS if kind.is_picture for ending in kind.endings.split()}
)
AT_ONCE = 16  # requests to a store


@dataclass
class NamedInputs:
    """The files to read, in order, and lines about what was left out."""

    files: list[StoragePath] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    marks: dict[RemotePath, tuple[int, int]] = field(default_factory=dict)  # of listed objects

    def sha256(self) -> str:
        """Of all paths, sizes and modification times, in order."""
        digest = hashlib.sha256()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(self.files), 1000):
                some = self.files[start : start + 1000]
                for path, mark in zip(some, pool.map(self._mark, some), strict=True):
                    digest.update(f"{storable(str(path))}\0{mark}\0".encode())
        return digest.hexdigest()

    def _mark(self, path: StoragePath) -> tuple[int, int]:
        known = self.marks.get(path) if isinstance(path, RemotePath) else None
        return known or mark_of(path)


def named_inputs(given: Sequence[str]) -> NamedInputs:
    """The pictures and videos named, below the folders named, or that a pattern such as
    ``photos/*`` matches, on this machine or an object store; and those of the column ``path`` of
    the tables named, relative to the table's folder.

    Raises:
        UserError: nothing is there of that name, nothing at all is an image, or a table cannot be
            read, has no such column, or is empty.
    """
    found = NamedInputs()
    for text in given:
        if is_table(text):
            _take_table(_path_of(text), found)
        elif _is_remote(text):
            _take_remote(_path_of(text), text, found)
        else:
            pictures = named_pictures([text], VIDEO_SUFFIXES)
            found.files.extend(pictures.files)
            found.left_out.extend(pictures.words())
    return found


def is_table(text: str) -> bool:
    """Whether a name is that of a table; a folder may be called so too."""
    if not text.lower().endswith(TABLES):
        return False
    path = _path_of(text)
    return isinstance(path, RemotePath) or path.is_file() or not path.exists()


def _is_remote(text: str) -> bool:
    return text.partition("://")[0].lower() in STORES


def _path_of(text: str) -> StoragePath:
    return storage_path(text, "the image")


def _take_remote(path: StoragePath, text: str, found: NamedInputs) -> None:
    assert isinstance(path, RemotePath)
    if re.search(r"[*\[]", path.path):
        matches = list(_matches(path))
        if not matches:
            raise UserError(f"{text}: no object matches")
        for match in matches:
            _take_below(match, found) if match.is_dir() else found.files.append(match)
    elif path.is_file():
        found.files.append(path)
    elif path.is_dir():
        before = len(found.files)
        _take_below(path, found)
        if len(found.files) == before:
            raise UserError(f"{text}: no image files")
    else:
        raise UserError(f"{text}: no such object or folder")


def _matches(pattern: RemotePath) -> Iterator[RemotePath]:
    parts = pattern.path.split("/")
    plain = next(i for i, part in enumerate(parts) if re.search(r"[*\[]", part))
    above = RemotePath(pattern.root, "/".join(parts[:plain]), pattern.query)
    return above.glob("/".join(parts[plain:]))


def _take_below(folder: RemotePath, found: NamedInputs) -> None:
    hidden = 0
    for each in files_below(folder):
        inside = PurePosixPath(each.path.path[len(folder.path) :].strip("/"))
        if any(part.startswith(".") for part in inside.parts):
            hidden += 1
        elif inside.suffix.lower() in TAKEN:
            found.files.append(each.path)
            found.marks[each.path] = each.mark
    if hidden:
        found.left_out.append(f"{hidden} left out, {HIDDEN}: below {folder}")


def _take_table(path: StoragePath, found: NamedInputs) -> None:
    texts = _column(path)
    if not texts:
        raise UserError(f"{path}: the table has no rows")
    for number, text in enumerate(texts, 1):
        if not text:
            raise UserError(f"{path}: row {number} has no path")
        if _is_remote(text):
            found.files.append(_path_of(text))
        elif isinstance(path, Path):
            found.files.append(path.parent / Path(text).expanduser())
        else:
            found.files.append(path.parent / text.lstrip("/"))


def _column(path: StoragePath) -> list[str | None]:
    """The column ``path`` of a table, as text."""
    try:
        if mark_of(path) == MISSING:
            raise UserError(f"{path}: no such table")
        with local_copy_of(path) as file:
            if path.name.lower().endswith(".parquet"):
                names = pa.parquet.read_schema(file).names
                wanted = ["path"] if "path" in names else []
                table = pa.parquet.read_table(file, columns=wanted, partitioning=None)
            else:
                as_text = pa.csv.ConvertOptions(column_types={"path": pa.string()})
                table = pa.csv.read_csv(file, convert_options=as_text)
                names = table.column_names
        if "path" not in names:
            raise UserError(f"{path}: the table lacks the column path and has {listed(names)}")
        return table.column("path").cast(pa.string()).to_pylist()
    except (OSError, pa.ArrowException, KeyError) as fault:
        reason = " ".join(str(fault).split())
        raise UserError(f"{path}: the table cannot be read ({reason})") from fault

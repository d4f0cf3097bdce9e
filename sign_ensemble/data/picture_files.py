"""Picture files below folders: the one walk of every command, and what it leaves out.

A file is a picture by its ending or by its first bytes. What people take for a picture, as HEIC, is
taken too, and set aside with the remedy where it cannot be read.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import images_path, reason_of
from sign_ensemble.data.file_kinds import HEAD, IMAGE_SUFFIXES, is_read, kind_of

# Folders that systems and programs make, with copies of pictures in them.
SYSTEM_FOLDERS = {
    "__MACOSX", "__pycache__", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information",
    "lost+found",
}  # fmt: skip
HIDDEN, OF_A_SYSTEM, NO_PICTURE = "hidden", "a system's or program's folder", "no picture"
READ_ANYWAY = "a link to a folder that is read anyway"
NAMED = 3  # paths of each reason that are printed


@dataclass(frozen=True)
class PictureFiles:
    """Picture files that were found, and what was left out."""

    files: list[Path] = field(default_factory=list)
    left_out: dict[str, set[Path]] = field(default_factory=dict)  # by the reason
    more_endings: frozenset[str] = frozenset()  # of files that are taken besides pictures

    def leave_out(self, path: Path, reason: str) -> None:
        """Note a path that is not taken."""
        self.left_out.setdefault(reason, set()).add(path)

    def words(self) -> list[str]:
        """A line for each reason: how many, and the first of them."""
        return [
            f"{len(paths)} left out, {reason}: {', '.join(map(str, sorted(paths)[:NAMED]))}"
            + f" and {len(paths) - NAMED} more" * (len(paths) > NAMED)
            for reason, paths in self.left_out.items()
        ]


def named_pictures(
    given: Sequence[str], more_endings: frozenset[str] = frozenset()
) -> PictureFiles:
    """The files named, and the picture files below the folders named, or that a pattern such as
    ``photos/*`` matches; files with other endings too, if they are given.

    Raises:
        UserError: nothing is there of that name, or nothing at all is a picture.
    """
    found = PictureFiles(more_endings=more_endings)
    for text in given:
        path = images_path(text)
        if path.is_dir():
            _walk(path, found)
        elif os.path.lexists(path):
            found.files.append(path)
        elif matches := sorted(map(Path, glob.glob(str(path), recursive=True))):
            _take_matches(matches, found)
        else:
            raise UserError(f"{text}: no such file or folder")
    if not found.files:
        raise UserError("; ".join([f"{', '.join(given)}: no image files", *found.words()]))
    return found


def pictures_below(root: Path) -> PictureFiles:
    """The picture files below a folder, sorted by their paths.

    Links to folders are followed once, and not at all where the folder lies below ``root``.
    """
    found = PictureFiles()
    _walk(root, found)
    return found


def _take_matches(matches: Sequence[Path], found: PictureFiles) -> None:
    """Take what a pattern matches, each file once."""
    every = PictureFiles(left_out=found.left_out, more_endings=found.more_endings)
    for path in matches:
        if path.is_dir():
            _walk(path, every)
        elif reason := _why_not(path, found.more_endings):
            every.leave_out(path, reason)
        else:
            every.files.append(path)
    found.files.extend(dict.fromkeys(every.files))


def _walk(root: Path, found: PictureFiles) -> None:
    """Add the picture files below a folder."""
    inside, seen = Path(os.path.realpath(root)), {_identity(root)}
    files: list[Path] = []

    def is_entered(folder: Path) -> bool:
        if folder.name.startswith("."):
            found.leave_out(folder, HIDDEN)
        elif folder.name in SYSTEM_FOLDERS:
            found.leave_out(folder, OF_A_SYSTEM)
        elif _identity(folder) in seen or (
            folder.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(inside)
        ):
            found.leave_out(folder, READ_ANYWAY)
        else:
            seen.add(_identity(folder))
            return True
        return False

    def note(fault: OSError) -> None:
        found.leave_out(Path(fault.filename), f"cannot be read ({reason_of(fault)})")

    for name, folders, names in os.walk(root, onerror=note, followlinks=True):
        here = Path(name)
        folders[:] = [folder for folder in sorted(folders) if is_entered(here / folder)]
        for file in names:
            if reason := _why_not(here / file, found.more_endings):
                found.leave_out(here / file, reason)
            else:
                files.append(here / file)
    found.files.extend(sorted(files, key=lambda file: file.relative_to(root).as_posix()))


def _why_not(file: Path, more_endings: frozenset[str]) -> str:
    """Why a file is not taken; empty if it is."""
    if file.name.startswith("."):
        return HIDDEN
    if file.suffix.lower() in IMAGE_SUFFIXES | more_endings:
        return ""
    try:
        head = read_head(file)
    except OSError as fault:
        return f"cannot be read ({reason_of(fault)})"
    kind = kind_of(head, file.name)
    if is_read(head) or (kind and kind.is_picture):
        return ""
    return kind.words if kind else NO_PICTURE


def read_head(file: Path) -> bytes:
    """The first bytes of a file; none of what is no regular file: a pipe would block.

    Raises:
        OSError: it is gone or not permitted.
    """
    if not stat.S_ISREG(os.stat(file).st_mode):
        return b""
    with file.open("rb") as opened:
        return opened.read(HEAD)


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino

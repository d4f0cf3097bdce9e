"""Image files of a folder with a path pattern, or of a table → rows, before any file is read.

Errors of the user about folders, patterns and tables are refused here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.printable_text import storable
from sign_ensemble.core.storage import images_path
from sign_ensemble.data.file_kinds import kind_of
from sign_ensemble.data.picture_files import pictures_below, read_head

PRESETS: dict[str, str] = {
    # <label>/hand<signer>_<label>_<light>_seg_<n>_cropped.jpeg
    "massey": r"(?:.*/)?(?P<label>[^/]+)/hand(?P<signer>\d+)_[^/]*",
    # <signer>/<label>/color_<n>_<n>.png; the depth images next to them do not match
    "surrey": r"(?:.*/)?(?P<signer>[^/]+)/(?P<label>[^/]+)/color_[^/]*\.png",
    # Person<signer>-<label>-<part>-<frame>.jpg
    "isl-hs": r"(?:.*/)?Person(?P<signer>\d+)-(?P<label>[^-/]+)-\d+-\d+\.jpe?g",
    "signer-label": r"(?P<signer>[^/]+)/(?P<label>[^/]+)/[^/]+",
    "label": r"(?P<label>[^/]+)/[^/]+",
}

NEEDS_SIGNERS = (
    "evaluation on held-out people needs a signer for every image; --data.signers none accepts "
    "random folds, whose figures say nothing about new people"
)


@dataclass(frozen=True)
class Row:
    """One image: what its path tells and, once read, what its file holds."""

    # relative to the root with forward slashes; absolute for extra signers, and where a table gives
    # it so
    path: str
    label: str = ""  # the sign shown
    signer: str = ""  # who signs; "" if unknown
    split: str = ""  # train, extra, test, near, unused or set-aside; "" until decided
    reason: str = ""  # why the image is set aside or unused; "" if it is used
    width: int = 0  # pixels, upright; 0 if set aside before it was decoded
    height: int = 0  # pixels, upright; 0 likewise
    sha256: str = ""  # hex digest of the file's bytes; "" if unread
    bytes: int = 0  # size of the file
    mtime_ns: int = 0  # modification time in nanoseconds


@dataclass(frozen=True)
class Sources:
    """Rows sorted by path, the folder they are relative to, and lines about what was left out."""

    rows: list[Row]
    root: Path
    left_out: tuple[str, ...] = ()


def find(data: DataConfig) -> Sources:
    """Rows of ``data.table`` or, without one, of the files below ``data.root``.

    Raises:
        UserError: root, pattern or table is missing, unreadable or gives no labelled image.
    """
    if data.table is not None:
        return _find_in_table(data, images_path(data.table, "data.table"))
    if data.root is None:
        raise UserError("data.root is not set: it must be the folder that holds the images")
    return _find_in_folder(data, _existing_folder(data.root))


def find_extra(data: DataConfig) -> Sources:
    """Rows of the extra signers' images, with absolute paths; none if data.extra_signers is unset.

    Raises:
        UserError: the folder is missing or holds no image in the layout it must have.
    """
    if data.extra_signers is None:
        return Sources([], Path())
    root = _existing_folder(data.extra_signers, "data.extra_signers")
    layout = DataConfig(root=data.extra_signers)
    try:
        found = _find_in_folder(layout, root)
    except UserError:
        raise UserError(
            f"data.extra_signers is {data.extra_signers}: it holds no image <signer>/<label>/<file>"
        ) from None
    rows = [replace(row, path=(root / row.path).as_posix()) for row in found.rows]
    return replace(found, rows=rows)


def _existing_folder(given: str, setting: str = "data.root") -> Path:
    root = Path(os.path.abspath(images_path(given, setting)))
    if not root.exists():
        raise UserError(f"{setting} is {given}: there is no such folder")
    if not root.is_dir():
        kind = kind_of(read_head(root), root.name)
        a_file = f"a file ({kind.words})" if kind else "a file"
        raise UserError(f"{setting} is {given}: it must be a folder, and it is {a_file}")
    return root


def _find_in_folder(data: DataConfig, root: Path) -> Sources:
    setting, pattern = _pattern(data)
    rows, found, example = [], pictures_below(root), ""
    left_out = tuple(map(storable, found.words()))
    for path in (file.relative_to(root).as_posix() for file in found.files):
        match = pattern.fullmatch(path)
        rows.append(_row_of_match(path, match, data))
        if match is None:
            example = example or path
    if not any(row.label for row in rows):
        if not example:
            raise UserError("; ".join([f"data.root is {data.root}: it holds no image", *left_out]))
        raise UserError(
            f"{setting} matches no file below {data.root}: {pattern.pattern} must match a whole "
            f"path such as {example}"
        )
    return Sources(rows, root, left_out)


def _pattern(data: DataConfig) -> tuple[str, re.Pattern[str]]:
    """Name of the setting in use, and its pattern."""
    if data.pattern is None:
        setting, text = f"data.preset {data.preset}", PRESETS[data.preset]
    else:
        setting, text = "data.pattern", data.pattern
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f"{setting} is {text}: not a regular expression ({error})") from error
    if "label" not in pattern.groupindex:
        raise UserError(f"{setting} is {text}: it must have a group (?P<label>...)")
    if data.signers == "known" and "signer" not in pattern.groupindex:
        raise UserError(f"{setting} is {text}: it has no group (?P<signer>...); {NEEDS_SIGNERS}")
    return setting, pattern


def _row_of_match(path: str, match: re.Match[str] | None, data: DataConfig) -> Row:
    if match is None:
        return Row(storable(path), reason="does not match the pattern")
    named = match.groupdict()
    label = named["label"] or ""
    signer = (named.get("signer") or "") if data.signers == "known" else ""
    if storable(path) != path:
        return Row(storable(path), reason="the file's name is not UTF-8")
    return Row(path, label, signer, reason="" if label else "the pattern gives no label")


def _find_in_table(data: DataConfig, table_path: Path) -> Sources:
    if data.root is None:
        root = Path(os.path.abspath(table_path.parent))
    else:
        root = _existing_folder(data.root)
    wanted = ["path", "label"] + (["signer"] if data.signers == "known" else [])
    columns = _read_columns(data, table_path, wanted)
    if not columns["path"]:
        raise UserError(f"data.table is {data.table}: it has no rows")
    signers = columns.get("signer", [""] * len(columns["path"]))
    rows = []
    for number, path in enumerate(columns["path"]):
        if not path:
            raise UserError(f"data.table is {data.table}: row {number + 1} has no path")
        label = columns["label"][number]
        reason = "" if label else "the table gives no label"
        given = Path(path)
        shown = given.relative_to(root) if given.is_relative_to(root) else given
        rows.append(Row(shown.as_posix(), label, signers[number], reason=reason))
    rows.sort(key=lambda row: (row.path, row.label, row.signer))
    return Sources(rows, root)


def _read_columns(data: DataConfig, path: Path, wanted: list[str]) -> dict[str, list[str]]:
    """The wanted columns as text, "" for an empty cell."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"data.table is {data.table}: it must end in .csv or .parquet")
    try:
        if suffix == ".csv":  # typed as text, or label 01 would become 1
            as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(wanted, pa.string()))
            table = pa.csv.read_csv(path, convert_options=as_text)
        else:
            table = pa.parquet.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"data.table is {data.table}: it cannot be read ({reason})") from error
    for name in wanted:
        if name not in table.column_names:
            raise UserError(
                f"data.table is {data.table}: it lacks the column {name} and has "
                f"{', '.join(table.column_names)}" + (f"; {NEEDS_SIGNERS}" * (name == "signer"))
            )
    try:
        texts = {name: table.column(name).cast(pa.string()).to_pylist() for name in wanted}
    except (pa.ArrowException, KeyError) as error:
        raise UserError(
            f"data.table is {data.table}: path, label and signer must be columns of text"
        ) from error
    return {name: [text or "" for text in column] for name, column in texts.items()}

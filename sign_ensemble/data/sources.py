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
from sign_ensemble.core.names import Name, listed
from sign_ensemble.core.printable_text import storable
from sign_ensemble.core.storage import images_path
from sign_ensemble.data.file_kinds import kind_of
from sign_ensemble.data.layouts import PRESETS, fitting_settings, is_part_of_surrey
from sign_ensemble.data.picture_files import NO_PICTURE, pictures_below, read_head

TABLES = (".csv", ".parquet")
PIXEL = re.compile(r"(pixel|px|p)?[ _-]*\d+([x_]\d+)?", re.IGNORECASE)  # the name of a column
LEAST_PIXELS = 64
NEEDS_SIGNERS = (
    "evaluation on held-out people needs a signer for every image; --data.signers none accepts "
    "images without, whose figures say nothing about new people"
)


@dataclass(frozen=True)
class Row:
    """One image: what its path tells and, once read, what its file holds."""

    # relative to the root with forward slashes; absolute for extra signers, and where a table gives
    # it so
    path: str
    label: str = ""  # the sign shown
    signer: str = ""  # who signs; "" if unknown
    split: str = ""  # train, extra, test, near, far, unused or set-aside; "" until decided
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
            f"data.extra_signers is {data.extra_signers}: its images must be "
            "<signer>/<label>/<file>"
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
        a_table = " (a table is given by --data.table)" * (root.suffix.lower() in TABLES)
        raise UserError(f"{setting} is {given}: it must be a folder, and it is {a_file}{a_table}")
    return root


def _find_in_folder(data: DataConfig, root: Path) -> Sources:
    setting, pattern = _pattern(data)
    rows, found, images = [], pictures_below(root), []
    left_out = tuple(map(storable, found.words()))
    for path in (file.relative_to(root).as_posix() for file in found.files):
        rows.append(_row_of_match(path, pattern.fullmatch(path), data))
        images.append(storable(path))
    if not images:
        others = found.left_out.get(NO_PICTURE, set())
        tables = sorted(path for path in map(str, others) if path.lower().endswith(TABLES))
        a_table = [f"{tables[0]} is read by --data.table"] if tables else []
        no_image = f"data.root is {data.root}: it holds no image"
        raise UserError("; ".join([no_image, *left_out, *a_table]))
    _check_layout(data, setting, pattern.pattern, rows, images)
    return Sources(rows, root, left_out)


def _check_layout(
    data: DataConfig, setting: str, pattern: str, rows: list[Row], images: list[str]
) -> None:
    """Refuse a layout that fits no image, and a preset that fits few or takes depths for signs."""
    fitting = sum(bool(row.label) for row in rows)
    default = data.pattern is None and data.preset in ("signer-label", "label")
    if default and is_part_of_surrey(images):
        raise UserError(
            f"{setting} would take the depth images below {data.root} for pictures of signs: say "
            "--data.preset surrey"
        )
    if fitting and not (default and 2 * fitting < len(images)):
        return
    missed = next(row.path for row in rows if not row.label)
    fits, without = fitting_settings(str(data.root), images), " without data.pattern"
    remedy = f"what fits{without * (data.pattern is not None)} is {fits}"
    if not fits:
        remedy = "sort the images into folders <signer>/<label>/, or name them in a --data.table"
    raise UserError(
        f"{setting} matches {f'{fitting} of {len(images)} files' if fitting else 'no file'} below "
        f"{data.root}: {pattern} must match a whole path such as {missed}; {remedy}"
    )


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
    named = {group: str(Name(name or "")) for group, name in match.groupdict().items()}
    label = named["label"]
    signer = named.get("signer", "") if data.signers == "known" else ""
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
    if suffix not in TABLES:
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
            pixels = [column for column in table.column_names if PIXEL.fullmatch(column)]
            if len(pixels) >= LEAST_PIXELS:
                raise UserError(
                    f"data.table is {data.table}: it holds pixels in {len(pixels)} columns, "
                    f"{pixels[0]} to {pixels[-1]}, and not the paths of images; write each row as "
                    'an image, see "Pixels in a table" in docs/data.md'
                )
            raise UserError(
                f"data.table is {data.table}: it lacks the column {name} and has "
                f"{listed(table.column_names)}" + (f"; {NEEDS_SIGNERS}" * (name == "signer"))
            )
    try:
        texts = {name: table.column(name).cast(pa.string()).to_pylist() for name in wanted}
    except (pa.ArrowException, KeyError) as error:
        raise UserError(
            f"data.table is {data.table}: path, label and signer must be columns of text"
        ) from error
    return {
        name: [(text or "") if name == "path" else str(Name(text or "")) for text in column]
        for name, column in texts.items()
    }

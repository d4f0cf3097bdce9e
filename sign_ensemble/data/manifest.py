"""A folder or table → one row per image, with its split, in one Parquet file.

Every image is read and decoded once; what cannot be used is set aside with its reason.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import atomic_write, local_copy_of
from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.names import differing_by_case, listed
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.images import SetAside, decode_rgb, read_file
from sign_ensemble.data.near_twins import SIDE, near_twins, thumbnail_of
from sign_ensemble.data.sources import Row, find, find_extra
from sign_ensemble.data.splits import SPLITS, Split, assign, assign_extra, without_duplicates

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("signer", pa.string()),
        ("split", pa.string()),
        ("reason", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
_IN_USE: tuple[Split, ...] = ("train", "extra", "test", "near", "far")
_METADATA_KEY = b"sign_ensemble.manifest"


@dataclass(frozen=True)
class Manifest:
    """All images of a data set."""

    # one row per image with the columns of ``SCHEMA``, see ``sign_ensemble.data.sources.Row``;
    # sorted by path, extra signers last
    table: pa.Table
    root: Path  # absolute folder that relative paths start from
    left_out: tuple[str, ...] = ()  # lines about files and folders that are not listed
    near_twins: int | None = None  # test images with a near twin in training; None: not compared

    def rows(self, *splits: Split) -> pa.Table:
        """Rows of one or more splits, in the table's order."""
        return self.table.filter(pc.is_in(self.table["split"], pa.array(splits, pa.string())))

    @property
    def labels(self) -> list[str]:
        """Learned labels, sorted."""
        return sorted(set(self.rows("train")["label"].to_pylist()))

    def signers(self, *splits: Split) -> list[str]:
        """Signers of one or more splits, sorted."""
        return sorted(set(self.rows(*splits)["signer"].to_pylist()))

    def counts(self) -> dict[str, int]:
        """Images of each split, zeros included, in the order of :data:`SPLITS`."""
        found = Counter(self.table["split"].to_pylist())
        return {split: found[split] for split in SPLITS}

    @cached_property
    def sha256(self) -> str:
        """Hex digest of path, label, signer, split and sha256 of the rows in use (train, extra,
        test, near, far).
        """
        columns = self.rows(*_IN_USE).select(["path", "label", "signer", "split", "sha256"])
        lines = sorted(json.dumps(list(row.values())) for row in columns.to_pylist())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def build(data: DataConfig, progress: Callable[[int, int], None] | None = None) -> Manifest:
    """Find, read, check and split all images.

    ``progress`` is called with (images read, all images) from the calling thread.

    Raises:
        UserError: the settings do not fit each other or the files; before any image is read if
            file names are enough to tell.
    """
    sources, extra = find(data), find_extra(data)
    assign_extra(extra.rows, assign(sources.rows, data), data)

    rows: list[Row] = []
    thumbnails: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read_one = partial(_read_image, root=sources.root, data=data)
        for row, thumbnail in pool.map(read_one, [*sources.rows, *extra.rows]):
            rows.append(row)
            thumbnails.append(thumbnail)
            if progress is not None:
                progress(len(rows), len(sources.rows) + len(extra.rows))
    rows, own = without_duplicates(rows), len(sources.rows)
    learned = assign(rows[:own], data)
    rows = learned + assign_extra(rows[own:], learned, data)
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    labels, splits = [row.label for row in rows], [row.split for row in rows]
    twins = near_twins(np.stack(thumbnails), labels, splits)
    return Manifest(table, sources.root, sources.left_out + extra.left_out, twins)


def twins_in_words(manifest: Manifest) -> list[str]:
    """A sentence on near twins; none where they were not compared, or signers are known and no test
    image has one.
    """
    found, test = manifest.near_twins, manifest.counts()["test"]
    if found is None or not (found or manifest.signers("test") == [""]):
        return []
    words = f"{found} of {test} test images ({found / test:.0%}) have a near twin in training"
    if not found:
        return [words]
    return [f"{words}, nearly the same picture: on these the figures show memory, not skill"]


def gaps(manifest: Manifest) -> list[str]:
    """Sentences on labels and signers: which labels are in no use and why, which names differ only
    by capital letters, and which learned labels a train or test signer does not show.
    """
    return [*_dropped(manifest), *_spellings(manifest), *_not_shown(manifest)]


def _dropped(manifest: Manifest) -> list[str]:
    """A sentence for each reason for which labels are in no use."""
    used = set(manifest.rows(*_IN_USE)["label"].to_pylist())
    columns = manifest.table.select(["label", "split", "reason"]).to_pydict()
    labels: dict[str, list[str]] = defaultdict(list)  # of each reason, a label per image
    for label, split, reason in zip(*columns.values(), strict=True):
        if label and label not in used:
            labels["set aside" if split == "set-aside" else reason].append(label)
    return [
        f"not used, {len(of)} images labelled {listed(set(of))}: {reason}"
        for reason, of in sorted(labels.items())
    ]


def _spellings(manifest: Manifest) -> list[str]:
    """A sentence for each group of labels or signers whose names differ only by capital letters."""
    return [
        f"{column}s {' and '.join(names)} differ only by capital letters and are taken for several"
        for column in ("label", "signer")
        for names in differing_by_case(set(manifest.table[column].to_pylist()))
    ]


def _not_shown(manifest: Manifest) -> list[str]:
    shown: dict[str, set[str]] = defaultdict(set)
    rows = manifest.rows("train", "test")
    for signer, label in zip(rows["signer"].to_pylist(), rows["label"].to_pylist(), strict=True):
        shown[signer].add(label)
    labels = manifest.labels
    return [
        f"signer {signer} has no image of: {listed(missing)}"
        for signer in sorted(shown)
        if signer and (missing := [label for label in labels if label not in shown[signer]])
    ]


def changed(manifest: Manifest) -> list[str]:
    """Paths of images in use that are gone or whose bytes have changed.

    A file of the recorded size and modification time is taken as unchanged and not read.
    """
    rows = manifest.rows(*_IN_USE).select(["path", "sha256", "bytes", "mtime_ns"])
    return [
        path
        for path, sha256, size, mtime_ns in zip(*rows.to_pydict().values(), strict=True)
        if _has_changed(manifest.root / path, sha256, size, mtime_ns)
    ]


def write(manifest: Manifest, path: StoragePath) -> None:
    """Write the Parquet file atomically."""
    about = json.dumps(
        {
            "root": str(manifest.root),
            "left_out": manifest.left_out,
            "near_twins": manifest.near_twins,
        }
    )
    table = manifest.table.replace_schema_metadata({_METADATA_KEY: about.encode()})
    with atomic_write(path) as temporary:
        pa.parquet.write_table(table, temporary)


def read(path: StoragePath) -> Manifest:
    """Read what :func:`write` wrote.

    Raises:
        UserError: the file is missing, unreadable or no manifest.
    """
    try:
        with local_copy_of(path) as file:
            table = pa.parquet.read_table(file, partitioning=None)
        about = json.loads((table.schema.metadata or {})[_METADATA_KEY])
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a manifest: {reason}") from error
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is not a manifest: it was not written by this package") from error
    if not table.schema.equals(SCHEMA):
        raise UserError(f"{path} is not a manifest of this version: its columns differ")
    table = table.replace_schema_metadata(None)
    left_out = tuple(about.get("left_out", ()))
    return Manifest(table, Path(about["root"]), left_out, about.get("near_twins"))


def _read_image(row: Row, root: Path, data: DataConfig) -> tuple[Row, NDArray[np.uint8]]:
    """The row with its file's properties and the picture's thumbnail, or with the reason why it
    cannot be used and zeros.
    """
    nothing = np.zeros(SIDE**2, np.uint8)
    if row.reason:
        return row, nothing
    limits = {"max_pixels": data.max_pixels, "min_side": data.min_side}
    try:
        content, mtime_ns = read_file(root / row.path)
        sha256 = hashlib.sha256(content).hexdigest()
        row = replace(row, sha256=sha256, bytes=len(content), mtime_ns=mtime_ns)
        rgb_HW3, (width, height) = decode_rgb(
            content, square=(SIDE, "squash"), name=row.path, **limits
        )
    except SetAside as why:
        return replace(row, reason=str(why)), nothing
    return replace(row, width=width, height=height), thumbnail_of(rgb_HW3)


def _has_changed(file: Path, sha256: str, size: int, mtime_ns: int) -> bool:
    try:
        status = file.stat()
        if (status.st_size, status.st_mtime_ns) == (size, mtime_ns):
            return False
        if status.st_size != size:
            return True
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() != sha256
    except OSError:
        return True

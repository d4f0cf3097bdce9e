"""Tables of predictions as CSV, Parquet or JSON lines, by the file's ending; never all rows in
memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.serving.prediction_rows import SCHEMA

GROUP = 16_384  # rows of a Parquet file's row group

Tables = Iterable[pa.Table]


def write_csv(tables: Tables, file: Path) -> None:
    """As CSV with a header; null is an empty field."""
    with pa_csv.CSVWriter(file, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)


def write_parquet(tables: Tables, file: Path) -> None:
    """As Parquet, in row groups of GROUP."""
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for table in in_groups(tables):
            writer.write_table(table)


def write_json_lines(tables: Tables, file: Path) -> None:
    """As an object per line, UTF-8."""
    with file.open("w", encoding="utf-8") as opened:
        for table in tables:
            for row in table.to_pylist():
                opened.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


WRITERS: dict[str, Callable[[Tables, Path], None]] = {
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".jsonl": write_json_lines,
}


def in_groups(tables: Tables) -> Iterator[pa.Table]:
    """The same rows in tables of at least GROUP rows, and the rest."""
    some: list[pa.Table] = []
    for table in tables:
        some.append(table)
        if sum(map(len, some)) >= GROUP:
            yield pa.concat_tables(some)
            some = []
    if some:
        yield pa.concat_tables(some)


def write_tables(tables: Tables, out: StoragePath) -> None:
    """Write one table after the other into a file, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    ending = next(each for each in WRITERS if out.name.lower().endswith(each))
    with atomic_write(out) as temporary:
        WRITERS[ending](tables, temporary)

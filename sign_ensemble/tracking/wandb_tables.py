"""The evaluation's tables and plots as W&B takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from sign_ensemble.core.atomic_files import local_copy_of
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.rejection import answers_table

if TYPE_CHECKING:
    from wandb import Table

SET_COLUMNS = ("name", "kind", "n", "auroc", "fpr95", "accepted", "overconfident")
MAX_ROWS = 10_000  # W&B shows no more of a table
ANSWERS = tuple(name for name in answers_table.SCHEMA.names if name not in ("gallery", "picture"))


def tables(run: RunFolder, metrics: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Tables of the sets, of every image's answer, of the galleries with pictures, of trials.

    ``folder`` takes the pictures' files, until the tables are logged.
    """
    import wandb

    found = {"sets": table_of(SET_COLUMNS, set_rows(metrics.get("sets", {})))}
    if run.answers.is_file():
        answers = answers_table.read(run.answers).to_pylist()
        data = [[row[name] for name in ANSWERS] for row in answers[:MAX_ROWS]]
        found["answers"] = table_of(ANSWERS, data)
        shown = []
        for i, row in enumerate(row for row in answers if row["gallery"]):
            picture = folder / f"picture-{i}.jpg"
            picture.write_bytes(row["picture"])
            cells = [row[name] for name in ANSWERS]
            shown.append([row["gallery"], wandb.Image(str(picture)), *cells])
        found["gallery"] = table_of(["gallery", "picture", *ANSWERS], shown)
    if run.trials_table.is_file():
        with local_copy_of(run.trials_table) as file:
            trials = pq.read_table(file, partitioning=None)
        rows = [list(row.values()) for row in trials.to_pylist()]
        found["trials"] = table_of(trials.column_names, rows)
    return found


def set_rows(sets: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """One row per set of the evaluation, in SET_COLUMNS, without intervals."""
    rows = []
    for name, figures in sets.items():
        cells = [figures.get(column) for column in SET_COLUMNS[1:]]
        rows.append([name, *(c.get("value") if isinstance(c, dict) else c for c in cells)])
    return rows


def table_of(columns: Sequence[str], rows: list[list[Any]]) -> Table:
    """A table whose columns hold values of one type each, or null.

    Only each column's first value is given to wandb for the types: given all rows, it infers the
    types of every row anew.
    """
    import wandb

    first = [
        next((cell for cell in column if not is_null(cell)), None)
        for column in zip(*rows, strict=True)
    ]
    made = wandb.Table(columns=list(columns), data=[first] if rows else [])
    made.data = rows
    return made


def is_null(value: Any) -> bool:
    """Whether wandb takes a cell for an empty one."""
    return value is None or (isinstance(value, float) and isnan(value))


def plots(run: RunFolder, metrics: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The report's plots as images, and the risk-coverage curve as a plot of W&B's own.

    ``folder`` takes copies of plots on an object store, until they are logged.
    """
    import wandb

    found: dict[str, Any] = {}
    files: list[StoragePath] = sorted(run.figures.glob("*.png"), key=str)
    for file in files:
        path = file if isinstance(file, Path) else folder / file.name
        if path != file:
            path.write_bytes(file.read_bytes())
        found[f"plots/{path.stem}"] = wandb.Image(str(path))
    if curves := metrics.get("details", {}).get("curve"):
        names = ("ensemble", "single")
        found["risk_coverage"] = wandb.plot.line_series(
            xs=[curves[name]["coverage"] for name in names],
            ys=[curves[name]["risk"] for name in names],
            keys=["this ensemble", "single model"],
            title="Selective risk against coverage",
            xname="coverage",
        )
    return found

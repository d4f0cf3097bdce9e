"""The evaluation's tables and plots as W&B takes them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from sign_ensemble.logged import TABLE, set_rows
from sign_ensemble.report import answered
from sign_ensemble.run import RunFolder, at_hand
from sign_ensemble.storage import Place

MOST_ROWS = 10_000  # W&B shows no more of a table
ANSWERS = tuple(name for name in answered.SCHEMA.names if name not in ("gallery", "picture"))


def tables(run: RunFolder, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of the sets, of every image's answer, of the galleries with pictures, of trials."""
    import wandb

    rows = set_rows(metrics.get("sets", {}))
    found = {"sets": wandb.Table(columns=list(TABLE), data=rows)}
    if run.answers.is_file():
        answers = answered.read(run.answers).to_pylist()
        data = [[row[name] for name in ANSWERS] for row in answers[:MOST_ROWS]]
        found["answers"] = wandb.Table(columns=list(ANSWERS), data=data)
        shown = [
            [row["gallery"], picture(row["picture"]), *[row[name] for name in ANSWERS]]
            for row in answers
            if row["gallery"]
        ]
        found["gallery"] = wandb.Table(columns=["gallery", "picture", *ANSWERS], data=shown)
    if run.trials_table.is_file():
        with at_hand(run.trials_table) as file:
            trials = pq.read_table(file, partitioning=None)
        data = [list(row.values()) for row in trials.to_pylist()]
        found["trials"] = wandb.Table(columns=trials.column_names, data=data)
    return found


def picture(jpeg: bytes) -> Any:
    """A picture of a gallery."""
    import wandb

    return wandb.Image(Image.open(io.BytesIO(jpeg)))


def plots(run: RunFolder, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The report's plots as pictures, and risk against coverage as a plot of W&B's own."""
    import wandb

    found: dict[str, Any] = {}
    files: list[Place] = sorted(run.figures.glob("*.png"), key=str)
    for file in files:
        with at_hand(file) as path, Image.open(path) as image:  # whole: it may be a copy that goes
            found[f"plots/{path.stem}"] = wandb.Image(image.convert("RGB"))
    curves = metrics.get("details", {}).get("curve")
    if curves:
        names = ("ensemble", "single")
        found["risk_coverage"] = wandb.plot.line_series(
            xs=[curves[name]["coverage"] for name in names],
            ys=[curves[name]["risk"] for name in names],
            keys=["this ensemble", "one model"],
            title="Risk against coverage",
            xname="coverage",
        )
    return found

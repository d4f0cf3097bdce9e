"""Records as W&B takes them: names, flat figures, rows; knows nothing of wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sign_ensemble.search.records import TrialRecord

TABLE = ("name", "kind", "n", "auroc", "fpr95", "accepted", "overconfident")

LOGGED = ("nll", "augrc", "accuracy", "ece")  # figures of a fold, and their means


def described(params: Mapping[str, Any]) -> str:
    """Hyperparameters as one glance: ``dropout .41 lr 2e-4 1024-256``."""
    parts = []
    if "dropout" in params:
        parts.append(f"dropout {params['dropout']:.2f}".replace(" 0.", " ."))
    if "learning_rate" in params:
        parts.append(f"lr {params['learning_rate']:.0e}".replace("e-0", "e-"))
    widths = params.get("widths") or [params[key] for key in ("h1", "h2") if key in params]
    return " ".join([*parts, "-".join(str(width) for width in widths)]).strip()


def flat(metrics: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested figures under dotted names.

    A figure with an interval, ``{"known": {"accuracy": {"value": v, "low": l, "high": h}}}``,
    becomes ``known.accuracy``, ``known.accuracy.low`` and ``known.accuracy.high``; numbers, words
    and truths keep their value; lists and nulls are left out.
    """
    figures: dict[str, Any] = {}
    for name, value in metrics.items():
        key = above + name
        if isinstance(value, dict) and "value" in value:
            ends = {f"{key}.{end}": value.get(end) for end in ("low", "high")}
            figures |= {k: v for k, v in {key: value["value"], **ends}.items() if v is not None}
        elif isinstance(value, dict):
            figures |= flat(value, f"{key}.")
        elif isinstance(value, bool | int | float | str):
            figures[key] = value
    return figures


def set_rows(sets: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """A row per set of the evaluation, in the columns of TABLE, without intervals."""
    rows = []
    for name, figures in sets.items():
        cells = [figures.get(column) for column in TABLE[1:]]
        rows.append([name, *(c.get("value") if isinstance(c, dict) else c for c in cells)])
    return rows


def trial_figures(record: TrialRecord) -> dict[str, Any]:
    """A trial's summary; a trial without a single fold has no figures but its status."""
    figures: dict[str, Any] = {
        "status": record.status,
        "seconds": sum(fold["seconds"] for fold in record.folds),
    }
    if record.folds:
        figures |= {name: record.mean(name) for name in LOGGED}
        figures["worst_accuracy"] = min(fold["accuracy"] for fold in record.folds)
    if record.error:
        figures["error"] = record.error
    return figures

"""Records as W&B takes them: names, flat figures, rows; imports no wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sign_ensemble.search.records import TrialRecord

SET_COLUMNS = ("name", "kind", "n", "auroc", "fpr95", "accepted", "overconfident")
FOLD_FIGURES = ("nll", "augrc", "accuracy", "ece")  # logged of each fold, and their means


def described(params: Mapping[str, Any]) -> str:
    """Hyperparameters in one line: ``dropout .41 lr 2e-4 1024-256``."""
    parts = []
    if "dropout" in params:
        parts.append(f"dropout {params['dropout']:.2f}".replace(" 0.", " ."))
    if "learning_rate" in params:
        parts.append(f"lr {params['learning_rate']:.0e}".replace("e-0", "e-"))
    widths = params.get("widths") or [params[key] for key in ("h1", "h2") if key in params]
    return " ".join([*parts, "-".join(str(width) for width in widths)]).strip()


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures under dotted names.

    A figure with an interval, ``{"known": {"accuracy": {"value": v, "low": l, "high": h}}}``,
    becomes ``known.accuracy``, ``known.accuracy.low`` and ``known.accuracy.high``; numbers, strings
    and booleans keep their value; lists and nulls are left out.
    """
    figures: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        if isinstance(value, dict) and "value" in value:
            ends = {f"{key}.{end}": value.get(end) for end in ("low", "high")}
            figures |= {k: v for k, v in {key: value["value"], **ends}.items() if v is not None}
        elif isinstance(value, dict):
            figures |= flat(value, f"{key}.")
        elif isinstance(value, bool | int | float | str):
            figures[key] = value
    return figures


def set_rows(sets: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """One row per set of the evaluation, in SET_COLUMNS, without intervals."""
    rows = []
    for name, figures in sets.items():
        cells = [figures.get(column) for column in SET_COLUMNS[1:]]
        rows.append([name, *(c.get("value") if isinstance(c, dict) else c for c in cells)])
    return rows


def trial_figures(record: TrialRecord) -> dict[str, Any]:
    """A trial's summary; without a single fold it holds only status, seconds and error."""
    figures: dict[str, Any] = {
        "status": record.status,
        "seconds": sum(fold["seconds"] for fold in record.folds),
    }
    if record.folds:
        figures |= {name: record.mean(name) for name in FOLD_FIGURES}
        figures["worst_accuracy"] = min(fold["accuracy"] for fold in record.folds)
    if record.error:
        figures["error"] = record.error
    return figures

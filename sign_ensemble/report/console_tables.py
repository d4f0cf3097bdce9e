"""Metrics and answers as tables in a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from sign_ensemble.core.console import OUT, say, show
from sign_ensemble.core.printable_text import printable
from sign_ensemble.core.whose_signs import whose_signs

PER_CENT = "per cent (95 % interval)"


def percent(figure: dict[str, Any]) -> str:
    """A share with its interval, as in ``98.1 (96.5–99.2)``."""
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{100 * figure['value']:.1f}"
    return f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f}–{100 * figure['high']:.1f})"


def table_of(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> Table:
    """A table whose columns but the first are numbers."""
    table = Table(title=title)
    for i, name in enumerate(columns):
        table.add_column(name, overflow="fold", justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def show_metrics(tree: dict[str, Any]) -> None:
    """The summary: a single model against this ensemble, on known signs and on each OOD set."""
    known, single = tree["known"], tree["single"]
    who = whose_signs(tree["about"]["signers"]).headline
    rows = [
        [words, percent(single["known"][name]), percent(known[name])]
        for name, words in (
            ("accuracy", "accuracy, all answered"),
            ("coverage", "coverage"),
            ("confident", "accepted with confidence ≥ 90 %"),
            ("selective_risk", "selective risk"),
        )
    ]
    columns: tuple[str, ...] = ("known signs", "single model", "this ensemble")
    show(table_of(f"signs {who}, {PER_CENT}", columns, rows))
    rows = [
        [
            f"{name} ({figures['kind']})",
            str(figures["n"]),
            percent(single["sets"][name]["overconfident"]),
            *[percent(figures[each]) for each in ("accepted", "auroc", "fpr95")],
        ]
        for name, figures in tree["sets"].items()
    ]
    columns = ("OOD set", "n", "single model ≥ 90 % confident", "accepted", "AUROC", "FPR95")
    show(table_of(f"out-of-distribution (OOD) images, {PER_CENT}", columns, rows))
    if "conditions" in tree:
        columns = ("taken under", "accuracy", "coverage", "selective risk", "wrong gestures")
        title = f"the same signs taken otherwise, {PER_CENT}"
        show(table_of(title, columns, condition_rows(tree["conditions"])))


def condition_rows(conditions: dict[str, Any]) -> list[list[str]]:
    """A row per condition: accuracy, coverage, selective risk, wrong gestures answered."""
    return [
        [name, *(percent(each[figure]) for figure in ("accuracy", "coverage", "selective_risk")),
         percent(each["near"]) if each["near"] else "–"]
        for name, each in conditions.items()
    ]  # fmt: skip


def show_answers(rows: list[dict[str, Any]]) -> None:
    """A table of answers in a terminal; elsewhere one tab-separated line each."""
    cells = [
        [
            row["path"],
            "accepted" if row["accepted"] else "rejected",
            row["label"] or "",
            *["" if row[n] is None else f"{row[n]:.3f}" for n in ("confidence", "disagreement")],
            with_votes(row["reason"], row["votes"]),
        ]
        for row in rows
    ]
    if not OUT.is_terminal:
        for each in cells:
            say("\t".join(map(printable, each)))
        return
    table = Table()
    for name in ("image", "decision", "label", "confidence", "disagreement, nats", "reason"):
        table.add_column(name, overflow="fold")
    for each in cells:
        table.add_row(*map(printable, each))
    show(table)


def with_votes(reason: str, votes: str) -> str:
    """Why an image is rejected, and the members' votes; empty if it is accepted."""
    return f"{reason} ({votes})" if reason and votes else reason

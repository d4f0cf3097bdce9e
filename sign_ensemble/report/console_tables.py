"""Figures and answers as tables in a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from sign_ensemble.core.console import OUT, say


def percent(figure: dict[str, Any]) -> str:
    """A share with its interval, as in ``98.1 (96.5–99.2)``."""
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{100 * figure['value']:.1f}"
    return f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f}–{100 * figure['high']:.1f})"


def show_metrics(tree: dict[str, Any]) -> None:
    """The summary: a single model against this ensemble, on known signs and on each strange set."""
    known, alone = tree["known"], tree["single"]["known"]
    table = Table(title="signers that the models never saw, per cent (95 % interval)")
    table.add_column("known signs", overflow="fold")
    table.add_column("one model", overflow="fold", justify="right")
    table.add_column("this ensemble", overflow="fold", justify="right")
    for name, text in (
        ("accuracy", "right, if all were answered"),
        ("coverage", "answered"),
        ("confident", "answered, and ≥ 90 % sure"),
        ("selective_risk", "wrong among the answered"),
    ):
        table.add_row(text, percent(alone[name]), percent(known[name]))
    OUT.print(table)
    table = Table(title="images that are no sign of these labels, per cent (95 % interval)")
    table.add_column("set", overflow="fold")
    table.add_column("n", overflow="fold", justify="right")
    table.add_column("one model ≥ 90 % sure", overflow="fold", justify="right")
    table.add_column("accepted", overflow="fold", justify="right")
    table.add_column("AUROC", overflow="fold", justify="right")
    table.add_column("FPR95", overflow="fold", justify="right")
    for name, figures in tree["sets"].items():
        sure = tree["single"]["sets"][name]["overconfident"]
        table.add_row(
            f"{name} ({figures['kind']})", str(figures["n"]), percent(sure),
            percent(figures["accepted"]), percent(figures["auroc"]), percent(figures["fpr95"]),
        )  # fmt: skip
    OUT.print(table)


def show_answers(rows: list[dict[str, Any]]) -> None:
    """A table of answers in a terminal; elsewhere one tab-separated line each."""
    if not OUT.is_terminal:
        for row in rows:
            sure = "" if row["confidence"] is None else f"{row['confidence']:.3f}"
            apart = "" if row["disagreement"] is None else f"{row['disagreement']:.3f}"
            say("\t".join([row["path"], row["answer"], sure, apart, row["reason"]]))
        return
    table = Table()
    for name in ("image", "answer", "confidence", "disagreement, nats", "reason"):
        table.add_column(name)
    for row in rows:
        sure = "" if row["confidence"] is None else f"{row['confidence']:.3f}"
        apart = "" if row["disagreement"] is None else f"{row['disagreement']:.3f}"
        table.add_row(row["path"], row["answer"], sure, apart, row["reason"])
    OUT.print(table)

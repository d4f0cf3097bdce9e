"""Console tables: what the headings claim, how answers are printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.console import OUT, progress, say, show
from sign_ensemble.report.console_tables import percent, show_answers, show_metrics, table_of

ANSWERS: list[dict[str, Any]] = [
    {"path": "[old]/a.png", "accepted": True, "label": "U", "confidence": 0.5, "disagreement": 0.25,
     "reason": "", "votes": "3 say U"},
    {"path": "b\t\n.png", "accepted": False, "label": None, "confidence": None,
     "disagreement": None, "reason": "not an image", "votes": ""},
]  # fmt: skip
SIZES = {"known": ("known", 26), "gestures": ("near", 8), "noise": ("far", 8)}


@pytest.mark.parametrize("signers", ["known", "none"])
def test_signers_are_unseen_only_where_they_are_known(
    drawn_run: Callable[..., Path], capsys: pytest.CaptureFixture[str], signers: str
) -> None:
    tree = read_json(drawn_run("console", 3, SIZES) / "metrics.json")
    tree["about"]["signers"] = signers
    show_metrics(tree)
    out = " ".join(capsys.readouterr().out.split())
    assert ("by signers whom the models have not seen" in out) == (signers == "known")
    assert ("held out, by people who may be in training too" in out) == (signers == "none")
    for name in ("accuracy", "coverage", "gestures (near)", "noise (far)"):
        assert name in out


def test_a_share_with_and_without_interval() -> None:
    assert percent({"value": 0.981, "low": 0.965, "high": 0.992}) == "98.1 (96.5–99.2)"
    assert percent({"value": 0.5, "low": None, "high": None}) == "50.0"
    assert percent({"value": None, "low": None, "high": None}) == "–"


def test_answers_are_tab_separated_lines_outside_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_answers(ANSWERS)
    assert capsys.readouterr().out.splitlines() == [
        "[old]/a.png\taccepted\tU\t0.500\t0.250\t",
        r"b\t\n.png" + "\trejected\t\t\t\tnot an image",
    ]


def test_brackets_are_no_markup_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OUT, "_force_terminal", True)
    monkeypatch.setattr(OUT, "_width", 100)
    show_answers(ANSWERS)
    show(table_of("run [b]x[/b]", ("set [i]", ":smile:"), [["[red]far[/red] \x1b[2J", ":cat:"]]))
    say("[bold]photos[/bold]/[old]/x.jpg")
    with progress("[1-3] folds") as step:
        step(1, 2)
    printed = capsys.readouterr().out
    for text in ("[old]/a.png", "run [b]x[/b]", "set [i]", ":smile:", r"[red]far[/red] \x1b[2J",
                 ":cat:", "[bold]photos[/bold]/[old]/x.jpg", "[1-3] folds"):  # fmt: skip
        assert text in printed, text
    assert "\x1b[2J" not in printed

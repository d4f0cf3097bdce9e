"""Console tables: what the headings claim, how answers are printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.report.console_tables import percent, show_answers, show_metrics

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
    blank = {"confidence": None, "disagreement": None, "reason": "not an image"}
    show_answers(
        [
            {"path": "a.png", "answer": "U", "confidence": 0.5, "disagreement": 0.25, "reason": ""},
            {"path": "b.png", "answer": "rejected", **blank},
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["a.png\tU\t0.500\t0.250\t", "b.png\trejected\t\t\tnot an image"]

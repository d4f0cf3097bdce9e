"""A run on images of which nobody knows the signers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import settings
from started_commands import SLOW, Command, finish


@pytest.mark.timeout(2 * SLOW)
def test_without_signers_the_notes_say_what_that_hides(
    home: Path, signs_folder: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    """Also ensemble.members folds, and a far set in a folder."""
    images, stairs = tmp_path / "images", tmp_path / "stairs"
    shutil.copytree(signs_folder / "ada", images)
    shutil.copytree(signs_folder / "ben" / "bar", stairs)
    more = ("--data.preset=label", "--data.signers=none", "--ensemble.members=folds",
            "--search.folds=2", "--evaluate.far", f"stairs={stairs}")  # fmt: skip
    shown = finish(start("tune", *settings(home, images, "nobody", 2, *more)))
    run = home / "nobody"
    page = (run / "report.html").read_text()
    for text in (shown, page):
        assert "people who may be in training too" in " ".join(text.split())
        for claim in ("have not seen", "never seen", "unseen signer", "new signer"):
            assert claim not in text
    figures = json.loads((run / "metrics.json").read_text())
    notes = " ".join(figures["about"]["notes"])
    assert "no signers are known" in notes
    assert "say nothing about new people" in notes
    assert figures["sets"]["stairs"]["kind"] == "far"
    assert figures["sets"]["stairs"]["n"] == 6
    index = json.loads((run / "members/index.json").read_text())
    assert index["of"] == "folds"
    assert {entry["fold"] for entry in index["members"]} == {0, 1}
    assert figures["about"]["members"] == len(index["members"]) == 4

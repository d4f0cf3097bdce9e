"""A run on images of which nobody knows the signers."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from small_runs import settings
from started_commands import SLOW, Command, finish


@pytest.mark.timeout(2 * SLOW)
def test_without_signers_the_notes_say_what_that_hides(
    home: Path, signs_folder: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    """Also ensemble.members folds, a far set in a folder and one of a label, a label that is not
    used, and near twins.
    """
    images, stairs = tmp_path / "images", tmp_path / "stairs"
    shutil.copytree(signs_folder / "ada", images)
    shutil.copytree(signs_folder / "ben" / "bar", stairs)
    shutil.copytree(signs_folder / "cleo" / "disc", images / "nothing")
    (images / "once").mkdir()
    shutil.copy(signs_folder / "dan" / "disc" / "0.png", images / "once")
    Image.open(images / "bar" / "0.png").save(images / "bar" / "9.jpg", quality=80)
    more = (
        "--data.far_labels=[nothing]", "--data.preset=label", "--data.signers=none",
        "--ensemble.members=folds", "--search.folds=2", "--evaluate.far", f"stairs={stairs}",
    )  # fmt: skip
    command = start("tune", *settings(home, images, "nobody", 2, *more))
    shown = finish(command)
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
    assert figures["sets"]["nothing"]["kind"] == "far"
    assert figures["sets"]["nothing"]["n"] == 6
    twins = "1 of 8 test images (12%) have a near twin in training, nearly the same picture"
    unused = "not used, 1 images labelled once: the only image to train this label on"
    assert twins in notes
    report = html.unescape((run / "report.html").read_text())
    for sentence in (twins, unused):
        assert sentence in report
        assert sentence in command.out
    index = json.loads((run / "members/index.json").read_text())
    assert index["of"] == "folds"
    assert {entry["fold"] for entry in index["members"]} == {0, 1}
    assert figures["about"]["members"] == len(index["members"]) == 4

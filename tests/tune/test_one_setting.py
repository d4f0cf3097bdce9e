"""Runs of one setting, without a search."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import assert_kept, contents, records, settings
from started_commands import SLOW, Command, finish


@pytest.mark.timeout(2 * SLOW)
def test_one_setting_makes_a_run(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    arguments = settings(home, signs_folder, "one", 1, "--ensemble.size=1", "--member.dropout=0.3")
    shown = finish(start("train", *arguments))
    assert re.search(r"on unseen signers: nll \d\.\d{4}, accuracy 0?\.?\d", shown)
    run = home / "one"
    record = records(run)[0]
    assert record["status"] == "complete"
    assert record["params"]["dropout"] == 0.3
    before = contents(run)
    finish(start("evaluate", f"--run={run}", "--evaluate.images=10", "--evaluate.bootstrap=20"))
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["about"]["members"] == 1
    assert 0 <= figures["known"]["accuracy"]["value"] <= 1
    assert_kept(run, before)


@pytest.mark.timeout(2 * SLOW)
def test_one_setting_fine_tuned_by_two_workers(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    """Also ensemble.members folds: the fold models are the members."""
    arguments = settings(
        home, signs_folder, "two", 1, "--ensemble.size=1", "--finetune.layers=conv3+",
        "--finetune.epochs=1", "--finetune.batch_size=16", "--ensemble.members=folds",
        "--scale.workers=2", "--rejection.held_out_groups=0",
    )  # fmt: skip
    finish(start("train", *arguments))
    run = home / "two"
    index = json.loads((run / "members/index.json").read_text())
    assert [entry["fold"] for entry in index["members"]] == [0, 1, 2]
    assert not (run / "fold_models").exists()
    finish(start("evaluate", f"--run={run}", "--evaluate.images=10", "--evaluate.bootstrap=20"))
    assert json.loads((run / "metrics.json").read_text())["about"]["members"] == 3

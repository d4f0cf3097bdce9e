"""The stages of a run one after another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from small_runs import assert_kept, contents, settings
from started_commands import SLOW, Command, finish


@pytest.mark.timeout(3 * SLOW)
def test_stage_by_stage(home: Path, signs_folder: Path, start: Callable[..., Command]) -> None:
    """Also ensemble.method greedy, members without GDA, and selective risk control."""
    run = home / "stages"
    more = (
        "--ensemble.method=greedy", "--ensemble.gda=none", "--rejection.max_error=0.9",
    )  # fmt: skip
    arguments = settings(home, signs_folder, "stages", 3, *more)
    finish(start("tune", *arguments, "--until", "search"))
    trials = pq.read_table(run / "trials.parquet").to_pylist()
    assert len(trials) == 3
    storage = JournalStorage(JournalFileBackend(str(run / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    complete = {t.user_attrs["number"]: t.values for t in study.trials if t.values}
    for trial in trials:
        if trial["status"] == "complete":
            assert complete[trial["number"]] == pytest.approx([trial["nll"]])
    assert not (run / "members").exists()
    before = contents(run)

    finish(start("tune", *arguments, "--until", "ensemble"))
    assert_kept(run, before)
    assert (run / "rule.json").exists()
    assert not (run / "metrics.json").exists()
    index = json.loads((run / "members/index.json").read_text())
    assert index["method"] == "greedy"
    assert 1 <= sum(entry["votes"] for entry in index["members"]) <= 2
    rule = json.loads((run / "rule.json").read_text())
    assert rule["gda"] is None
    assert rule["risk_control"]["max_error"] == 0.9
    before = contents(run)

    evaluate = ("--run", str(run), "--evaluate.images=10", "--evaluate.bootstrap=20")
    finish(start("evaluate", *evaluate))
    first = json.loads((run / "metrics.json").read_text())
    assert first["evaluations"] == 1
    assert any("selective risk" in note or "max_error" in note for note in first["about"]["notes"])
    after = contents(run)
    shown = finish(start("evaluate", *evaluate))
    assert "read once (--evaluate.again true)" in shown
    assert contents(run) == after
    finish(start("evaluate", *evaluate, "--evaluate.again", "true"))
    second = json.loads((run / "metrics.json").read_text())
    assert second["evaluations"] == 2
    assert {**second, "evaluations": 1} == first
    assert_kept(run, before)

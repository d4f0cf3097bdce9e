"""A run that nothing interrupted, and others that must end as it did."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from small_runs import assert_kept, assert_same_outcome, contents, records, settings
from started_commands import SLOW, Command, finish, killed

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.config import EvaluateConfig, WandbConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.pipeline.evaluation import evaluate_run
from sign_ensemble.tracking import Tracker

TRIALS = 14  # the sampler models losses from the ninth on


@pytest.fixture(scope="module")
def undisturbed(home: Path, signs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = Command("tune", *settings(home, signs_folder, "undisturbed", TRIALS), folder=folder)
    try:
        finish(command)
    finally:
        command.close()
    (home / "undisturbed-out.txt").write_text(command.out)
    return home / "undisturbed"


@pytest.mark.timeout(SLOW)
def test_run_folder_is_complete(undisturbed: Path) -> None:
    for name in (
        "config.yaml", "manifest.parquet", "hand_count.safetensors", "trials.parquet",
        "study.journal", "members/index.json", "rule.json", "rule.safetensors", "metrics.json",
        "answers.parquet", "timings.json", "report.html", "figures/risk-coverage.svg",
    ):  # fmt: skip
        assert (undisturbed / name).stat().st_size, name
    index = json.loads((undisturbed / "members/index.json").read_text())["members"]
    assert len(index) == 2
    for entry in index:
        path = undisturbed / "members" / entry["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert not [
        path for path in undisturbed.rglob(".*") if "ray" not in path.parts
    ]  # nothing half done


@pytest.mark.timeout(SLOW)
def test_every_trial_is_recorded(undisturbed: Path) -> None:
    found = records(undisturbed)
    assert sorted(found) == list(range(TRIALS))
    assert {record["status"] for record in found.values()} == {"complete", "pruned"}
    table = pq.read_table(undisturbed / "trials.parquet").to_pydict()
    assert sorted(table["number"]) == list(range(TRIALS))
    best = min(
        (record for record in found.values() if record["status"] == "complete"),
        key=lambda record: np.mean([fold["nll"] for fold in record["folds"]]),
    )
    assert table["number"][0] == best["number"]
    assert len({json.dumps(record["params"]) for record in found.values()}) == TRIALS


@pytest.mark.timeout(SLOW)
def test_first_trial_is_the_default_recipe(undisturbed: Path) -> None:
    member = yaml.safe_load((undisturbed / "config.yaml").read_text())["member"]
    params = records(undisturbed)[0]["params"]
    h1, h2 = params.pop("h1"), params.pop("h2")
    assert [h1, h2] == member["widths"] == [16, 8]
    assert params == {name: member[name] for name in params}
    assert params["dropout"] == 0.5
    assert params["learning_rate"] == 1e-4
    assert params["epochs"] == 2


@pytest.mark.timeout(SLOW)
def test_output_says_what_was_done(undisturbed: Path) -> None:
    lines = (undisturbed.parent / "undisturbed-out.txt").read_text().splitlines()
    assert lines[0] == f"run folder: {undisturbed}"
    assert sum(re.match(r"trial \d+ (complete|pruned) after fold", line) is not None
               for line in lines) == TRIALS  # fmt: skip
    assert f"metrics: {undisturbed / 'metrics.json'}" in lines
    assert lines[-1] == f"report: {undisturbed / 'report.html'}"
    assert "…" not in "".join(lines)  # no figure is cut off where there is no terminal


@pytest.mark.timeout(SLOW)
def test_same_command_again_changes_no_file(
    undisturbed: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    before = contents(undisturbed)
    began = time.monotonic()
    shown = finish(
        start("tune", *settings(undisturbed.parent, signs_folder, "undisturbed", TRIALS))
    )
    assert time.monotonic() - began < 30  # Ray is not even started
    assert "kept from before" in shown
    assert "read once" in shown
    assert contents(undisturbed) == before


@pytest.mark.long
@pytest.mark.timeout(2 * SLOW)
def test_killed_twice_it_ends_as_if_never_interrupted(
    undisturbed: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    run = undisturbed.parent / "killed"
    arguments = settings(undisturbed.parent, signs_folder, "killed", TRIALS)

    def recorded() -> dict[str, tuple[str, int]]:
        return {k: v for k, v in contents(run).items() if k.endswith("trial.json")}

    def in_a_trial(least: int) -> bool:
        """So many have ended and the next has done a fold."""
        begun, done = set(run.glob("trials/*")), {p.parent for p in run.glob("trials/*/trial.json")}
        return len(done) >= least and any(any(p.glob("fold-*")) for p in begun - done)

    killed(start("tune", *arguments), lambda: len(list(run.glob("trials/*/trial.json"))) >= 2)
    first = recorded()
    assert 2 <= len(first) < TRIALS
    killed(start("tune", *arguments), lambda: in_a_trial(9))
    assert_kept(run, first)
    second = recorded()
    assert len(first) < len(second) < TRIALS
    shown = finish(start("tune", *arguments))
    assert f"{len(second)} trials are kept from before" in shown
    assert_kept(run, second)
    assert sorted(records(run)) == list(range(TRIALS))

    assert_same_outcome(run, undisturbed)


IDLE_WORKER_DIES = """
import os, signal, subprocess
from sign_ensemble.search.recorder import Recorder
completed, ends = Recorder.on_trial_complete, []
def on_trial_complete(self, *arguments, **named):
    completed(self, *arguments, **named)
    ends.append(named["trial"])
    if len(ends) == 3:  # its worker is kept for the next trial
        listed = subprocess.run(["ps", "-eo", "pid=,sid=,args="], capture_output=True, text=True)
        for pid, session, args in (line.split(maxsplit=2) for line in listed.stdout.splitlines()):
            if int(session) == os.getsid(0) and args.startswith("ray::ImplicitFunc"):
                os.kill(int(pid), signal.SIGKILL)
                print("a worker was killed", flush=True)
Recorder.on_trial_complete = on_trial_complete
"""


@pytest.mark.long
@pytest.mark.timeout(2 * SLOW)
def test_a_worker_that_dies_between_trials_costs_nothing(
    undisturbed: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    """Ray Tune gives up the trial that was to have this worker next."""
    arguments = settings(undisturbed.parent, signs_folder, "idle", TRIALS)
    shown = finish(start("tune", *arguments, before=IDLE_WORKER_DIES))
    assert shown.count("a worker was killed") == 1
    assert_same_outcome(undisturbed.parent / "idle", undisturbed)


@pytest.mark.timeout(SLOW)
def test_a_report_never_shows_an_earlier_evaluation(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(undisturbed.parent / "read-again")
    shutil.copytree(undisturbed, str(run.path), ignore=shutil.ignore_patterns("ray"))
    few = EvaluateConfig(images=10, bootstrap=10, again=True)
    tracker = Tracker(WandbConfig("disabled"), run, pytest.fail)

    def interrupted(_: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sign_ensemble.pipeline.evaluation.report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(run, few, tracker)
    assert read_json(run.metrics)["evaluations"] == 2
    assert not run.report.exists()
    evaluate_run(run, replace(few, again=False), tracker)
    assert read_json(run.metrics)["evaluations"] == 2 and run.report.is_file()

"""An ended search goes on with more trials; meanwhile its folder is one command's alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_runs import contents, records, settings, without_seconds
from started_commands import SLOW, Command, finish, wait_for


@pytest.mark.timeout(3 * SLOW)
def test_more_trials_go_on_from_the_ended_ones(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    run = home / "more"

    def arguments(trials: int, *more: str) -> list[str]:
        return settings(home, signs_folder, "more", trials, *more)

    finish(start("tune", *arguments(2)))
    first = {number: without_seconds(record) for number, record in records(run).items()}
    trials = {name: sha for name, sha in contents(run).items() if name.startswith("trials/")}
    before = contents(run)

    for few, words in (
        (arguments(5), "an ensemble of fewer trials has read the test signers; --evaluate.again"),
        (
            arguments(5, "--search.seed=1", "--evaluate.again=true"),
            "with search.seed 0, now it is 1",
        ),
        (arguments(5, "--ensemble.size=1", "--until=ensemble"), "ensemble.size 2, now it is 1"),
    ):
        command = start("tune", *few)
        assert command.ended() == 2 and words in command.err, command.err
        assert command.err.count("\n") == 1
        assert contents(run) == before

    command = start("tune", *arguments(5), "--until", "ensemble")
    assert wait_for((run / ".lock").exists, SLOW) and wait_for(
        lambda: "run folder" in command.out, SLOW
    )
    second = start("evaluate", "--run", str(run), "--wandb.mode=disabled")
    assert second.ended() == 2
    assert f"error: {run} is in use by tune of " in second.err
    assert f"process {command.process.pid}, since " in second.err
    shown = finish(command)
    assert "search.trials was 2 and is 5: what depends on it is made again" in shown
    assert "2 trials are kept from before" in shown
    found = {number: without_seconds(record) for number, record in records(run).items()}
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert {number: found[number] for number in first} == first
    assert {name: contents(run)[name] for name in trials} == trials
    assert len(pq.read_table(run / "trials.parquet")) == 5
    votes = {e["trial"] for e in json.loads((run / "members/index.json").read_text())["members"]}
    complete = [r for r in found.values() if r["status"] == "complete"]
    best = sorted(complete, key=lambda r: sum(fold["nll"] for fold in r["folds"]))[:2]
    assert votes == {record["number"] for record in best}
    assert not (run / "metrics.json").exists() and (run / "rule.json").exists()

    evaluate = ("--run", str(run), "--evaluate.images=10", "--evaluate.bootstrap=20")
    command = start("evaluate", *evaluate)
    assert command.ended() == 2 and "--evaluate.again true reads them once more" in command.err
    finish(start("evaluate", *evaluate, "--evaluate.again=true"))
    assert json.loads((run / "metrics.json").read_text())["evaluations"] == 2
    assert (run / "report.html").exists() and not (run / ".lock").exists()
    assert "search, members and rule are kept" in finish(start("tune", *arguments(5)))

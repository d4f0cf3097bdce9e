"""A search whose trials are end-to-end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import TUNED, assert_kept, contents, records, settings
from started_commands import SLOW, Command, finish, killed, process, wait_for

from sign_ensemble.core.config import FinetuneConfig
from sign_ensemble.learning.member import load


@pytest.mark.long
@pytest.mark.timeout(3 * SLOW)
def test_an_end_to_end_search_goes_on_after_worker_trial_and_driver_were_killed(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    arguments = settings(
        home, signs_folder, "networks", 1, *TUNED, "--search.trial=end-to-end", "--search.folds=2",
        "--ensemble.size=1",
    )  # fmt: skip
    run = home / "networks"

    def checkpoints(fold: int) -> set[Path]:
        return set(run.glob(f"train/trial-0000-fold-{fold}/training/checkpoint_*"))

    command = start("tune", *arguments)
    of = command.process.pid
    assert wait_for(lambda: checkpoints(0), SLOW), command.err
    worker, seen = process("ray::RayTrainWorker", "sid", of), checkpoints(0)
    os.kill(worker, signal.SIGKILL)
    assert wait_for(lambda: process("ray::RayTrainWorker", "sid", of) not in (0, worker), SLOW)
    assert wait_for(lambda: checkpoints(0) - seen, SLOW), command.err
    os.kill(process("ray::ImplicitFunc", "sid", of), signal.SIGKILL)
    fold = run / "trials/0000/fold-0.safetensors"
    killed(command, lambda: fold.exists() and bool(checkpoints(1)))
    before = contents(run)
    finish(start("tune", *arguments))
    assert_kept(run, {str(fold.relative_to(run)): before[str(fold.relative_to(run))]})
    record = records(run)[0]
    assert record["status"] == "complete"
    assert record["params"]["backbone_rate"] == FinetuneConfig().backbone_rate
    assert [fold["epochs"] for fold in record["folds"]] == [12, 12]
    card = load(run / "members/member-00.safetensors").card
    assert (card.fold, card.finetune.layers) == (-1, "last")
    assert not (run / "fold_models").exists()  # the trials' own models have predicted the folds
    assert not list(run.glob("train/trial-*"))
    assert json.loads((run / "metrics.json").read_text())["about"]["members"] == 1

"""Ray Tune + Optuna: runs, resumes and records trials."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from sign_ensemble.config import MemberConfig, SearchConfig
from sign_ensemble.errors import UserError
from sign_ensemble.learning.folds import Task, recipe_of
from sign_ensemble.run import RunFolder, read_arrays
from sign_ensemble.search.cluster import concurrency, raise_if_interrupted
from sign_ensemble.search.records import (
    TrialRecord,
    judge_fold,
    read_records,
    write_record,
    write_table,
)
from sign_ensemble.search.select import worth_finishing
from sign_ensemble.search.space import default_params, distributions
from sign_ensemble.search.suggest import RecordedASHA, RecordedOptuna


class Observer(Protocol):
    """Who is told how the search goes."""

    def started(self, number: int) -> None:
        """A trial began."""

    def progressed(self, number: int, folds: int, nll: float) -> None:
        """A trial has ended a fold; ``nll`` is its mean so far."""

    def ended(self, record: TrialRecord) -> None:
        """A trial ended."""


def run_trial(
    config: dict[str, Any], run: RunFolder, task: Task, default: MemberConfig, threads: int
) -> None:
    """One trial in a worker: fold after fold, a report after each."""
    torch.set_num_threads(threads)
    recipe = recipe_of(default, config["trial"]["params"])
    losses: list[float] = []
    for fold in range(task.folds):
        losses.append(judge_fold(run, task, recipe, config["trial"]["number"], fold)["nll"])
        tune.report({"fold": fold + 1, "nll": float(np.mean(losses))})  # as its record has it


class Recorder(tune.Callback):
    """Writes each ended trial's record and tells the observer."""

    def __init__(self, run: RunFolder, task: Task, observer: Observer, pruned: set[str]) -> None:
        self._run, self._task, self._observer, self._pruned = run, task, observer, pruned

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles callbacks for a restore that is never asked for here."""
        return {}

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Ray Tune has gone once round; an interrupt that a library swallowed ends the search."""
        raise_if_interrupted()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A worker took the trial up."""
        self._observer.started(trial.config["trial"]["number"])

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A fold has ended."""
        self._observer.progressed(trial.config["trial"]["number"], result["fold"], result["nll"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """All folds have ended, or ASHA stopped the trial; a spent time budget is no end."""
        done = (trial.last_result or {}).get("fold", 0)
        if done == self._task.folds:
            self._record(trial, "complete", done)
        elif trial.trial_id in self._pruned:
            self._record(trial, "pruned", done)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial broke more often than allowed."""
        file = Path(
            trial.error_file or ""
        )  # trial.get_error reads where it is copied to only later
        text = (file.read_text() if file.is_file() else "unknown").strip().splitlines()
        self._record(trial, "failed", 0, text[-1] if text else "unknown")

    def _record(self, trial: Any, status: Any, done: int, error: str = "") -> None:
        number, params = trial.config["trial"]["number"], trial.config["trial"]["params"]
        folds = tuple(judged_fold(self._run, number, fold) for fold in range(done))
        record = TrialRecord(number, status, dict(params), folds, error)
        write_record(self._run, record)
        self._observer.ended(record)


def judged_fold(run: RunFolder, number: int, fold: int) -> dict[str, Any]:
    """The figures that a worker wrote for one fold."""
    return dict(read_arrays(run.trial(number) / f"fold-{fold}.safetensors")[1]["figures"])


def search_trials(
    run: RunFolder,
    task: Task,
    default: MemberConfig,
    search: SearchConfig,
    size: int,
    observer: Observer,
) -> list[TrialRecord]:
    """Run the trials that are missing, and complete pruned ones if fewer than ``size`` are.

    Args:
        run: Where records are read and written.
        task: Features, labels, folds.
        default: The recipe that trial 0 has and the others start from.
        search: Ranges, number, means.
        size: Complete trials needed.
        observer: Told of every event.

    Returns:
        The records of all ended trials, by number.

    Raises:
        UserError: too few trials could be completed.
    """
    for record in read_records(run):
        if record.status == "failed":  # starting again is asking again
            (run.trial(record.number) / "trial.json").unlink()
    ended = read_records(run)
    missing = search.trials - len(ended)
    if missing > 0:
        pruned: set[str] = set()
        for file in run.path.glob(f"{run.study.name}*"):  # a killed driver leaves a lock beside it
            file.unlink()  # made anew from the records, which are the truth
        storage = JournalStorage(JournalFileBackend(str(run.study)))
        space = distributions(search)
        means = {
            "search_alg": RecordedOptuna(
                space, storage, search.seed, default_params(default), ended, pruned
            ),
            "scheduler": RecordedASHA(task.folds, search.reduction, ended, pruned),
            "num_samples": missing,
            "time_budget_s": search.time_budget,
        }
        _tune(run, task, default, search, Recorder(run, task, observer, pruned), {}, means)
    revived = worth_finishing(read_records(run), size)
    if revived:
        again = [{"number": record.number, "params": record.params} for record in revived]
        recorder = Recorder(run, task, observer, set())
        _tune(run, task, default, search, recorder, {"trial": tune.grid_search(again)}, {})
    records = read_records(run)
    complete = sum(record.status == "complete" for record in records)
    if not complete:
        faults = {record.error for record in records if record.status == "failed"}
        raise UserError(
            f"{run.trials}: no trial was completed"
            + (f"; the first fault: {min(faults)}" if faults else "; give search.time_budget more")
        )
    write_table(run, records, task.fold_names)
    return records


def _tune(
    run: RunFolder,
    task: Task,
    default: MemberConfig,
    search: SearchConfig,
    recorder: Recorder,
    space: dict[str, Any],
    means: dict[str, Any],
) -> None:
    """One call of Ray Tune; its own files go to a new folder below ``ray``, for TensorBoard."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # records say which trial failed, why
    attempts = run.path / "ray"
    name = f"search-{len(list(attempts.glob('search-*')))}"
    work = tune.with_parameters(
        run_trial, run=run, task=task, default=default, threads=search.cpus_per_trial
    )
    resources = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    tuner = tune.Tuner(
        tune.with_resources(work, resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrency(search), reuse_actors=True, **means
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(attempts),
            callbacks=[recorder],
            failure_config=tune.FailureConfig(max_failures=search.max_failures),
            verbose=0,
        ),
    )
    tuner.fit()

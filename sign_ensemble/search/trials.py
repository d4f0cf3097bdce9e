"""The search: trials are run by Ray Tune with Optuna, resumed and recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.config import MemberConfig, SearchConfig
from sign_ensemble.core.device import compute_with
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.interrupts import interrupts_wait
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import filesystem_and_path
from sign_ensemble.learning.cluster_resources import concurrent_end_to_end_trials, concurrent_trials
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.principal_components import ProjectedImages
from sign_ensemble.learning.task import Kind, Task
from sign_ensemble.search.recorder import Observer, Recorder, record_end
from sign_ensemble.search.records import TrialRecord, evaluate_fold, read_records, write_table
from sign_ensemble.search.samplers import RecordedASHA, RecordedOptuna
from sign_ensemble.search.selection import trials_to_complete
from sign_ensemble.search.space import default_params, distributions


def run_trial(
    config: dict[str, Any],
    run: RunFolder,
    task: Task,
    kind: Kind,
    projected: Mapping[str, ProjectedImages],
    default: MemberConfig,
    threads: int,
) -> None:
    """One trial in a worker: fold after fold, with a report to Ray Tune after each."""
    compute_with(threads)
    number, params = config["trial"]["number"], config["trial"]["params"]
    end_to_end = task.end_to_end.of(params) if task.end_to_end else None
    task = replace(task, end_to_end=end_to_end, projected=projected)
    recipe = recipe_of(default, params)
    losses: list[float] = []
    for fold in range(task.folds):
        losses.append(evaluate_fold(run, task, kind, recipe, number, fold)["nll"])
        tune.report({"fold": fold + 1, "nll": float(np.mean(losses))})


@contextmanager
def journal(run: RunFolder, kind: Kind) -> Iterator[Path]:
    """A new file for Optuna's study of this kind, which is always recreated from the records.

    The journal is appended to, which an object store does not support: there the file appears when
    the search has ended.
    """
    study = run.study if kind == "pixels" else run.landmark_study
    for file in run.path.glob(f"{study.name}*"):  # a killed driver leaves a lock file too
        file.unlink()
    if isinstance(study, Path):
        yield study
    else:
        with atomic_write(study) as file:
            yield file


def search_trials(
    run: RunFolder,
    task: Task,
    projected: Mapping[str, ProjectedImages],
    defaults: Mapping[Kind, MemberConfig],
    search: SearchConfig,
    size: int,
    observer: Observer,
) -> list[TrialRecord]:
    """Run the missing trials of each kind of members, and complete pruned ones if fewer than
    ``size`` of a kind are complete.

    ``defaults`` are the recipes of each kind's first trial, and what the others do not vary;
    ``projected`` see :class:`Task`. The kinds take turns in the trials' numbers. Returns the
    records of all ended trials, by number.

    Raises:
        UserError: no trial was completed.
    """
    for record in read_records(run):
        if record.status == "failed":  # a new call tries it again
            (run.trial(record.number) / "trial.json").unlink()
    for kind, default in defaults.items():
        work = tune.with_parameters(
            run_trial, run=run, task=task, kind=kind, default=default,
            projected=projected if kind == "pixels" else {}, threads=search.cpus_per_trial,
        )  # fmt: skip
        numbers = (list(defaults).index(kind), len(defaults))
        calls = _TuneCalls(run, task, kind, numbers, search, observer, work)
        calls.run_missing(default)
        calls.complete(trials_to_complete(calls.ended(), size))
    records = read_records(run)
    complete = {record.kind for record in records if record.status == "complete"}
    if complete != set(defaults):
        errors = {record.error for record in records if record.status == "failed"}
        raise UserError(
            f"{run.trials}: no trial was completed"
            + (f"; the first error: {min(errors)}" if errors else "; give search.time_budget more")
        )
    write_table(run, records, task.fold_names)
    return records


@dataclass(frozen=True)
class _TuneCalls:
    """Calls of Ray Tune for one search; arguments as of :func:`search_trials`."""

    run: RunFolder
    task: Task
    kind: Kind
    numbers: tuple[int, int]  # the kind's first trial number, and the step to the next
    search: SearchConfig
    observer: Observer
    work: Callable[[dict[str, Any]], None]

    def ended(self) -> list[TrialRecord]:
        """The ended trials of this kind."""
        return [record for record in read_records(self.run) if record.kind == self.kind]

    def run_missing(self, default: MemberConfig) -> None:
        """Run new trials until ``search.trials`` have ended or the time is over.

        That takes one call. If Ray Tune gives a trial up too early, no further ones begin, and
        another call resumes from the records, as after an interruption.
        """
        began, ended = time.monotonic(), self.ended()
        search, task = self.search, self.task
        space = distributions(search, self.kind)
        end_to_end = task.end_to_end if self.kind == "pixels" else None
        first = default_params(default, end_to_end.settings if end_to_end else None)
        while len(ended) < search.trials:
            pruned: set[str] = set()
            given_up: list[TrialRecord] = []
            recorder = Recorder(self.run, task, self.observer, pruned, given_up, self.kind)
            with journal(self.run, self.kind) as file:
                storage = JournalStorage(JournalFileBackend(str(file)))
                settings = {
                    "search_alg": RecordedOptuna(
                        space, storage, search.seed, first, ended, pruned, given_up, self.numbers
                    ),
                    "scheduler": RecordedASHA(task.folds, search.reduction, ended, pruned),
                    "num_samples": search.trials - len(ended),
                    "time_budget_s": seconds_left(search.time_budget, time.monotonic() - began),
                }
                self.call(recorder, {}, settings)
            before, ended = len(ended), self.ended()
            left = seconds_left(search.time_budget, time.monotonic() - began)
            if not is_worth_another_call(len(given_up), len(ended) - before, left):
                for record in given_up:
                    record_end(self.run, self.observer, record)
                break

    def complete(self, records: Sequence[TrialRecord]) -> None:
        """Evaluate pruned trials on all folds, with further calls for trials given up too early."""
        while records:
            given_up: list[TrialRecord] = []
            again = [{"number": record.number, "params": record.params} for record in records]
            recorder = Recorder(self.run, self.task, self.observer, set(), given_up, self.kind)
            self.call(recorder, {"trial": tune.grid_search(again)}, {})
            ended = len(records) - len(given_up)
            records = given_up if is_worth_another_call(len(given_up), ended, None) else []

    def call(self, recorder: Recorder, space: dict[str, Any], settings: dict[str, Any]) -> None:
        """Call Ray Tune; its own files go to a new folder below ``ray``, for TensorBoard."""
        for name in ("ray.tune", "ray.train._internal.storage"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # records have the errors
        search, end_to_end = self.search, self.task.end_to_end
        end_to_end = end_to_end if self.kind == "pixels" else None
        folder = self.run.path / "ray"
        files, where = filesystem_and_path(folder)
        if end_to_end:  # its workers belong to Ray Train, and Tune does not count them
            resources: dict[str, float] = {"memory": 1}
            concurrent = concurrent_end_to_end_trials(search, end_to_end.scale)
        else:
            resources = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
            concurrent = concurrent_trials(search)
        tuner = tune.Tuner(
            tune.with_resources(self.work, resources),
            param_space=space,
            tune_config=tune.TuneConfig(
                max_concurrent_trials=concurrent, reuse_actors=True, **settings
            ),
            run_config=tune.RunConfig(
                name=f"search-{len(list(folder.glob('search-*')))}",
                storage_path=where,
                storage_filesystem=files,
                callbacks=[recorder],
                failure_config=tune.FailureConfig(max_failures=search.max_failures),
                verbose=0,
            ),
        )
        try:
            with interrupts_wait():
                tuner.fit()
        except tune.TuneError as fault:
            raise cause_of(fault) from None


def seconds_left(budget: float | None, spent: float) -> float | None:
    """The rest of a time budget, at least 0; None if there is no budget."""
    return None if budget is None else max(0.0, budget - spent)


def is_worth_another_call(given_up: int, ended: int, seconds: float | None) -> bool:
    """Whether Ray Tune is called again: trials were given up early, others ended, time is left."""
    return given_up > 0 and ended > 0 and seconds != 0


def cause_of(fault: BaseException) -> BaseException:
    """The UserError that Ray Tune wrapped in an error of its own, if there is one."""
    cause: BaseException | None = fault
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    return cause or fault

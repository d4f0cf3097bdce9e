"""Ray Tune + Optuna: runs, resumes and records trials."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
from sign_ensemble.learning.cluster_resources import concurrent_trainings, concurrent_trials
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.principal_components import ProjectedImages
from sign_ensemble.learning.task import Task
from sign_ensemble.search.recorder import Observer, Recorder, record_end
from sign_ensemble.search.records import TrialRecord, evaluate_fold, read_records, write_table
from sign_ensemble.search.samplers import RecordedASHA, RecordedOptuna
from sign_ensemble.search.selection import trials_to_complete
from sign_ensemble.search.space import default_params, distributions

Trainable = Callable[[dict[str, Any]], None]


def run_trial(
    config: dict[str, Any],
    run: RunFolder,
    task: Task,
    projected: Mapping[str, ProjectedImages],
    default: MemberConfig,
    threads: int,
) -> None:
    """One trial in a worker: fold after fold, a report after each."""
    compute_with(threads)
    number, params = config["trial"]["number"], config["trial"]["params"]
    end_to_end = task.end_to_end.of(params) if task.end_to_end else None
    task = replace(task, end_to_end=end_to_end, projected=projected)
    recipe = recipe_of(default, params)
    found: list[dict[str, Any]] = []
    for fold in range(task.folds):
        found.append(evaluate_fold(run, task, recipe, number, fold))
        mean = {name: float(np.mean([each[name] for each in found])) for name in ("nll", "augrc")}
        tune.report({"fold": fold + 1, **mean})  # as its record has them


@contextmanager
def journal(run: RunFolder) -> Iterator[Path]:
    """A new file for Optuna's study, which is made anew from the records: they are the truth.

    The journal grows line by line, which an object store cannot do: there the whole study appears
    when the search has ended.
    """
    for file in run.path.glob(f"{run.study.name}*"):  # a killed driver leaves a lock beside it
        file.unlink()
    if isinstance(run.study, Path):
        yield run.study
    else:
        with atomic_write(run.study) as here:
            yield here


def search_trials(
    run: RunFolder,
    task: Task,
    projected: Mapping[str, ProjectedImages],
    default: MemberConfig,
    search: SearchConfig,
    size: int,
    observer: Observer,
) -> list[TrialRecord]:
    """Run the trials that are missing, and complete pruned ones if fewer than ``size`` are.

    Args:
        run: Where records are read and written.
        task: Features, labels, folds.
        projected: Training images along their directions, as far as they were found before.
        default: The recipe that trial 0 has and the others start from.
        search: Ranges, number, resources.
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
    work = tune.with_parameters(
        run_trial,
        run=run,
        task=task,
        projected=projected,
        default=default,
        threads=search.cpus_per_trial,
    )
    _try_missing(run, task, default, search, observer, work)
    _complete(run, task, search, observer, work, trials_to_complete(read_records(run), size))
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


def _try_missing(
    run: RunFolder,
    task: Task,
    default: MemberConfig,
    search: SearchConfig,
    observer: Observer,
    work: Trainable,
) -> None:
    """Try new settings until ``search.trials`` have ended or the time is over.

    That is one call of Ray Tune. Where it gives a trial up too early, no further ones begin, and
    another call goes on from the records: as if the search had been interrupted there.
    """
    began, ended = time.monotonic(), read_records(run)
    space = distributions(search)
    first = default_params(default, task.end_to_end.settings if task.end_to_end else None)
    while len(ended) < search.trials:
        pruned: set[str] = set()
        given_up: list[TrialRecord] = []
        recorder = Recorder(run, task, observer, pruned, given_up)
        with journal(run) as file:
            storage = JournalStorage(JournalFileBackend(str(file)))
            tune_settings = {
                "search_alg": RecordedOptuna(
                    space,
                    storage,
                    search.seed,
                    first,
                    ended,
                    pruned,
                    given_up,
                    search.objectives,
                ),
                "scheduler": RecordedASHA(task.folds, search.reduction, ended, pruned),
                "num_samples": search.trials - len(ended),
                "time_budget_s": seconds_left(search.time_budget, time.monotonic() - began),
            }
            _tune(run, task, search, work, recorder, {}, tune_settings)
        before, ended = len(ended), read_records(run)
        left = seconds_left(search.time_budget, time.monotonic() - began)
        if not is_worth_another_call(len(given_up), len(ended) - before, left):
            for record in given_up:
                record_end(run, observer, record)
            break


def _complete(
    run: RunFolder,
    task: Task,
    search: SearchConfig,
    observer: Observer,
    work: Trainable,
    asked: Sequence[TrialRecord],
) -> None:
    """Judge pruned trials on all folds; those that Ray Tune gives up too early, in another call."""
    while asked:
        given_up: list[TrialRecord] = []
        again = [{"number": record.number, "params": record.params} for record in asked]
        recorder = Recorder(run, task, observer, set(), given_up)
        _tune(run, task, search, work, recorder, {"trial": tune.grid_search(again)}, {})
        ended = len(asked) - len(given_up)
        asked = given_up if is_worth_another_call(len(given_up), ended, None) else []


def seconds_left(budget: float | None, spent: float) -> float | None:
    """What of a time budget is left, at least 0; None if there is no budget."""
    return None if budget is None else max(0.0, budget - spent)


def is_worth_another_call(given_up: int, ended: int, seconds: float | None) -> bool:
    """Whether Ray Tune is called again for trials that it gave up too early: others ended in the
    last call (so calls come to an end), and time is left.
    """
    return given_up > 0 and ended > 0 and seconds != 0


def _tune(
    run: RunFolder,
    task: Task,
    search: SearchConfig,
    work: Trainable,
    recorder: Recorder,
    space: dict[str, Any],
    tune_settings: dict[str, Any],
) -> None:
    """One call of Ray Tune; its own files go to a new folder below ``ray``, for TensorBoard."""
    for name in ("ray.tune", "ray.train._internal.storage"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # records say which trial failed, why
    attempts = run.path / "ray"
    name = f"search-{len(list(attempts.glob('search-*')))}"
    files, where = filesystem_and_path(attempts)
    resources: dict[str, float] = {"CPU": search.cpus_per_trial, "GPU": search.gpus_per_trial}
    concurrent = concurrent_trials(search)
    if task.end_to_end:  # its workers are Ray Train's, which Tune does not count
        resources, concurrent = {"memory": 1}, concurrent_trainings(search, task.end_to_end.scale)
    tuner = tune.Tuner(
        tune.with_resources(work, resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrent, reuse_actors=True, **tune_settings
        ),
        run_config=tune.RunConfig(
            name=name,
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


def cause_of(fault: BaseException) -> BaseException:
    """What kept a record from being written, which Ray Tune wraps in a fault of its own."""
    within: BaseException | None = fault
    while within is not None and not isinstance(within, UserError):
        within = within.__cause__ or within.__context__
    return within or fault

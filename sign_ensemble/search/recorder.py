"""A callback of Ray Tune that writes the records of trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from ray import tune

from sign_ensemble.core.atomic_files import read_arrays
from sign_ensemble.core.interrupts import raise_if_interrupted
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.learning.task import Kind, Task
from sign_ensemble.search.records import TrialRecord, write_record


class Observer(Protocol):
    """An object that is notified of the search's progress."""

    def started(self, number: int) -> None:
        """A trial began."""

    def progressed(self, number: int, folds: int, nll: float) -> None:
        """A trial has ended a fold; ``nll`` is its mean so far."""

    def ended(self, record: TrialRecord) -> None:
        """A trial ended."""


class Recorder(tune.Callback):
    """Writes each ended trial's record and notifies the observer.

    A trial that Ray Tune gave up too early has not ended: its record is added to ``given_up``
    instead.
    """

    def __init__(
        self,
        run: RunFolder,
        task: Task,
        observer: Observer,
        pruned: set[str],
        given_up: list[TrialRecord],
        kind: Kind,
    ) -> None:
        self._kind: Kind = kind
        self._run, self._task, self._observer = run, task, observer
        self._pruned, self._given_up = pruned, given_up
        self._recovered: dict[str, int] = {}  # trial → Tune's iteration

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles callbacks for its own way of resuming, which is not used here."""
        return {}

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Between two steps of Ray Tune, an interrupt ends the search."""
        raise_if_interrupted()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A worker began the trial."""
        self._observer.started(trial.config["trial"]["number"])

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A fold has ended."""
        self._observer.progressed(trial.config["trial"]["number"], result["fold"], result["nll"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """All folds have ended, or ASHA or a spent time budget (no end) stopped the trial."""
        done = (trial.last_result or {}).get("fold", 0)
        if done == self._task.folds:
            self._record(trial, "complete", done)
        elif trial.trial_id in self._pruned:
            self._record(trial, "pruned", done)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial failed and is restarted."""
        self._recovered[trial.trial_id] = iteration

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial failed more often than allowed, or Ray Tune gave it up too early."""
        file = Path(trial.error_file or "")  # trial.get_error's copy is not there yet
        text = (file.read_text() if file.is_file() else "unknown").strip().splitlines()
        error = text[-1] if text else "unknown"
        number, params = trial.config["trial"]["number"], trial.config["trial"]["params"]
        record = TrialRecord(number, "failed", dict(params), (), error, self._kind)
        if is_given_up_too_early(self._recovered.get(trial.trial_id), iteration):
            self._given_up.append(record)
        else:
            record_end(self._run, self._observer, record)

    def _record(self, trial: Any, status: Literal["complete", "pruned"], done: int) -> None:
        number, params = trial.config["trial"]["number"], trial.config["trial"]["params"]
        folder = self._run.trial(number)
        headers = (read_arrays(folder / f"fold-{fold}.safetensors")[1] for fold in range(done))
        folds = tuple(dict(header["figures"]) for header in headers)
        record = TrialRecord(number, status, dict(params), folds, kind=self._kind)
        record_end(self._run, self._observer, record)


def is_given_up_too_early(recovered: int | None, given_up: int) -> bool:
    """Whether Ray Tune gave a trial up for a failure that it had just recovered from.

    When a worker dies that is kept for the next trial (``reuse_actors``), Tune learns of it twice
    in one iteration: from the worker, so that the trial is restarted, and from the task that hands
    the next trial over, so that a waiting trial is given up at once, whatever
    ``search.max_failures`` allows. Source: ``RayActorManager._actor_task_failed`` and
    ``TuneController._process_trial_failure`` of Ray 2.60.

    Both arguments are Tune's iterations: of the trial's last restart, and the present one.
    """
    return recovered == given_up


def record_end(run: RunFolder, observer: Observer, record: TrialRecord) -> None:
    """Write an ended trial's record and notify the observer."""
    write_record(run, record)
    observer.ended(record)

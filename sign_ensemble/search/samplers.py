"""Optuna's sampler and Ray's ASHA, which resume from the records of an interrupted search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from sign_ensemble.learning.task import seed_of
from sign_ensemble.search.records import TrialRecord
from sign_ensemble.search.space import clipped_to_space


def as_optuna(record: TrialRecord, space: dict[str, BaseDistribution]) -> FrozenTrial:
    """An ended trial as Optuna stores it."""
    running = record.running_nll
    return create_trial(
        state=TrialState.COMPLETE if record.status == "complete" else TrialState.PRUNED,
        value=running[-1] if running else None,
        params=clipped_to_space(record.params, space),
        distributions=space,
        intermediate_values=dict(enumerate(running, 1)),
        user_attrs={"number": record.number},
    )


class RecordedOptuna(OptunaSearch):
    """OptunaSearch that begins with ended trials and gives each new one the next free number, of
    those that begin with the first of ``numbers`` and go in steps of the second.

    Every trial is drawn by a new TPESampler, seeded by the trial's number: the draw depends on the
    seed and the ended trials alone, so that a resumed search draws the same.

    A trial that ASHA stopped is pruned for Optuna: its loss after a few folds is not comparable
    with that of all folds, and TPE ranks pruned trials accordingly. Once there is a trial in
    ``given_up``, no further ones begin, since they would be drawn without its result.
    """

    def __init__(
        self,
        space: dict[str, BaseDistribution],
        storage: BaseStorage,
        seed: int,
        default: dict[str, Any],
        ended: Sequence[TrialRecord],
        pruned: set[str],
        given_up: Sequence[TrialRecord],
        numbers: tuple[int, int] = (0, 1),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        super().__init__(space, metric="nll", mode="min", storage=storage)
        self._search_seed, self._default, self._numbers = seed, default, numbers
        self._used = {record.number for record in ended}
        self._pruned, self._given_up = pruned, given_up
        for record in ended:
            self._ot_study.add_trial(as_optuna(record, space))
        if numbers[0] not in self._used:
            self._ot_study.enqueue_trial(clipped_to_space(default, space))

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Parameters and the trial's number."""
        if self._given_up:
            finished: Any = Searcher.FINISHED
            return finished
        number = next(n for n in count(*self._numbers) if n not in self._used)
        self._used.add(number)
        seed = seed_of(self._search_seed, number)
        self._ot_study.sampler = TPESampler(seed=seed, n_startup_trials=8)
        params = super().suggest(trial_id)
        if number == self._numbers[0]:
            params = self._default  # unclipped
        self._ot_trials[trial_id].set_user_attr("number", number)
        return {"trial": {"number": number, "params": params}}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass a trial's end on to Optuna."""
        if trial_id not in self._pruned or error:
            super().on_trial_complete(trial_id, result, error)
        elif trial_id not in self._completed_trials:
            if result:  # Tune has not reported the fold after which ASHA stopped the trial
                self._ot_trials[trial_id].report(result["nll"], result["fold"])
            self._ot_study.tell(self._ot_trials[trial_id], state=TrialState.PRUNED)
            self._completed_trials.add(trial_id)


class RecordedASHA(ASHAScheduler):
    """ASHA over folds that begins with ended trials and records which ones it stops."""

    def __init__(
        self, folds: int, reduction: int, ended: Sequence[TrialRecord], pruned: set[str]
    ) -> None:
        super().__init__(
            time_attr="fold", metric="nll", mode="min", max_t=folds, reduction_factor=reduction
        )
        for record in ended:
            stand_in: Any = SimpleNamespace(trial_id=f"ended-{record.number}")
            self.on_trial_add(None, stand_in)
            for fold, value in enumerate(record.running_nll, 1):
                super().on_trial_result(None, stand_in, {"fold": fold, "nll": value})
            self.on_trial_remove(None, stand_in)
        self._folds = folds
        self._pruned = pruned

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial continues with its next fold."""
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP and result.get("fold", self._folds) < self._folds:
            self._pruned.add(trial.trial_id)
        return str(decision)

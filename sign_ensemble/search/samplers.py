"""What to try next and what to stop: Optuna's sampler and Ray's ASHA, both able to start from the
records of an earlier, interrupted call instead of from pickled state.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from sign_ensemble.learning.task import seed_of
from sign_ensemble.search.records import TrialRecord
from sign_ensemble.search.space import clipped_to_space


class RepeatableTPE(BaseSampler):
    """Optuna's TPE whose draw for a trial depends on the seed, the trial's number and the ended
    trials alone.

    A TPESampler's random state moves with every draw, so a search started again would draw
    otherwise. Here every trial has a fresh TPESampler, seeded by the trial's number: that a record
    has, not the place in the study, which is another one after an interruption.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.begin(0)

    def begin(self, number: int) -> None:
        """The draws that follow are for the trial of this number."""
        self._inner = TPESampler(seed=seed_of(self._seed, number), n_startup_trials=8)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As TPESampler."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPESampler."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As TPESampler."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)


def as_optuna(
    record: TrialRecord, space: dict[str, BaseDistribution], objectives: Sequence[str]
) -> FrozenTrial:
    """An ended trial as Optuna stores it; a pruned one keeps its intermediate values only, which
    Optuna has not where there are several objectives.
    """
    state = TrialState.COMPLETE if record.status == "complete" else TrialState.PRUNED
    running = record.running_nll if len(objectives) == 1 else []
    values = record.objectives(objectives) if state == TrialState.COMPLETE else running[-1:]
    return create_trial(
        state=state,
        values=values or None,
        params=clipped_to_space(record.params, space),
        distributions=space,
        intermediate_values=dict(enumerate(running, 1)),
        user_attrs={"number": record.number},
    )


class RecordedOptuna(OptunaSearch):
    """OptunaSearch that begins with ended trials and names each new one by the next free number.

    A trial that ASHA stopped is told to Optuna as pruned: its loss after one fold is not comparable
    with others' after all folds, and Optuna's TPE ranks pruned trials accordingly. Once there is a
    trial in ``given_up``, no further ones begin: they would be drawn without knowing how it ends.

    Of several objectives, all are lowered, and a pruned trial is told without a value, as Optuna
    wants it: its TPE then ranks pruned trials behind complete ones, the earliest first.
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
        objectives: Sequence[str] = ("nll",),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._tpe = RepeatableTPE(seed)
        names: Any = list(objectives) if len(objectives) > 1 else objectives[0]
        modes: Any = ["min"] * len(objectives) if len(objectives) > 1 else "min"
        super().__init__(space, metric=names, mode=modes, sampler=self._tpe, storage=storage)
        self._several = len(objectives) > 1
        self._default = default
        self._used = {record.number for record in ended}
        self._pruned, self._given_up = pruned, given_up
        for record in ended:
            self._ot_study.add_trial(as_optuna(record, space, objectives))
        if 0 not in self._used:
            self._ot_study.enqueue_trial(clipped_to_space(default, space))

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Parameters and the trial's number."""
        if self._given_up:
            finished: Any = Searcher.FINISHED
            return finished
        number = next(n for n in count() if n not in self._used)
        self._used.add(number)
        self._tpe.begin(number)
        params = super().suggest(trial_id)
        if number == 0:
            params = self._default  # to the letter, also where it lies outside the space
        self._ot_trials[trial_id].set_user_attr("number", number)
        return {"trial": {"number": number, "params": params}}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended."""
        if trial_id not in self._pruned or error:
            super().on_trial_complete(trial_id, result, error)
        elif trial_id not in self._completed_trials:
            # Tune has not passed on the fold after which ASHA stopped it
            if result and not self._several:
                self._ot_trials[trial_id].report(result["nll"], result["fold"])
            self._ot_study.tell(self._ot_trials[trial_id], state=TrialState.PRUNED)
            self._completed_trials.add(trial_id)


class RecordedASHA(ASHAScheduler):
    """ASHA over folds that has seen the ended trials and remembers whom it stopped."""

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
        """Whether the trial goes on to its next fold."""
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP and result.get("fold", self._folds) < self._folds:
            self._pruned.add(trial.trial_id)
        return str(decision)

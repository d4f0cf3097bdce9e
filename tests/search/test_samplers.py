"""A search that starts from records suggests and stops as if it had never been interrupted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher

from sign_ensemble.core.config import MemberConfig, SearchConfig
from sign_ensemble.search.records import TrialRecord
from sign_ensemble.search.samplers import RecordedASHA, RecordedOptuna, as_optuna
from sign_ensemble.search.space import (
    LANDMARK_MEMBER,
    clipped_to_space,
    default_params,
    distributions,
)

SEARCH = SearchConfig()
SPACE = distributions(SEARCH)
DEFAULT = default_params(MemberConfig())


def loss(params: dict[str, Any], fold: int) -> float:
    """A made-up loss that depends on the parameters."""
    return abs(params["dropout"] - 0.4) + params["label_smoothing"] + 0.1 * fold


def searcher(path: Path, ended: list[TrialRecord]) -> RecordedOptuna:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return RecordedOptuna(SPACE, storage, 7, DEFAULT, ended, set(), [])


def run_on(search: RecordedOptuna, records: list[TrialRecord], until: int) -> list[TrialRecord]:
    """Trials one at a time, every third pruned after two of three folds."""
    while len(records) < until:
        trial = search.suggest(f"t{len(records)}")
        assert trial is not None
        number, params = trial["trial"]["number"], trial["trial"]["params"]
        folds = 2 if number % 3 == 2 else 3
        values = tuple({"nll": loss(params, fold)} for fold in range(folds))
        record = TrialRecord(number, "complete" if folds == 3 else "pruned", params, values)
        for fold, value in enumerate(record.running_nll, 1):
            last = {"nll": value, "fold": fold, "training_iteration": fold}
            if fold < folds or folds == 3:  # Tune withholds the result after which ASHA stops
                search.on_trial_result(f"t{len(records)}", last)
        if folds == 2:
            search._pruned.add(f"t{len(records)}")
        search.on_trial_complete(f"t{len(records)}", last)
        records.append(record)
    return records


@pytest.mark.parametrize("stop", [1, 5, 12, 14])
def test_interrupted_search_suggests_the_same(tmp_path: Path, stop: int) -> None:
    uninterrupted = run_on(searcher(tmp_path / "a", []), [], 16)
    first = run_on(searcher(tmp_path / "b", []), [], stop)
    again = run_on(searcher(tmp_path / "c", list(first)), list(first), 16)
    assert [record.params for record in again] == [record.params for record in uninterrupted]
    assert len({str(record.params) for record in uninterrupted}) == 16


def test_default_recipe_is_first_to_the_letter(tmp_path: Path) -> None:
    first = run_on(searcher(tmp_path / "study", []), [], 1)[0]
    assert first.number == 0
    assert first.params == DEFAULT
    assert first.params["weight_decay"] == 0.0  # outside of the logarithmic range


def test_sampler_sees_the_default_inside_its_space() -> None:
    clipped = clipped_to_space(DEFAULT, SPACE)
    assert clipped["weight_decay"] == SEARCH.weight_decay[0]
    assert clipped["augment_prob"] == SEARCH.augment_prob[0]
    assert clipped["epochs"] == min(SEARCH.epochs)
    for name, distribution in SPACE.items():
        assert distribution._contains(distribution.to_internal_repr(clipped[name])), name


def test_numbers_fill_the_gaps(tmp_path: Path) -> None:
    ended = [
        TrialRecord(number, "complete", DEFAULT, ({"nll": 1.0}, {"nll": 1.0}, {"nll": 1.0}))
        for number in (0, 2)
    ]
    search = searcher(tmp_path / "study", ended)
    numbers = []
    for i in range(3):
        trial = search.suggest(f"t{i}")
        assert trial is not None
        numbers.append(trial["trial"]["number"])
    assert numbers == [1, 3, 4]


def test_kinds_take_turns_in_the_numbers(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study")))
    space, first = distributions(SEARCH, "landmarks"), default_params(LANDMARK_MEMBER)
    ended = [TrialRecord(3, "complete", first, ({"nll": 1.0},), kind="landmarks")]
    search = RecordedOptuna(space, storage, 7, first, ended, set(), [], (1, 2))
    drawn = [search.suggest(f"t{i}") for i in range(3)]
    assert [each["trial"]["number"] for each in drawn if each] == [1, 5, 7]
    assert drawn[0] and drawn[0]["trial"]["params"] == first  # the kind's first trial


def test_no_trial_begins_after_one_was_given_up_early(tmp_path: Path) -> None:
    """It would be drawn without the losses of that one, which is run again."""
    given_up: list[TrialRecord] = []
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study")))
    search = RecordedOptuna(SPACE, storage, 7, DEFAULT, [], set(), given_up)
    assert search.suggest("t0") is not None
    given_up.append(TrialRecord(0, "failed", DEFAULT, ()))
    assert str(search.suggest("t1")) == Searcher.FINISHED
    assert len(search._ot_study.trials) == 1


def test_pruned_trials_reach_optuna_as_pruned(tmp_path: Path) -> None:
    search = searcher(tmp_path / "study", [])
    run_on(search, [], 6)
    states = [trial.state for trial in search._ot_study.trials]
    assert states.count(TrialState.PRUNED) == 2
    assert states.count(TrialState.COMPLETE) == 4
    assert list(search._ot_study.trials[2].intermediate_values) == [1, 2]
    study = optuna.load_study(
        study_name=None, storage=JournalStorage(JournalFileBackend(str(tmp_path / "study")))
    )
    assert [trial.user_attrs["number"] for trial in study.trials] == list(range(6))


def test_records_come_back_to_optuna_as_they_were() -> None:
    folds = ({"nll": 0.5}, {"nll": 0.3}, {"nll": 0.1})
    complete = as_optuna(TrialRecord(3, "complete", DEFAULT, folds), SPACE)
    assert complete.state is TrialState.COMPLETE
    assert complete.value == pytest.approx(0.3)
    assert complete.intermediate_values == pytest.approx({1: 0.5, 2: 0.4, 3: 0.3})
    pruned = as_optuna(TrialRecord(4, "pruned", DEFAULT, folds[:1]), SPACE)
    assert pruned.state is TrialState.PRUNED
    assert pruned.intermediate_values == {1: 0.5}


def trial_named(name: str) -> Any:
    return SimpleNamespace(trial_id=name)


def test_halving_by_hand() -> None:
    """Four folds, best half goes on at folds 1 and 2."""
    pruned: set[str] = set()
    asha = RecordedASHA(4, 2, [], pruned)
    for name in "abcd":
        asha.on_trial_add(None, trial_named(name))

    def decide(name: str, fold: int, nll: float) -> str:
        return asha.on_trial_result(None, trial_named(name), {"fold": fold, "nll": nll})

    assert decide("a", 1, 0.5) == "CONTINUE"  # the first is compared with none
    assert decide("b", 1, 0.4) == "CONTINUE"
    assert decide("c", 1, 0.6) == "STOP"  # median of .5 and .4 is .45
    assert decide("d", 1, 0.45) == "CONTINUE"
    assert decide("a", 4, 0.5) == "STOP"  # the end of a trial is no pruning
    assert pruned == {"c"}


def test_halving_goes_on_from_records() -> None:
    ended = [
        TrialRecord(0, "complete", DEFAULT, tuple({"nll": v} for v in (0.5, 0.5, 0.5, 0.5))),
        TrialRecord(1, "pruned", DEFAULT, ({"nll": 0.7},)),
    ]
    for nll, decision in ((0.61, "STOP"), (0.59, "CONTINUE")):  # the median is .6
        asha = RecordedASHA(4, 2, ended, set())
        asha.on_trial_add(None, trial_named("new"))
        assert asha.on_trial_result(None, trial_named("new"), {"fold": 1, "nll": nll}) == decision

"""How often Ray Tune is called, and for which trials: its calls are simulated, trial by trial.

That real calls behave so is tested with the main job.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from sign_ensemble.core.atomic_files import write_arrays
from sign_ensemble.core.config import MemberConfig, SearchConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.task import KINDS, Kind, Task
from sign_ensemble.search import trials
from sign_ensemble.search.recorder import is_given_up_too_early
from sign_ensemble.search.records import TrialRecord, read_records, write_record
from sign_ensemble.search.space import LANDMARK_MEMBER, default_params
from sign_ensemble.search.trials import is_worth_another_call, search_trials, seconds_left

DEFAULT = MemberConfig()
PARAMS = default_params(DEFAULT)
FIGURES = {
    "fold": 0, "n": 2, "nll": 0.5, "accuracy": 0.5, "ece": 0.25, "epochs": 1, "best_epoch": 1,
    "seconds": 1.0,
}  # fmt: skip

Fate = Literal["complete", "lost while idle", "failed"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.trials.mkdir(parents=True)
    return run


class Quiet:
    """An observer that notes how trials ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []

    def started(self, number: int) -> None: ...

    def progressed(self, number: int, folds: int, nll: float) -> None: ...

    def ended(self, record: TrialRecord) -> None:
        self.seen.append((record.number, record.status))


class Played:
    """Calls of Ray Tune in which the trials end as given, one list of fates per call."""

    def __init__(self, run: RunFolder, *calls: list[Fate]) -> None:
        self._run, self._calls = run, list(calls)
        self.numbers: list[list[int]] = []
        self.budgets: list[float | None] = []
        self.clock = 0.0  # seconds; a trial takes one

    def __call__(self, recorder: Any, space: Any, settings: Any) -> None:
        fates, numbers = self._calls.pop(0), []
        self.budgets.append(settings.get("time_budget_s"))
        for i, fate in enumerate(fates):
            if settings:
                config = settings["search_alg"].suggest(f"t{i}")
            else:
                config = {"trial": space["trial"]["grid_search"][i]}
            number = config["trial"]["number"]
            numbers.append(number)
            self._play(recorder, config, number, fate)
        if settings and len(fates) < settings["num_samples"] and "lost while idle" in fates:
            assert settings["search_alg"].suggest("one more") == "FINISHED"
        self.numbers.append(numbers)

    def _play(self, recorder: Any, config: Any, number: int, fate: Fate) -> None:
        self.clock += 1
        trial = SimpleNamespace(
            trial_id=f"t{number}", config=config, last_result={"fold": 1}, error_file=None
        )
        about: dict[str, Any] = {"trials": [], "trial": trial}
        if fate == "complete":
            path = self._run.trial(number) / "fold-0.safetensors"
            write_arrays(path, {"logits": np.zeros(1)}, {"figures": FIGURES})
            recorder.on_trial_complete(10 * number, **about)
            return
        recorder.on_trial_recover(10 * number, **about)
        later = 0 if fate == "lost while idle" else 1
        recorder.on_trial_error(10 * number + later, **about)


def searched(
    monkeypatch: pytest.MonkeyPatch, run: RunFolder, played: Played, size: int = 1, **more: Any
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Number and status of each trial as recorded, and as the observer was notified."""
    monkeypatch.setattr(trials._TuneCalls, "call", played)
    monkeypatch.setattr("time.monotonic", lambda: played.clock)
    features = CachedArray("", np.arange(1), (1, 1), "float16")
    task = Task(features, np.zeros(1, np.int64), np.zeros(1, np.int64), ("ada",), ("U",), 0)
    observer = Quiet()
    defaults: dict[Kind, MemberConfig] = {"pixels": DEFAULT, "landmarks": LANDMARK_MEMBER}
    defaults = {kind: defaults[kind] for kind in more.pop("kinds", ("pixels",))}
    search = SearchConfig(**{"trials": 4, **more})
    found = search_trials(run, task, {}, defaults, search, size, observer)
    return [(record.number, record.status) for record in found], observer.seen


def test_a_trial_given_up_too_early_is_run_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(run, ["complete", "lost while idle"], ["complete"] * 3)
    found, seen = searched(monkeypatch, run, played)
    assert played.numbers == [[0, 1], [1, 2, 3]]
    assert found == seen == [(number, "complete") for number in range(4)]


def test_a_failed_trial_is_recorded_and_not_run_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(run, ["complete", "failed", "complete", "complete"])
    found, _ = searched(monkeypatch, run, played)
    assert [number for number, status in found if status == "failed"] == [1]


def test_calls_end_where_no_trial_does(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(run, ["complete", "lost while idle"], ["lost while idle"])
    found, _ = searched(monkeypatch, run, played)
    assert played.numbers == [[0, 1], [1]]
    assert found == [(0, "complete"), (1, "failed")]


def test_another_call_has_the_time_that_is_left(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(run, ["complete", "lost while idle"], ["complete", "lost while idle"])
    found, _ = searched(monkeypatch, run, played, time_budget=3.5)
    assert played.budgets == [3.5, 1.5]
    assert found == [(0, "complete"), (1, "complete"), (2, "failed")]


def test_a_pruned_trial_given_up_too_early_is_completed_in_another_call(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        status: Literal["complete", "pruned"] = "complete" if number == 0 else "pruned"
        write_record(run, TrialRecord(number, status, PARAMS, (FIGURES,)))
    played = Played(run, ["complete", "lost while idle"], ["complete"])
    found, seen = searched(monkeypatch, run, played, size=3, trials=3)
    assert played.numbers == [[1, 2], [2]]
    assert found == [(number, "complete") for number in range(3)]
    assert seen == [(1, "complete"), (2, "complete")]


def test_a_pruned_trial_that_cannot_be_completed_stays_pruned(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(run, TrialRecord(0, "complete", PARAMS, (FIGURES,)))
    write_record(run, TrialRecord(1, "pruned", PARAMS, (FIGURES,)))
    searched(monkeypatch, run, Played(run, ["lost while idle"]), size=2, trials=2)
    assert [record.status for record in read_records(run)] == ["complete", "pruned"]


def test_each_kind_has_its_trials_and_they_take_turns_in_the_numbers(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(run, ["complete"] * 2, ["complete", "lost while idle"], ["complete"])
    found, _ = searched(monkeypatch, run, played, trials=2, kinds=KINDS)
    assert played.numbers == [[0, 2], [1, 3], [3]]
    assert found == [(number, "complete") for number in range(4)]
    records = read_records(run)
    assert [record.kind for record in records] == ["pixels", "landmarks"] * 2
    assert records[0].params == PARAMS
    assert records[1].params == default_params(LANDMARK_MEMBER)
    assert run.study.exists() and run.landmark_study.exists()


def test_every_kind_must_complete_a_trial(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(run, ["complete"], ["failed"])
    with pytest.raises(UserError, match="no trial was completed"):
        searched(monkeypatch, run, played, trials=1, kinds=KINDS)


@pytest.mark.parametrize(
    ("recovered", "given_up", "early"), [(7, 7, True), (6, 7, False), (None, 7, False)]
)
def test_one_failure_counted_twice_is_told_from_two(
    recovered: int | None, given_up: int, early: bool
) -> None:
    assert is_given_up_too_early(recovered, given_up) == early


@pytest.mark.parametrize(
    ("given_up", "ended", "seconds", "again"),
    [(1, 1, None, True), (0, 1, None, False), (1, 0, None, False), (1, 1, 0.0, False)],
)
def test_when_another_call_is_made(
    given_up: int, ended: int, seconds: float | None, again: bool
) -> None:
    assert is_worth_another_call(given_up, ended, seconds) == again


def test_time_that_is_left() -> None:
    assert seconds_left(None, 9.0) is None
    assert seconds_left(10.0, 2.5) == 7.5
    assert seconds_left(10.0, 12.0) == 0.0

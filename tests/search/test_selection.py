"""Which trials become members, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any, Literal

import numpy as np
import pytest

from sign_ensemble.search.records import TrialRecord
from sign_ensemble.search.selection import fold_mean_nll, greedy, ranked, top_k, trials_to_complete

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
Status = Literal["complete", "pruned", "failed"]


def trial(number: int, status: Status, *nlls: float) -> TrialRecord:
    return TrialRecord(number, status, {}, tuple({"nll": value} for value in nlls))


def numbers(records: list[TrialRecord]) -> list[int]:
    return [record.number for record in records]


TRIALS = [
    trial(4, "complete", 0.5, 0.3),
    trial(0, "complete", 0.9, 0.9),
    trial(1, "pruned", 0.01),  # better than all, on the easiest fold alone
    trial(3, "complete", 0.3, 0.5),
    trial(2, "failed"),
    trial(5, "complete", 0.1, 0.2),
]


def test_complete_trials_are_ranked_by_loss_and_ties_by_number() -> None:
    assert numbers(ranked(TRIALS)) == [5, 3, 4, 0]
    assert numbers(ranked(TRIALS[::-1])) == [5, 3, 4, 0]


def test_top_k_gives_the_best_one_vote_each() -> None:
    assert top_k(TRIALS, 2) == {5: 1, 3: 1}
    assert list(top_k(TRIALS, 3)) == [5, 3, 4]
    assert top_k(TRIALS, 9) == {5: 1, 3: 1, 4: 1, 0: 1}  # there are no more
    assert top_k(TRIALS[4:5], 3) == {}


def test_top_k_takes_as_many_of_each_kind_and_pixels_first() -> None:
    records = [replace(each, kind="landmarks") for each in TRIALS[:3]] + TRIALS[3:]
    assert list(top_k(records, 1)) == [5, 4]
    assert list(top_k(records, 3)) == [5, 3, 4, 0]  # there are two complete ones of each


# --- greedy ---------------------------------------------------------------------------------------


def test_greedy_lowers_the_loss_it_is_given() -> None:
    trials = {0: np.array([[0.9, 0.1]]), 1: np.array([[0.2, 0.8]])}
    assert greedy(trials, lambda probs: float(probs[0, 0]), 1) == {1: 1}
    assert greedy(trials, lambda probs: abs(float(probs[0, 0]) - 0.55), 2) == {1: 1, 0: 1}


def of_truth(*rows: list[float]) -> dict[int, np.ndarray]:
    """Trials by their probability of the true label, which is 0 for each image; two labels."""
    return {
        number: np.stack([np.array(row), 1 - np.array(row)], -1) for number, row in enumerate(rows)
    }


def select(trials: dict[int, np.ndarray], size: int) -> dict[int, int]:
    n = len(next(iter(trials.values())))
    return greedy(trials, lambda probs: fold_mean_nll(probs, np.zeros(n, int), np.arange(n)), size)


def test_each_fold_counts_once_in_the_loss() -> None:
    probs = np.array([[0.5, 0.5], [0.8, 0.2], [0.8, 0.2], [0.9, 0.1]])
    labels, folds = np.array([0, 1, 1, 0]), np.array([7, 7, 7, 3])
    by_hand = (-(log(0.5) + 2 * log(0.2)) / 3 - log(0.9)) / 2
    assert fold_mean_nll(probs, labels, folds) == pytest.approx(by_hand, **EXACT)


def test_an_impossible_label_costs_much_and_not_infinitely_much() -> None:
    probs = np.array([[0.0, 1.0]])
    found = fold_mean_nll(probs, np.array([0]), np.array([0]))
    assert found == pytest.approx(300 * log(10))


def test_two_complementary_trials_beat_both() -> None:
    # each alone costs -(log .9 + log .3) / 2 = 0.65, together -log .6 = 0.51, and a second vote
    # for either -(log .7 + log .5) / 2 = 0.52
    assert select(of_truth([0.9, 0.3], [0.3, 0.9]), 1) == {0: 1}
    assert select(of_truth([0.9, 0.3], [0.3, 0.9]), 2) == {0: 1, 1: 1}
    assert select(of_truth([0.9, 0.3], [0.3, 0.9]), 3) == {0: 1, 1: 1}


def test_a_trial_is_chosen_again_where_that_helps() -> None:
    # costs: 0 alone 0.636; with 1 0.600; 0 twice and 1 once 0.571; three to one 0.572
    trials = of_truth([0.8, 0.35], [0.1, 0.99])
    assert select(trials, 2) == {0: 1, 1: 1}
    assert select(trials, 3) == {0: 2, 1: 1}
    assert select(trials, 4) == {0: 2, 1: 1}


def test_a_trial_that_helps_nobody_is_left_out() -> None:
    # the shortest list with the lowest loss: more votes for the one trial change nothing
    assert select(of_truth([0.9, 0.9], [0.4, 0.5]), 5) == {0: 1}


def test_ties_go_to_the_earlier_trial() -> None:
    trials = of_truth([0.7, 0.6], [0.7, 0.6])
    assert select({9: trials[0], 4: trials[1]}, 1) == {4: 1}


def test_members_are_listed_in_the_order_of_choice() -> None:
    trials = of_truth([0.3, 0.9], [0.9, 0.3], [0.2, 0.2])
    chosen = select({5: trials[0], 1: trials[2], 8: trials[1]}, 4)
    assert list(chosen) == [5, 8]


# --- pruned trials --------------------------------------------------------------------------------

PRUNED = [
    trial(0, "complete", 0.5, 0.5, 0.5),
    trial(1, "pruned", 0.1),
    trial(2, "pruned", 0.8, 0.6),
    trial(3, "pruned", 0.6, 0.6),
    trial(4, "pruned", 0.6, 0.6),
    trial(5, "failed"),
]


@pytest.mark.parametrize(
    ("size", "finished"),
    [(1, []), (2, [3]), (3, [3, 4]), (4, [3, 4, 2]), (5, [3, 4, 2, 1]), (9, [3, 4, 2, 1])],
)
def test_the_furthest_and_best_pruned_trials_are_worth_finishing(
    size: int, finished: list[int]
) -> None:
    assert numbers(trials_to_complete(PRUNED, size)) == finished

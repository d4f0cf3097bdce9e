"""Which trials' networks judge which folds."""

from __future__ import annotations

import pytest

from sign_ensemble.stages.finetune import seats


@pytest.mark.parametrize(
    ("votes", "folds", "rounds", "expected"),
    [
        ({7: 1}, 3, 1, [(7, 0), (7, 1), (7, 2)]),
        ({7: 1, 2: 1}, 3, 1, [(7, 0), (2, 1), (7, 2)]),
        ({7: 1, 2: 1, 9: 1, 4: 1}, 3, 1, [(7, 0), (2, 1), (9, 2)]),
        ({7: 2, 2: 1}, 2, 2, [(7, 0), (7, 1), (2, 0), (7, 1)]),
    ],
)
def test_every_fold_has_its_judges_and_the_best_trials_come_first(
    votes: dict[int, int], folds: int, rounds: int, expected: list[tuple[int, int]]
) -> None:
    assert seats(votes, folds, rounds) == expected

"""Who pays for a rule: counted by hand, and nobody where chance explains it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sign_ensemble.metrics.group_coverage import CHANCE, UnderCoveredGroup, under_covered_groups


def groups(**answered_of: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """So many answered of so many signs of each group."""
    names = np.repeat(list(answered_of), [n for _, n in answered_of.values()])
    return np.concatenate([np.arange(n) < k for k, n in answered_of.values()]), names


def test_a_group_far_below_is_named_and_the_worst_first() -> None:
    found = under_covered_groups(*groups(ada=(95, 100), ben=(70, 100), cleo=(20, 40)), 0.95)
    assert found == [UnderCoveredGroup("cleo", 20, 40), UnderCoveredGroup("ben", 70, 100)]
    chances = [float(binom.cdf(each.answered, each.n, 0.95)) for each in found]
    assert chances == sorted(chances) and chances[-1] < CHANCE / 3


def test_what_chance_explains_is_not_named() -> None:
    # P(Bin(10, .95) <= 8) = .086; with two groups .025 would be needed
    assert under_covered_groups(*groups(ada=(10, 10), ben=(8, 10)), 0.95) == []
    # P(Bin(10, .95) <= 7) = .0115
    assert under_covered_groups(*groups(ada=(10, 10), ben=(7, 10)), 0.95) == [
        UnderCoveredGroup("ben", 7, 10)
    ]


def test_many_groups_need_more() -> None:
    others = {f"label {i}": (10, 10) for i in range(25)}
    assert under_covered_groups(*groups(**others, m=(7, 10)), 0.95) == []  # .0115 > .05 / 26
    assert under_covered_groups(*groups(**others, m=(6, 10)), 0.95) == [
        UnderCoveredGroup("m", 6, 10)
    ]


def test_nobody_is_named_where_all_are_answered_or_nobody_is_there() -> None:
    assert under_covered_groups(*groups(ada=(5, 5)), 0.95) == []
    assert under_covered_groups(np.zeros(0, bool), np.zeros(0, str), 0.95) == []


def test_rarely_is_anyone_named_where_all_are_treated_alike() -> None:
    rng = np.random.default_rng(0)
    names = np.repeat(np.arange(26).astype(str), 20)
    named = sum(
        bool(under_covered_groups(rng.random(len(names)) < 0.95, names, 0.95)) for _ in range(400)
    )
    assert named / 400 <= CHANCE + 2 * np.sqrt(CHANCE * (1 - CHANCE) / 400)


def test_in_words() -> None:
    said = UnderCoveredGroup("m", 6, 10).words("label")
    assert said == "label m pays for the others: 6 of 10 of its signs are answered (60%)"


@pytest.mark.parametrize("target_coverage", [0.5, 0.9, 0.99])
def test_the_share_that_was_asked_for_decides(target_coverage: float) -> None:
    named = under_covered_groups(*groups(ada=(80, 100)), target_coverage)
    assert bool(named) == (target_coverage > 0.87)

"""Under-covered groups: counted by hand, and none where chance explains it."""

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
    assert found == [
        UnderCoveredGroup("cleo", 20, 40, 0.95),
        UnderCoveredGroup("ben", 70, 100, 0.95),
    ]
    chances = [float(binom.cdf(each.answered, each.n, 0.95)) for each in found]
    assert chances == sorted(chances) and chances[-1] < CHANCE / 3


def test_what_chance_explains_is_not_named() -> None:
    # P(Bin(10, .95) <= 8) = .086; with two groups .025 would be needed
    assert under_covered_groups(*groups(ada=(10, 10), ben=(8, 10)), 0.95) == []
    # P(Bin(10, .95) <= 7) = .0115
    assert under_covered_groups(*groups(ada=(10, 10), ben=(7, 10)), 0.95) == [
        UnderCoveredGroup("ben", 7, 10, 0.95)
    ]


def test_many_groups_need_more() -> None:
    others = {f"label {i}": (10, 10) for i in range(25)}
    assert under_covered_groups(*groups(**others, m=(7, 10)), 0.95) == []  # .0115 > .05 / 26
    assert under_covered_groups(*groups(**others, m=(6, 10)), 0.95) == [
        UnderCoveredGroup("m", 6, 10, 0.95)
    ]


def test_no_group_is_named_where_all_are_answered_or_there_is_none() -> None:
    assert under_covered_groups(*groups(ada=(5, 5)), 0.95) == []
    assert under_covered_groups(np.zeros(0, bool), np.zeros(0, str), 0.95) == []


def test_a_group_is_rarely_named_where_all_have_the_target_coverage() -> None:
    rng = np.random.default_rng(0)
    names = np.repeat(np.arange(26).astype(str), 20)
    named = sum(
        bool(under_covered_groups(rng.random(len(names)) < 0.95, names, 0.95)) for _ in range(400)
    )
    assert named / 400 <= CHANCE + 2 * np.sqrt(CHANCE * (1 - CHANCE) / 400)


def test_in_words() -> None:
    words = UnderCoveredGroup("anna", 31, 40, 0.95).words("signer")
    assert words == (
        "signer anna is under-covered: 31 of 40 of its signs are answered (78%), asked for 95%"
    )


@pytest.mark.parametrize("target_coverage", [0.5, 0.9, 0.99])
def test_the_target_coverage_decides(target_coverage: float) -> None:
    named = under_covered_groups(*groups(ada=(80, 100)), target_coverage)
    assert bool(named) == (target_coverage > 0.87)

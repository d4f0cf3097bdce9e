"""Conformal p-values and their negative logarithms, worked out by hand.

Letters: C calibration images.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
import pytest

from sign_ensemble.rejection.conformal import (
    beyond,
    conformal_p,
    loo_beyond,
    loo_neg_log_p,
    neg_log_p,
    resolution,
    signer_weights,
    tail_excess,
)

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


# --- p-values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "p"),
    [
        (0.5, 1.0),  # below all: every calibration image scores at least as high
        (1.0, 1.0),
        (1.5, 4 / 5),
        (2.0, 4 / 5),  # a tie counts as at least as high: 2, 2, 3 and the image itself
        (2.5, 2 / 5),
        (3.0, 2 / 5),
        (3.1, 1 / 5),  # above all: the image itself alone
    ],
)
def test_p_value_of_four_calibration_images(score: float, p: float) -> None:
    assert conformal_p(f(score), f(2, 1, 3, 2)) == pytest.approx([p], **EXACT)


def test_weights_equalise_signers() -> None:
    # signer 0 has three images at 1, 2, 3, signer 1 one image at 4: a sixth each, and a half
    calibration, weights = f(1, 2, 3, 4), signer_weights(np.array([0, 0, 0, 1]))
    scores = f(0, 1.5, 3.5, 5)
    by_hand = [(1 + 4 * 1) / 5, (1 + 4 * 5 / 6) / 5, (1 + 4 / 2) / 5, 1 / 5]
    assert conformal_p(scores, calibration, weights) == pytest.approx(by_hand, **EXACT)
    unweighted = [1.0, 4 / 5, 2 / 5, 1 / 5]
    assert conformal_p(scores, calibration) == pytest.approx(unweighted, **EXACT)


def test_order_of_calibration_images_never_matters() -> None:
    rng = np.random.default_rng(0)
    calibration, weights = np.round(rng.normal(size=40), 1), rng.uniform(size=40)
    scores, order = rng.normal(size=20), rng.permutation(40)
    weights /= weights.sum()
    found = conformal_p(scores, calibration, weights)
    assert conformal_p(scores, calibration[order], weights[order]) == pytest.approx(found, **EXACT)
    naive = [(1 + 40 * weights[calibration >= s].sum()) / 41 for s in scores]
    assert found == pytest.approx(naive, **EXACT)


@pytest.mark.parametrize("n", range(1, 60))
def test_no_p_value_exceeds_1(n: int) -> None:
    assert conformal_p(f(-1), np.arange(n, dtype=np.float64)) <= 1.0  # n times 1/n may pass 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    for scores, calibration in ((f(1, bad), f(1, 2)), (f(1), f(1, bad))):
        with pytest.raises(ValueError, match="finite"):
            conformal_p(scores, calibration)
        with pytest.raises(ValueError, match="finite"):
            neg_log_p(scores, calibration)


def test_no_calibration_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no calibration"):
        conformal_p(f(1), f())


def test_the_guarantee_holds_for_exchangeable_images() -> None:
    draws, n, a = 2000, 99, 0.05
    rng = np.random.default_rng(5)
    scores = rng.standard_cauchy((draws, n + 1))
    rounded = np.round(scores)  # many ties
    error = 3 * sqrt(a * (1 - a) / draws)
    p = np.concatenate([conformal_p(row[-1:], row[:-1]) for row in scores])
    assert abs(np.mean(p <= a + 1e-9) - a) < error  # 5 of 100 ranks: exactly a
    p = np.concatenate([conformal_p(row[-1:], row[:-1]) for row in rounded])
    assert np.mean(p <= a + 1e-9) < a + error  # ties only lower the share rejected


def test_signers_weigh_the_same() -> None:
    groups = np.array([7, 2, 7, 7, 9, 2])
    weights = signer_weights(groups)
    assert weights == pytest.approx([1 / 9, 1 / 6, 1 / 9, 1 / 9, 1 / 3, 1 / 6], **EXACT)
    for group in (2, 7, 9):
        assert weights[groups == group].sum() == pytest.approx(1 / 3, **EXACT)


def test_resolution_counts_signers_and_not_images() -> None:
    assert resolution(np.array([0, 0, 0, 4, 4, 9, 9])) == 1 / 4


# --- -log p ---------------------------------------------------------------------------------------

CALIBRATION = np.random.default_rng(3).gamma(2.0, size=60)
WEIGHTS = signer_weights(np.repeat([0, 1, 2], [10, 20, 30]))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_neg_log_p_is_exact_at_the_calibration_scores(weights: np.ndarray | None) -> None:
    by_hand = -np.log(conformal_p(CALIBRATION, CALIBRATION, weights))
    assert neg_log_p(CALIBRATION, CALIBRATION, weights) == pytest.approx(by_hand, **EXACT)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_neg_log_p_rises_without_jumps(weights: np.ndarray | None) -> None:
    low, high = CALIBRATION.min(), CALIBRATION.max()
    scores = np.linspace(low - 1, high + 3, 200_001)
    found = neg_log_p(scores, CALIBRATION, weights)
    assert (np.diff(found) >= 0).all()
    inside = (scores >= low) & (scores <= high)
    assert (np.diff(found[inside]) > 0).all()
    above = found[scores > high]
    assert (np.diff(above) > 0).all()
    assert (found[scores < low] == found[0]).all()
    assert found[0] == pytest.approx(0.0, **EXACT)
    # elsewhere it is a straight line: only at a calibration score could it jump
    at = neg_log_p(CALIBRATION, CALIBRATION, weights)
    for side in (-np.inf, np.inf):
        next_to = neg_log_p(np.nextafter(CALIBRATION, side), CALIBRATION, weights)
        assert next_to == pytest.approx(at, abs=1e-9, rel=0)


def test_neg_log_p_of_three_images_by_hand() -> None:
    # p(1) = 1, p(2) = 3/4, p(4) = 2/4; the 90 % quantile is 2 + 0.8 · 2 = 3.6, so beta = 0.4
    assert tail_excess(f(4, 1, 2)) == pytest.approx(0.4, **EXACT)
    found = neg_log_p(f(0, 1, 1.5, 2, 3, 4, 4.8), f(4, 1, 2))
    second, third = log(4 / 3), log(2)
    by_hand = [0, 0, second / 2, second, (second + third) / 2, third, third + 0.8 / 0.4]
    assert found == pytest.approx(by_hand, **EXACT)


def test_neg_log_p_where_all_calibration_scores_are_equal() -> None:
    assert tail_excess(f(2, 2, 2)) > 0
    found = neg_log_p(f(1, 2, 2.0001, 3), f(2, 2, 2))
    assert found[0] == found[1] == pytest.approx(0.0, **EXACT)  # p(2) = 1
    assert np.isfinite(found).all()
    assert found[1] < found[2] < found[3]


def test_neg_log_p_where_no_score_lies_above_the_quantile() -> None:
    crowded = np.array([0.0] + [1.0] * 9)
    assert tail_excess(crowded) == pytest.approx(1e-3, **EXACT)  # a thousandth of the range
    found = neg_log_p(f(0, 1, 1.5, 2), crowded)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


def test_loo_neg_log_p_by_hand() -> None:
    """Three others each: the lowest has all above it, the highest none and a tail."""
    calibration = np.array([4.0, 1.0, 2.0, 3.0])
    beta = 4.0 - np.quantile(calibration, 0.9)
    expected = [np.log(4) + 1.0 / beta, 0.0, -np.log(3 / 4), -np.log(2 / 4)]
    assert loo_neg_log_p(calibration) == pytest.approx(expected)


def test_loo_neg_log_p_with_weights_by_hand() -> None:
    # n = 4, weights 1/6, 1/6, 1/6, 1/2: (1 + 4 · (5/6 − 1/6)) / (1 + 4 · 5/6) = 11/13 of the second
    found = loo_neg_log_p(f(1, 2, 3, 4), signer_weights(np.array([0, 0, 0, 1])))
    by_hand = [0.0, -log(11 / 13), -log(9 / 13), log(3) + 1 / 0.3]
    assert found == pytest.approx(by_hand, **EXACT)


def test_loo_neg_log_p_with_ties_and_constants() -> None:
    assert loo_neg_log_p(np.full(5, 2.0)) == pytest.approx(np.zeros(5))
    tied = loo_neg_log_p(np.array([1.0, 2.0, 2.0]))
    assert tied == pytest.approx([0.0, -np.log(2 / 3), -np.log(2 / 3)])


# --- beyond all calibration images ----------------------------------------------------------------


def test_beyond_is_0_among_the_calibration_images() -> None:
    # the 90 % quantile of 1, 2, 4 is 3.6, so beta = 0.4
    found = beyond(f(-9, 1, 3.9, 4, 4.2, 6), f(4, 1, 2))
    assert found == pytest.approx([0, 0, 0, 0, 0.5, 5.0], **EXACT)
    with pytest.raises(ValueError, match="finite"):
        beyond(f(np.nan), f(1, 2))


def test_loo_beyond_by_hand() -> None:
    assert loo_beyond(f(4, 1, 2)) == pytest.approx([2 / 0.4, 0, 0], **EXACT)
    assert loo_beyond(f(4, 1, 4)).tolist() == [0, 0, 0]  # a tie: neither is beyond all
    assert loo_beyond(f(3, 3)).tolist() == [0, 0]

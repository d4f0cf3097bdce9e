"""Selective risk control: thresholds by hand, and the guarantee in simulation."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
from scipy.stats import binom

from sign_ensemble.rejection.selective_risk_control import (
    CONFIDENCE,
    SHARES,
    RiskControl,
    learn_then_test,
)

EACH = (1 - CONFIDENCE) / SHARES  # 0.005, the level of one threshold's test


def test_without_an_error_the_number_of_images_decides() -> None:
    # P(Bin(n, 0.1) <= 0) = 0.9 ** n, and 0.9 ** 50 = 0.00515 > 0.005 > 0.9 ** 51
    fewer = learn_then_test(np.arange(50.0), np.zeros(50, bool), 0.1)
    assert not fewer.is_supported
    assert fewer == RiskControl(0.1, inf, 50)
    enough = learn_then_test(np.arange(51.0), np.zeros(51, bool), 0.1)
    assert enough == RiskControl(0.1, 50.0, 51, 51, 0)


def test_the_highest_threshold_with_few_enough_errors_is_taken() -> None:
    # of 200 images the 40 most uncertain are wrong: a twentieth is ten images
    wrong = np.arange(200) >= 160
    found = learn_then_test(np.arange(200.0), wrong, 0.1)
    # at 170 images ten are wrong: P(Bin(170, 0.1) <= 10) = .047; of 160 none: 5e-8
    assert binom.cdf(10, 170, 0.1) > EACH > binom.cdf(0, 160, 0.1)
    assert found == RiskControl(0.1, 159.0, 200, 160, 0)
    # all 200: P(Bin(200, 0.25) <= 40) = .06; of 190 thirty are wrong: .001
    assert learn_then_test(np.arange(200.0), wrong, 0.25).accepted == 190


def test_errors_among_the_most_certain_do_not_end_the_search() -> None:
    wrong = np.zeros(1000, bool)
    wrong[:3] = True  # the three most certain of all
    found = learn_then_test(np.arange(1000.0), wrong, 0.05)
    assert (found.accepted, found.wrong) == (1000, 3)


def test_the_order_of_images_never_matters_and_ties_come_along() -> None:
    uncertainty = np.repeat([0.0, 1.0], [90, 110])
    found = learn_then_test(uncertainty, uncertainty == 1, 0.1)
    assert (found.threshold, found.accepted, found.wrong) == (0.0, 90, 0)
    mixed = np.random.default_rng(0).permutation(200)
    assert learn_then_test(uncertainty[mixed], (uncertainty == 1)[mixed], 0.1) == found


def test_images_of_equal_uncertainty_are_all_accepted_or_none() -> None:
    equal = np.zeros(100)
    assert learn_then_test(equal, np.zeros(100, bool), 0.1).accepted == 100
    assert not learn_then_test(equal, np.arange(100) < 50, 0.1).is_supported


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_uncertainties_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        learn_then_test(np.array([0.0, bad]), np.zeros(2, bool), 0.1)


def test_no_calibration_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no calibration images"):
        learn_then_test(np.zeros(0), np.zeros(0, bool), 0.1)


def test_the_guarantee_holds_as_often_as_it_says() -> None:
    """An image of uncertainty u is wrong with chance u; accepted up to s, s / 2 are wrong."""
    rng = np.random.default_rng(0)
    draws, broken, supported = 2000, 0, 0
    for _ in range(draws):
        uncertainty = rng.random(1000)
        found = learn_then_test(uncertainty, rng.random(1000) < uncertainty, 0.2)
        if found.is_supported:
            supported += 1
            broken += found.threshold / 2 > 0.2
    assert supported > 0.9 * draws  # else nothing was tested
    allowed = 1 - CONFIDENCE
    assert broken / draws <= allowed + 2 * sqrt(allowed * CONFIDENCE / draws)


def test_in_words() -> None:
    words = RiskControl(0.05, 0.4, 400, 380, 9).words()
    assert words.startswith("selective risk at most 5.0%, with 90% confidence")
    assert "400" in words and "380" in words and "9 of these" in words
    unsupported = RiskControl(0.01, images=30).words()
    assert "rejection.max_error 0.01 cannot be guaranteed" in unsupported


def test_a_threshold_without_support_is_null_in_a_file() -> None:
    assert RiskControl(0.01, images=30).as_dict() == {
        "max_error": 0.01, "threshold": None, "images": 30, "accepted": 0, "wrong": 0,
    }  # fmt: skip

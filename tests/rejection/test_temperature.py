"""Temperature scaling by hand, and known temperatures found again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from sign_ensemble.rejection.temperature import HIGHEST, fit_temperature, tempered


def test_tempering_by_hand() -> None:
    probs = np.array([[0.8, 0.2]])
    assert tempered(probs, 1) == pytest.approx(probs)
    # squared: 0.64 to 0.04; square roots: 2 to 1
    assert tempered(probs, 0.5) == pytest.approx(np.array([[16 / 17, 1 / 17]]))
    assert tempered(probs, 2) == pytest.approx(np.array([[2 / 3, 1 / 3]]))


def test_a_probability_of_0_stays_finite() -> None:
    assert np.isfinite(tempered(np.array([[1.0, 0.0]]), 5)).all()


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(truth: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    calibrated = softmax(logits, -1)
    labels = (calibrated.cumsum(-1) > rng.random((len(calibrated), 1))).argmax(-1)
    shown = softmax(logits * truth, -1)  # overconfident by that factor
    weights = np.full(len(labels), 1 / len(labels))
    assert fit_temperature(shown, labels, weights) == pytest.approx(truth, rel=0.05)


def test_weights_decide() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1]])
    labels = np.array([0, 1])
    # three quarters right at odds of nine: calibrated odds are three, 9^(1/T) = 3
    assert fit_temperature(probs, labels, np.array([0.75, 0.25])) == pytest.approx(2, rel=1e-3)
    assert fit_temperature(probs, labels, np.array([0.0, 1.0])) > 0.99 * HIGHEST

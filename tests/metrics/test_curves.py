"""Curves worked out by hand, and compared with the figures that they are the curves of."""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble import metrics
from sign_ensemble.metrics.curves import reliability, risk_coverage


def test_risk_at_each_threshold() -> None:
    scores = [0.3, 0.1, 0.2, 0.2, 0.9]
    failures = [1, 0, 0, 1, 0]
    coverage, risk = risk_coverage(scores, failures)
    assert coverage == pytest.approx(
        [0.2, 0.6, 0.8, 1.0]
    )  # two images of score 0.2 share a threshold
    assert risk == pytest.approx([0, 1 / 3, 2 / 4, 2 / 5])


def test_the_area_under_the_curve_is_aurc() -> None:
    rng = np.random.default_rng(0)
    scores, failures = rng.normal(size=300), rng.integers(2, size=300)
    coverage, risk = risk_coverage(scores, failures, points=300)
    area = np.trapezoid(risk, coverage) / (1 - 1 / 300)
    assert area == pytest.approx(float(metrics.aurc(scores, failures)), abs=1e-12)


def test_few_points_keep_both_ends() -> None:
    scores = np.arange(1000.0)
    coverage, risk = risk_coverage(scores, np.arange(1000) % 2, points=10)
    assert len(coverage) == 10
    assert coverage[[0, -1]] == pytest.approx([0.001, 1])
    assert risk[-1] == pytest.approx(0.5)


def test_bins_of_equal_size() -> None:
    n, confidence, right = reliability([0.9, 0.5, 0.7, 0.8, 0.6], [1, 0, 1, 0, 1], bins=2)
    assert n.tolist() == [3, 2]  # the first takes one more
    assert confidence == pytest.approx([0.6, 0.85])
    assert right == pytest.approx([2 / 3, 1 / 2])


@pytest.mark.parametrize("images", [3, 15, 200])
def test_the_gaps_of_the_bins_are_ece(images: int) -> None:
    rng = np.random.default_rng(1)
    confidence, correct = rng.uniform(0.3, 1, images).round(2), rng.integers(2, size=images)
    n, confident, right = reliability(confidence, correct)
    gaps = (n / images * np.abs(confident - right)).sum()
    assert gaps == pytest.approx(float(metrics.ece(confidence, correct)), abs=1e-12)


@pytest.mark.parametrize("curve", [risk_coverage, reliability])
def test_bad_samples_are_refused(curve) -> None:
    with pytest.raises(ValueError, match=curve.__name__):
        curve([0.1, np.nan], [0, 1])
    with pytest.raises(ValueError, match=curve.__name__):
        curve([0.1, 0.2], [0, 1, 1])

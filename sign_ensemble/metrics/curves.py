"""What lies behind two of the figures, as a plot shows it: risk at each coverage, share right at
each confidence.

Letters: N images, P points, E bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sign_ensemble.metrics import samples
from sign_ensemble.metrics.samples import Values


def risk_coverage(
    scores_N: ArrayLike, failures_N: ArrayLike, *, points: int = 200
) -> tuple[Values, Values]:
    """Coverage and selective risk at each threshold on the score.

    A threshold t accepts the images with score ≤ t: coverage is their share of all, risk the share
    of failures among them. Images of equal score come in together.

    Args:
        scores_N: Higher = reject.
        failures_N: Known images with a wrong answer, and strange images.
        points: Most points; of more thresholds as many are taken, evenly by rank, the last always.

    Returns:
        coverage_P, rising to 1, and risk_P.
    """
    scores = samples.checked_scores(scores_N, "risk_coverage")
    failures = samples.checked_marks(failures_N, len(scores), "risk_coverage")
    ones = np.ones(len(scores))
    size_G, failed_G = samples.by_group(scores, ones, failures.astype(float))
    taken_G, wrong_G = np.cumsum(size_G), np.cumsum(failed_G)
    last = len(taken_G) - 1
    chosen = np.unique(np.linspace(0, last, min(points, last + 1)).round().astype(int))
    return taken_G[chosen] / len(scores), wrong_G[chosen] / taken_G[chosen]


def reliability(
    confidence_N: ArrayLike, correct_N: ArrayLike, *, bins: int = 15
) -> tuple[Values, Values, Values]:
    """Images, mean confidence and share right in the bins of equal mass of
    :func:`~sign_ensemble.metrics.figures.ece`, Σ_e n_e / N |confidence_e − right_e| of which is it.

    Returns:
        n_E, confidence_E, right_E; bins without an image are left out.
    """
    confidence = samples.checked_scores(confidence_N, "reliability")
    correct = samples.checked_marks(correct_N, len(confidence), "reliability")
    ones = np.ones(len(confidence))
    size_G, right_G, confident_G = samples.by_group(confidence, ones, 1.0 * correct, confidence)
    small, larger = divmod(len(confidence), bins)
    number = np.arange(bins + 1)
    ends = (number * small + np.minimum(number, larger)).astype(float)
    right, confident = samples.sums_up_to(ends, size_G, right_G, confident_G)
    n_E = np.diff(ends)
    held = n_E > 0
    n_E = n_E[held]
    return n_E, np.diff(confident)[held] / n_E, np.diff(right)[held] / n_E

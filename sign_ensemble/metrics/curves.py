"""The curves behind two of the figures: selective risk by coverage, accuracy by confidence.

Letters: N images, G groups of images: of equal score, or bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sign_ensemble.metrics import samples
from sign_ensemble.metrics.samples import Values


def risk_coverage(
    scores_N: ArrayLike, failures_N: ArrayLike, *, points: int = 200
) -> tuple[Values, Values]:
    """Coverage (ascending, to 1) and selective risk at each threshold on the score.

    A threshold t accepts images with score ≤ t: coverage is their share of all images, risk the
    share of failures among them.

    Args:
        scores_N: Higher = reject.
        failures_N: Signs with a wrong answer, and OOD images.
        points: Of more thresholds so many are kept, evenly by rank, with the last.
    """
    scores = samples.checked_scores(scores_N, "risk_coverage")
    failures = samples.checked_marks(failures_N, len(scores), "risk_coverage")
    size_G, failed_G = samples.by_group(scores, np.ones(len(scores)), failures)
    accepted_G, wrong_G = np.cumsum(size_G), np.cumsum(failed_G)
    last = len(accepted_G) - 1
    chosen = np.unique(np.linspace(0, last, min(points, last + 1)).round().astype(int))
    return accepted_G[chosen] / len(scores), wrong_G[chosen] / accepted_G[chosen]


def reliability(
    confidence_N: ArrayLike, correct_N: ArrayLike, *, bins: int = 15
) -> tuple[Values, Values, Values]:
    """Images, mean confidence and accuracy (G,) of the bins of
    :func:`~sign_ensemble.metrics.figures.ece`, without empty ones.

    ECE is Σ_g n_g / N |confidence_g − accuracy_g|.
    """
    confidence = samples.checked_scores(confidence_N, "reliability")
    correct = samples.checked_marks(correct_N, len(confidence), "reliability")
    ends, (right, confident) = samples.sums_to_bin_ends(
        confidence, np.ones(len(confidence)), bins, correct, confidence
    )
    n_G = np.diff(ends)
    filled = n_G > 0
    n_G = n_G[filled]
    return n_G, np.diff(confident)[filled] / n_G, np.diff(right)[filled] / n_G

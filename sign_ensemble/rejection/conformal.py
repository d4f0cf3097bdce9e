"""Conformal p-values on calibration images of signers whom the models had not seen.

Letters: N images, C calibration images.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

TAIL = 0.9  # scores above this quantile show how fast a score's tail falls
Floats = NDArray[np.float64]


def signer_weights(groups_C: NDArray[np.int64]) -> Floats:
    """Weights that sum to 1 and give every signer the same total."""
    _, index_C, counts = np.unique(groups_C, return_inverse=True, return_counts=True)
    return 1.0 / (len(counts) * counts[index_C])


def calibration_weights(groups_C: NDArray[np.int64], copies_C: NDArray[np.bool_] | None) -> Floats:
    """:func:`signer_weights` where the images of a signer and their augmented copies (``copies_C``)
    each have half of the signer's total.
    """
    if copies_C is None or not copies_C.any():
        return signer_weights(groups_C)
    return signer_weights(2 * groups_C + copies_C)


def conformal_p(scores_N: Floats, calibration_C: Floats, weights_C: Floats | None = None) -> Floats:
    """Share of calibration images that score at least as high, counting the image itself.

    p(s) = (1 + C Σ_c w_c [s_c ≥ s]) / (C + 1), Σ w = 1. With equal weights and exchangeable images,
    P(p ≤ a) ≤ a (Vovk et al. 2005). Ties count as at least as high; without weights, each is 1/C.

    Raises:
        ValueError: a score is not a finite number, or there is no calibration image.
    """
    if not len(calibration_C):
        raise ValueError("conformal_p: no calibration scores")
    if not (np.isfinite(scores_N).all() and np.isfinite(calibration_C).all()):
        raise ValueError("conformal_p: scores must be finite")
    count = len(calibration_C)
    weights = np.full(count, 1 / count) if weights_C is None else weights_C
    order = np.argsort(calibration_C, kind="stable")
    above = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]])
    at_least = above[np.searchsorted(calibration_C[order], scores_N, side="left")]
    return np.minimum((1 + count * at_least) / (count + 1), 1.0)  # sums of weights round


def level(alpha: float, images: int) -> float:
    """The largest p-value to reject at: α, or 1/(n + 1) where n calibration images cannot tell
    smaller ones. An image beyond every calibration image is then rejected all the same, and a
    share of 1/(n + 1) of new images with it, not α.
    """
    return max(alpha, 1 / (images + 1))


def images_needed(alpha: float) -> int:
    """The fewest calibration images that support α: 1/(n + 1) ≤ α."""
    return max(1, ceil(1 / alpha - 1 - 1e-9))


def neg_log_p(scores_N: Floats, calibration_C: Floats, weights_C: Floats | None = None) -> Floats:
    """−log p(s) in nats, made continuous so that it also ranks images beyond every calibration
    image.

    Between calibration scores −log p is interpolated linearly. Above the highest, an exponential
    tail goes on: −log p(c_max) + :func:`beyond`. It only ranks; guarantees come from
    :func:`conformal_p`.
    """
    knots = np.unique(calibration_C)
    heights = -np.log(conformal_p(knots, calibration_C, weights_C))
    excess_N = beyond(scores_N, calibration_C)  # refuses scores that are not finite
    return np.interp(scores_N, knots, heights) + excess_N


def loo_neg_log_p(calibration_C: Floats, weights_C: Floats | None = None) -> Floats:
    """Leave-one-out :func:`neg_log_p`: of each calibration image among the others, (C,).

    An image counted among itself would look less OOD than a new image of the same kind. The value
    is −log of (1 + n (Σ_c w_c [s_c ≥ s_i] − w_i)) / (1 + n (1 − w_i)), n = C, with the exponential
    tail for a single highest image.
    """
    count = len(calibration_C)
    weights = np.full(count, 1 / count) if weights_C is None else weights_C
    at_least = (conformal_p(calibration_C, calibration_C, weights) * (count + 1) - 1) / count
    others = (1 + count * np.maximum(at_least - weights, 0.0)) / (1 + count * (1 - weights))
    return -np.log(np.minimum(others, 1.0)) + loo_beyond(calibration_C)


def tail_excess(calibration_C: Floats) -> float:
    """β: mean excess of the calibration scores over their 90 % quantile; above 0 in any case."""
    start = np.quantile(calibration_C, TAIL)
    excess = calibration_C[calibration_C > start] - start
    spread = max(float(np.ptp(calibration_C)), 1e-9)
    return max(float(excess.mean()) if len(excess) else 0.0, 1e-3 * spread)


def beyond(scores_N: Floats, calibration_C: Floats) -> Floats:
    """max(0, s − c_max) / β, nats: how far a score lies beyond every calibration image's.

    Raises:
        ValueError: a score is not a finite number.
    """
    if not np.isfinite(scores_N).all():
        raise ValueError("scores must be finite")
    return np.maximum(scores_N - calibration_C.max(), 0.0) / tail_excess(calibration_C)


def loo_beyond(calibration_C: Floats) -> Floats:
    """Leave-one-out :func:`beyond`: above 0 only for a single highest calibration image."""
    found = np.zeros(len(calibration_C))
    knots, times = np.unique(calibration_C, return_counts=True)
    if len(knots) > 1 and times[-1] == 1:
        found[calibration_C.argmax()] = (knots[-1] - knots[-2]) / tail_excess(calibration_C)
    return found


def resolution(groups_C: NDArray[np.int64]) -> float:
    """1/(S + 1): the smallest α of a distribution-free statement about a whole new signer from S
    calibration signers (Lee, Barber and Willett 2023, arXiv 2306.06342).
    """
    return 1.0 / (len(np.unique(groups_C)) + 1)

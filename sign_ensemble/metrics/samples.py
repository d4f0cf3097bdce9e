"""What the metrics share: checked arrays, weights, and sums over groups of images.

Every check raises ValueError with the name of the calling metric in front.

Letters: N images, K labels, G groups of images of equal score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
Counts = NDArray[np.integer[Any]]


def by_group(scores: Values, weights: Values, *values: Values) -> list[Values]:
    """Weights (..., N), and weights times each value (N,), summed over images of equal score:
    (..., G) each, lowest score first.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    of_image = weights[..., order]
    parts = [of_image, *(of_image * value[order] for value in values)]
    if len(starts) == len(order):
        return parts
    return [np.add.reduceat(part, starts, axis=-1) for part in parts]


def sums_before(parts: Values) -> Values:
    """Sums of what comes before each group, and of all: (..., G) → (..., G + 1), from 0."""
    out = np.zeros((*parts.shape[:-1], parts.shape[-1] + 1))
    np.cumsum(parts, axis=-1, out=out[..., 1:])
    return out


def sums_to_bin_ends(
    scores: Values, weights: Values, bins: int, *values: Values
) -> tuple[Values, list[Values]]:
    """Ends of bins of equal mass, lowest score first, and sums of values up to each end.

    Of n images each of the first (n mod bins) bins holds ⌊n / bins⌋ + 1, each other one ⌊n / bins⌋.
    An end within a group of equal score takes the share of the group's sum that it takes of its
    images.

    Returns:
        Images before each end (..., bins + 1), from 0, and for each value its sum over them.
    """
    size_G, *sums = by_group(scores, weights, *values)
    small, larger = np.divmod(weights.sum(-1, keepdims=True), bins)
    number = np.arange(bins + 1)
    ends = number * small + np.minimum(number, larger)
    before = sums_before(size_G)
    counted = [(before[..., 1:] <= end[..., None]).sum(-1) for end in np.moveaxis(ends, -1, 0)]
    group = np.minimum(np.stack(counted, axis=-1), size_G.shape[-1] - 1)

    def at(values_G: Values) -> Values:
        return np.take_along_axis(values_G, group, -1)

    # an empty group is reached only past the last image, where the depth is 0
    depth = (ends - at(before)) / np.maximum(at(size_G), 1)
    return ends, [at(sums_before(each_G)) + depth * at(each_G) for each_G in sums]


def first_filled(parts: Values, size: Values) -> Values:
    """The value of the first group that is not empty, (..., G) → (...)."""
    return np.take_along_axis(parts, (size > 0).argmax(-1)[..., None], -1)[..., 0]


def mean(values_N: Values, weights: Counts | None, name: str) -> Values:
    """Weighted mean of one value per image, (...)."""
    w = checked_weights(weights, len(values_N), name)
    return values_of(w @ values_N / w.sum(-1))


def ordered(scores_N: ArrayLike, weights: Counts | None, name: str) -> tuple[Values, Values]:
    """Scores from lowest to highest, (N,), and their weights in that order, (..., N)."""
    scores = checked_scores(scores_N, name)
    order = np.argsort(scores, kind="stable")
    return scores[order], checked_weights(weights, len(scores), name)[..., order]


def values_of(result: Any) -> Values:
    """A 0-d array as a float64; others unchanged."""
    out: Values = np.asarray(result, dtype=np.float64)[()]
    return out


def checked_weights(weights: Counts | None, n: int, name: str) -> Values:
    """Counts (..., N) as float64, ones for None; a total of 0 is refused."""
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights)
    if not np.issubdtype(w.dtype, np.integer) or w.ndim == 0 or w.shape[-1] != n or (w < 0).any():
        raise ValueError(f"{name}: weights must be counts of at least 0 with shape (..., {n})")
    if not w.any(axis=-1).all():
        raise ValueError(f"{name}: a row of weights counts no image")
    return w.astype(np.float64)


def checked_scores(values: ArrayLike, name: str) -> Values:
    """Finite numbers (N,), N ≥ 1."""
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 1 or out.size == 0:
        raise ValueError(f"{name}: one number for each of at least one image, not {out.shape}")
    if not np.isfinite(out).all():
        raise ValueError(f"{name}: {int((~np.isfinite(out)).sum())} values are NaN or infinite")
    return out


def checked_marks(values: ArrayLike, n: int | None, name: str) -> Values:
    """Marks 0 or 1 (N,), or booleans, as float64; n of them unless n is None."""
    out = checked_scores(values, name)
    if n is not None and len(out) != n:
        raise ValueError(f"{name}: {len(out)} marks for {n} images")
    if not np.isin(out, (0.0, 1.0)).all():
        raise ValueError(f"{name}: marks are 0 or 1")
    return out


def probs_and_labels(
    probs_NK: ArrayLike, labels_N: ArrayLike, name: str
) -> tuple[Values, NDArray[np.integer[Any]]]:
    """Rows that are probabilities (sums within 1e-3 of 1: half precision) and labels in 0..K−1."""
    probs, labels = np.asarray(probs_NK, dtype=np.float64), np.asarray(labels_N)
    if probs.ndim != 2 or probs.size == 0 or labels.shape != probs.shape[:1]:
        raise ValueError(
            f"{name}: probabilities {probs.shape} and labels {labels.shape}, "
            "not (N, K) and (N,) with at least one image"
        )
    if not ((probs >= 0).all() and (np.abs(probs.sum(axis=1) - 1) <= 1e-3).all()):
        raise ValueError(f"{name}: a row is no probability (logits or log-probabilities?)")
    last = probs.shape[1] - 1
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() > last:
        raise ValueError(f"{name}: labels must be whole numbers in 0..{last}")
    return probs, labels

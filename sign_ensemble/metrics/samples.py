"""Samples under the metrics: checked arrays, weights, and sums over images of equal score.

Letters: N images, K classes, G groups of images with one and the same score.

Every check raises ValueError with the name of the metric that asked in front.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
Counts = NDArray[np.integer[Any]]


def by_group(scores: Values, weights: Values, *values: Values) -> list[Values]:
    """Weights (..., N), and weights times each value (N,), summed over images of equal score.

    Returns:
        (..., G) of the weights and of each value, lowest score first.
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
    """Sums of what comes before each place, and of all: (..., G) → (..., G + 1), from 0."""
    out = np.zeros((*parts.shape[:-1], parts.shape[-1] + 1))
    np.cumsum(parts, axis=-1, out=out[..., 1:])
    return out


def sums_up_to(ends: Values, size: Values, *parts: Values) -> list[Values]:
    """Sums of each (..., G) part over the first ``ends`` (..., E) images, (..., E).

    ``size`` (..., G) says how many images each group holds. An end amid a group takes the share of
    the group's sum that it takes of its images.
    """
    taken = sums_before(size)
    counted = [(taken[..., 1:] <= end[..., None]).sum(-1) for end in np.moveaxis(ends, -1, 0)]
    group = np.minimum(np.stack(counted, axis=-1), size.shape[-1] - 1)
    # an empty group is reached only past the last image, where the depth is 0
    depth = (ends - np.take_along_axis(taken, group, -1)) / np.maximum(
        np.take_along_axis(size, group, -1), 1
    )
    return [
        np.take_along_axis(sums_before(part), group, -1)
        + depth * np.take_along_axis(part, group, -1)
        for part in parts
    ]


def first_filled(parts: Values, size: Values) -> Values:
    """Each row's part of the first group that is not empty, (..., G) → (...)."""
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
    """A 0-d array becomes the float64 it holds; others stay."""
    out: Values = np.asarray(result, dtype=np.float64)[()]
    return out


def checked_weights(weights: Counts | None, n: int, name: str) -> Values:
    """Counts (..., N) as float64, ones for None; a total of 0 is refused (no share of nothing)."""
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights)
    if not np.issubdtype(w.dtype, np.integer) or w.ndim == 0 or w.shape[-1] != n or (w < 0).any():
        raise ValueError(f"{name}: weights must be counts of at least 0 with shape (..., {n})")
    if not w.any(axis=-1).all():
        raise ValueError(f"{name}: a row of weights counts no image")
    return w.astype(np.float64)


def checked_scores(values: ArrayLike, name: str) -> Values:
    """Finite numbers (N,) with N ≥ 1: NaN must never be sorted in silence."""
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
    if not (
        np.isfinite(probs).all()
        and (probs >= 0).all()
        and (np.abs(probs.sum(axis=1) - 1) <= 1e-3).all()
    ):
        raise ValueError(f"{name}: a row is no probability (logits or log-probabilities?)")
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or labels.min() < 0
        or labels.max() >= probs.shape[1]
    ):
        raise ValueError(f"{name}: labels must be whole numbers in 0..{probs.shape[1] - 1}")
    return probs, labels

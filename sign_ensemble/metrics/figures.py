"""How good an answer, a score or a rule is: one pure function per figure.

A higher score means reject. ``weights`` are counts (..., N): how often each image counts in a
bootstrap draw (see :mod:`~sign_ensemble.metrics.intervals`); the result has one value per row,
shape (...). Without weights each image counts once and the result is one float64.

Shares, risks and areas are fractions from 0 to 1. The order of images of equal score never matters.

Every function raises ValueError, with its own name in front, for an empty set, arrays that do not
match in length, NaN or infinity, marks other than 0 and 1, and weights that are no counts.

Letters: N images, K labels, G groups of images of equal score.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sign_ensemble.metrics import samples
from sign_ensemble.metrics.samples import Counts, Values


def accuracy(probs_NK: ArrayLike, labels_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Share of images whose most probable label (the first of equals) is the true one."""
    probs, labels = samples.probs_and_labels(probs_NK, labels_N, "accuracy")
    return samples.mean((probs.argmax(axis=1) == labels).astype(float), weights, "accuracy")


def nll(probs_NK: ArrayLike, labels_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Mean negative log-likelihood −mean_i log p_i(y_i), nats.

    A probability counts as at least 2.2e-308, the smallest normal float64: 708.4 nats.
    """
    probs, labels = samples.probs_and_labels(probs_NK, labels_N, "nll")
    chosen_N = probs[np.arange(len(labels)), labels]
    return samples.mean(-np.log(np.maximum(chosen_N, np.finfo(np.float64).tiny)), weights, "nll")


def top_class(probs_NK: ArrayLike, labels_N: ArrayLike) -> tuple[Values, NDArray[np.bool_]]:
    """The largest probability of each image (N,), and whether its label is the true one (N,)."""
    probs, labels = samples.probs_and_labels(probs_NK, labels_N, "top_class")
    return probs.max(axis=1), probs.argmax(axis=1) == labels


def ece(
    confidence_N: ArrayLike, correct_N: ArrayLike, weights: Counts | None = None, *, bins: int = 15
) -> Values:
    """Expected calibration error: Σ_b (N_b / N) · |accuracy in b − mean confidence in b|.

    Bins b of equal mass, see :func:`~sign_ensemble.metrics.samples.sums_to_bin_ends`; 15 are usual.
    Where a bin ends amid images of equal confidence, each brings their mean correctness. Without
    ties it is torch-uncertainty's AdaptiveCalibrationError (norm l1).

    Raises:
        ValueError: Also for a confidence outside 0..1, or fewer than one bin.

    Source: Nguyen & O'Connor 2015 (arXiv 1508.05154); Nixon et al. 2019 (arXiv 1904.01685).
    """
    confidence = samples.checked_scores(confidence_N, "ece")
    correct = samples.checked_marks(correct_N, len(confidence), "ece")
    if confidence.min() < 0 or confidence.max() > 1:
        raise ValueError("ece: a confidence lies outside 0..1")
    if bins < 1:
        raise ValueError(f"ece: bins must be at least 1, not {bins}")
    w = samples.checked_weights(weights, len(confidence), "ece")
    _, (right, confident) = samples.sums_to_bin_ends(confidence, w, bins, correct, confidence)
    gaps = np.abs(np.diff(right, axis=-1) - np.diff(confident, axis=-1))
    return samples.values_of(gaps.sum(-1) / w.sum(-1))


def aurc(scores_N: ArrayLike, failures_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Area under the risk–coverage curve: selective risk, averaged over coverages.

    r_k = failures among the k images of lowest score / k. The area by the trapezoid rule over
    coverages 1/N..1, divided by its length: [Σ_k r_k − (r_1 + r_N) / 2] / (N − 1); for one image
    r_1. Failures are signs with a wrong answer and all OOD images. Of images of equal score r_k is
    the expectation over random orders; without ties it is torch-uncertainty's AURC.

    Source: Geifman & El-Yaniv 2017 (arXiv 1705.08500).
    """
    size, failed = _groups_of_failures(scores_N, failures_N, weights, "aurc")
    start, before = samples.sums_before(size)[..., :-1], samples.sums_before(failed)[..., :-1]
    total = start[..., -1] + size[..., -1]
    slope = failed / np.maximum(size, 1)
    harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, int(total.max()) + 1)))
    # Σ over k = start+1 .. start+size of (before + slope · (k − start)) / k, group by group
    spread = harmonic[(start + size).astype(int)] - harmonic[start.astype(int)]
    area = ((before - slope * start) * spread + failed).sum(-1)
    return _trapezoid_mean(area, samples.first_filled(slope, size), failed.sum(-1) / total, total)


def augrc(scores_N: ArrayLike, failures_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Area under the generalised risk–coverage curve: the chance of a failure that is accepted.

    As :func:`aurc`, with failures among the k accepted / N in place of r_k: it weighs every failure
    alike. Uninformative scores have about half the share of failures. Without ties it is
    torch-uncertainty's AUGRC.

    Source: Traub et al. 2024 (arXiv 2407.01032).
    """
    size, failed = _groups_of_failures(scores_N, failures_N, weights, "augrc")
    total = size.sum(-1)
    area = (size * samples.sums_before(failed)[..., :-1] + failed * (size + 1) / 2).sum(-1) / total
    first = samples.first_filled(failed / np.maximum(size, 1), size) / total
    return _trapezoid_mean(area, first, failed.sum(-1) / total, total)


def auroc(
    known_scores: ArrayLike,
    ood_scores: ArrayLike,
    known_weights: Counts | None = None,
    ood_weights: Counts | None = None,
) -> Values:
    """Chance that an OOD image scores above a known one; equal scores count one half.

    The weights have equal leading shapes, or one is None.
    """
    known, known_w = samples.ordered(known_scores, known_weights, "auroc")
    ood, ood_w = samples.ordered(ood_scores, ood_weights, "auroc")
    below = samples.sums_before(known_w)
    beaten = (
        below[..., np.searchsorted(known, ood, side="left")]
        + below[..., np.searchsorted(known, ood, side="right")]
    ) / 2
    return samples.values_of((beaten * ood_w).sum(-1) / (below[..., -1] * ood_w.sum(-1)))


def fpr95(
    known_scores: ArrayLike,
    ood_scores: ArrayLike,
    known_weights: Counts | None = None,
    ood_weights: Counts | None = None,
    *,
    target_coverage: float = 0.95,
) -> Values:
    """Share of OOD images accepted at the threshold that accepts ``target_coverage`` of known ones.

    The threshold is the lowest known score t with a share of known scores ≤ t of at least
    ``target_coverage``; images with score ≤ t are accepted. It is read off the evaluated images
    themselves: for comparing scores, never for a shipped rule.

    OpenOOD and pytorch-ood take OOD images as positives, so that theirs is the share of known
    images rejected when 95 % of OOD images are detected. Given known images as positives and
    negated scores, the FPR95 of pytorch-ood and torch-uncertainty is this one.

    Raises:
        ValueError: Also for a ``target_coverage`` outside 0 < target_coverage ≤ 1.
    """
    if not 0 < target_coverage <= 1:
        raise ValueError(f"fpr95: target_coverage is {target_coverage}, not in (0, 1]")
    known, known_w = samples.ordered(known_scores, known_weights, "fpr95")
    ood, ood_w = samples.ordered(ood_scores, ood_weights, "fpr95")
    kept = np.cumsum(known_w, axis=-1)
    # 19 / 20 >= 0.95 holds in float64, where 0.95 * 20 <= 19 need not: divide, never multiply
    threshold = known[(kept / kept[..., -1:] >= target_coverage).argmax(-1)]
    accepted = (ood <= np.asarray(threshold)[..., None]) * ood_w
    return samples.values_of(accepted.sum(-1) / ood_w.sum(-1))


def coverage(accepted_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Share of images accepted."""
    accepted = samples.checked_marks(accepted_N, None, "coverage")
    return samples.mean(accepted, weights, "coverage")


@overload
def selective_risk(accepted_N: ArrayLike, wrong_N: ArrayLike) -> float | None: ...


@overload
def selective_risk(accepted_N: ArrayLike, wrong_N: ArrayLike, weights: Counts) -> Values: ...


def selective_risk(
    accepted_N: ArrayLike, wrong_N: ArrayLike, weights: Counts | None = None
) -> Values | float | None:
    """Share of wrong answers among the accepted images; None when nothing is accepted.

    With weights, rows that accept nothing are NaN.
    """
    accepted = samples.checked_marks(accepted_N, None, "selective_risk")
    wrong = samples.checked_marks(wrong_N, len(accepted), "selective_risk")
    w = samples.checked_weights(weights, len(accepted), "selective_risk")
    number, errors = w @ accepted, w @ (accepted * wrong)
    if weights is None:
        return float(errors / number) if number > 0 else None
    return samples.values_of(np.where(number > 0, errors / np.maximum(number, 1), np.nan))


def overconfident(
    confidence_N: ArrayLike,
    accepted_N: ArrayLike,
    weights: Counts | None = None,
    *,
    at: float = 0.9,
) -> Values:
    """Share of all images that are accepted with a confidence of at least ``at``."""
    confidence = samples.checked_scores(confidence_N, "overconfident")
    accepted = samples.checked_marks(accepted_N, len(confidence), "overconfident")
    return samples.mean(accepted * (confidence >= at), weights, "overconfident")


def _groups_of_failures(
    scores_N: ArrayLike, failures_N: ArrayLike, weights: Counts | None, name: str
) -> tuple[Values, Values]:
    """Images and failures in each group of equal scores (..., G), lowest score first."""
    scores = samples.checked_scores(scores_N, name)
    failures = samples.checked_marks(failures_N, len(scores), name)
    w = samples.checked_weights(weights, len(scores), name)
    size_G, failed_G = samples.by_group(scores, w, failures)
    return size_G, failed_G


def _trapezoid_mean(area: Values, first: Values, last: Values, total: Values) -> Values:
    """[Σ_k − (first + last) / 2] / (total − 1); the one risk there is if total is 1."""
    return samples.values_of(
        np.where(total > 1, (area - (first + last) / 2) / np.maximum(total - 1, 1), last)
    )

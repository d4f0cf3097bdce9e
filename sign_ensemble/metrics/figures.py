"""How good an answer, a score or a rule is: one pure function per figure.

Letters: N images, K classes, B bootstrap draws, G groups of images with one and the same score.

Every score means "higher = reject". Every function takes ``weights``, whole numbers (..., N) that
say how often each image counts (a bootstrap draw, see :mod:`~sign_ensemble.metrics.intervals`),
and returns one value per row, shape (...). Without weights each image counts once and one float64
comes back. A row of weights gives what the sample with its images repeated would give.

All shares, risks and areas are fractions between 0 and 1, not per cent.

Every function raises ValueError, with its own name in front, for an empty set, arrays that do not
match in length, NaN or infinity, marks other than 0 and 1, and weights that are no counts.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sign_ensemble.metrics import samples
from sign_ensemble.metrics.samples import Counts, Values


def accuracy(probs_NK: ArrayLike, labels_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Share of images whose most probable class (the first of several equals) is the label."""
    probs, labels = samples.probs_and_labels(probs_NK, labels_N, "accuracy")
    return samples.mean((probs.argmax(axis=1) == labels).astype(float), weights, "accuracy")


def nll(probs_NK: ArrayLike, labels_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Mean negative log-likelihood of the label, −mean_i log p_i(y_i), in nats.

    A probability below the smallest normal float64 (2.2e-308) counts as that, so that an image
    given no chance at all costs 708.4 nats and not infinity.
    """
    probs, labels = samples.probs_and_labels(probs_NK, labels_N, "nll")
    chosen_N = probs[np.arange(len(labels)), labels]
    return samples.mean(-np.log(np.maximum(chosen_N, np.finfo(np.float64).tiny)), weights, "nll")


def top_class(probs_NK: ArrayLike, labels_N: ArrayLike) -> tuple[Values, NDArray[np.bool_]]:
    """The largest probability of each image (N,), and whether its class is the label (N,)."""
    probs, labels = samples.probs_and_labels(probs_NK, labels_N, "top_class")
    return probs.max(axis=1), probs.argmax(axis=1) == labels


def ece(
    confidence_N: ArrayLike,
    correct_N: ArrayLike,
    weights: Counts | None = None,
    *,
    bins: int = 15,
) -> Values:
    """Expected calibration error: Σ_b (N_b / N) · |share correct in b − mean confidence in b|.

    Bins of equal mass: sorted by confidence, each of the first (N mod bins) bins takes one image
    more than ⌊N / bins⌋; with fewer images than bins each image is its own bin. Where a bin ends
    amid images of equal confidence, each of them brings the group's mean correctness, so the order
    of the images never matters. 15 bins are protocol M's and the literature's habit.

    torch-uncertainty's AdaptiveCalibrationError (norm l1) is the same without ties; it takes ties
    in any order and gives NaN for fewer images than bins.

    Raises:
        ValueError: Also for a confidence outside 0..1, or fewer than one bin.

    Source: Nguyen & O'Connor 2015 (arXiv 1508.05154) for the bins; Nixon et al. 2019
    (arXiv 1904.01685).
    """
    confidence = samples.checked_scores(confidence_N, "ece")
    correct = samples.checked_marks(correct_N, len(confidence), "ece")
    if confidence.min() < 0 or confidence.max() > 1:
        raise ValueError("ece: a confidence lies outside 0..1")
    if bins < 1:
        raise ValueError(f"ece: bins must be at least 1, not {bins}")
    w = samples.checked_weights(weights, len(confidence), "ece")
    size_G, right_G, confident_G = samples.by_group(confidence, w, correct, confidence)
    small, larger = np.divmod(w.sum(-1, keepdims=True), bins)
    number = np.arange(bins + 1)
    ends = number * small + np.minimum(number, larger)
    right, confident = samples.sums_up_to(ends, size_G, right_G, confident_G)
    gaps = np.abs(np.diff(right, axis=-1) - np.diff(confident, axis=-1))
    return samples.values_of(gaps.sum(-1) / w.sum(-1))


def aurc(scores_N: ArrayLike, failures_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Area under the risk–coverage curve: the selective risk, averaged over coverages.

    Accept the k images with the lowest scores: r_k = failures among them / k at coverage k / N.
    The area is the trapezoid rule over coverages 1/N..1, divided by its length 1 − 1/N:
    [Σ_k r_k − (r_1 + r_N) / 2] / (N − 1); one image alone has r_1. Failures are known images with
    a wrong answer and all strange images. Images of equal score come in random order and r_k is
    its expectation, so the order of the rows never matters. No failures: 0.

    The same as torch-uncertainty's AURC (also a fraction), which takes ties in any order.
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

    As :func:`aurc`, with g_k = failures among the k accepted / N in place of r_k: it weighs every
    failure alike, where AURC dwells on the first few images. Ties as in :func:`aurc`. No failures:
    0; a score that says nothing: near half the share of failures.

    The same as torch-uncertainty's AUGRC (also a fraction), which takes ties in any order.
    Source: Traub et al. 2024 (arXiv 2407.01032).
    """
    size, failed = _groups_of_failures(scores_N, failures_N, weights, "augrc")
    total = size.sum(-1)
    area = (size * samples.sums_before(failed)[..., :-1] + failed * (size + 1) / 2).sum(-1) / total
    first = samples.first_filled(failed / np.maximum(size, 1), size) / total
    return _trapezoid_mean(area, first, failed.sum(-1) / total, total)


def auroc(
    known_scores: ArrayLike,
    strange_scores: ArrayLike,
    known_weights: Counts | None = None,
    strange_weights: Counts | None = None,
) -> Values:
    """Chance that a strange image scores above a known one; equal scores count one half.

    Strange images are the positives. The two weights have equal leading shapes, or one is None.
    """
    known, known_w = samples.ordered(known_scores, known_weights, "auroc")
    strange, strange_w = samples.ordered(strange_scores, strange_weights, "auroc")
    below = samples.sums_before(known_w)
    beaten = (
        below[..., np.searchsorted(known, strange, side="left")]
        + below[..., np.searchsorted(known, strange, side="right")]
    ) / 2
    return samples.values_of((beaten * strange_w).sum(-1) / (below[..., -1] * strange_w.sum(-1)))


def fpr95(
    known_scores: ArrayLike,
    strange_scores: ArrayLike,
    known_weights: Counts | None = None,
    strange_weights: Counts | None = None,
    *,
    target_coverage: float = 0.95,
) -> Values:
    """Share of strange images accepted when the threshold keeps ``target_coverage`` of the known ones.

    The threshold is the smallest known score t such that the share of known scores ≤ t is at least
    ``target_coverage``; an image is accepted if its score ≤ t. It is an oracle's threshold, read off the very
    images it is judged on: for comparing scores, never for a shipped rule. 0.95 is protocol M's.

    Other tools swap the classes: OpenOOD and pytorch-ood take strange images as the positives, so
    their FPR95 is the share of known images rejected when 95 % of strange ones are detected.
    Given known images as positives and negated scores, the FPR95 of pytorch-ood and of
    torch-uncertainty is this one.

    Raises:
        ValueError: Also for ``target_coverage`` outside 0 < keep ≤ 1.
    """
    if not 0 < target_coverage <= 1:
        raise ValueError(f"fpr95: keep must lie in 0 < keep <= 1, not {target_coverage}")
    known, known_w = samples.ordered(known_scores, known_weights, "fpr95")
    strange, strange_w = samples.ordered(strange_scores, strange_weights, "fpr95")
    kept = np.cumsum(known_w, axis=-1)
    # 19 / 20 >= 0.95 holds in float64, where 0.95 * 20 <= 19 need not: divide, never multiply
    threshold = known[(kept / kept[..., -1:] >= target_coverage).argmax(-1)]
    last = np.searchsorted(strange, threshold, side="right")
    below = samples.sums_before(strange_w)
    if below.ndim == 1:
        return samples.values_of(below[last] / below[-1])
    accepted = np.take_along_axis(below, np.broadcast_to(last, below.shape[:-1])[..., None], -1)
    return samples.values_of(accepted[..., 0] / below[..., -1])


def coverage(accepted_N: ArrayLike, weights: Counts | None = None) -> Values:
    """Share of images accepted: of known ones the coverage, of strange ones the accepted share."""
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

    With weights, the rows that accept nothing hold NaN, the mark of "no value" that
    :func:`~sign_ensemble.metrics.intervals.with_interval` leaves out.
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
    at: float = 0.90,
) -> Values:
    """Share of all images that are accepted with a confidence of at least ``at``.

    0.90 is protocol M's. For one model without a rule, every image is accepted.
    """
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
    size, failed = samples.by_group(scores, w, failures)
    return size, failed


def _trapezoid_mean(area: Values, first: Values, last: Values, total: Values) -> Values:
    """[Σ_k − (first + last) / 2] / (total − 1); the one risk there is if total is 1."""
    return samples.values_of(
        np.where(total > 1, (area - (first + last) / 2) / np.maximum(total - 1, 1), last)
    )

"""P(in-distribution | statistic): how likely an image is to be a sign of a label at all.

The ensemble's probabilities are of labels, given that the image shows one of them: a gesture that
is no label but looks a little like L is "L, 99 %". What the rule's statistic says of it they cannot
say. So the confidence of an answer is

    P(in-distribution | t) · max_k p_k

with t the rule's OOD statistic and p the tempered probabilities. The first factor is fitted on
training signers alone: on signs whose signer the models had not seen, and on signs whose label was
held out as well, which stand for wrong gestures. The share of OOD images among those shown is not
known beforehand: it is assumed (``rejection.ood_prior``).

Source: isotonic regression as calibration, Zadrozny and Elkan 2002, "Transforming Classifier Scores
into Accurate Multiclass Probability Estimates"; fitted by scipy.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]
EVERY_IMAGE_A_SIGN = "confidence assumes that every image shown is a sign"  # where P is unknown


@dataclass(frozen=True)
class InDistribution:
    """A step-wise linear, non-increasing function of the statistic."""

    ood_prior: float  # assumed share of OOD images among those shown
    statistics: Floats  # breakpoints, ascending
    probabilities: Floats  # P(in-distribution) at each; interpolated between them, constant beyond

    def words(self) -> str:
        """One sentence for people."""
        return f"confidence assumes that {self.ood_prior:.0%} of the images shown are no sign"

    def of(self, statistic_N: Floats) -> Floats:
        """P(in-distribution) of images with these statistics.

        Raises:
            ValueError: a statistic is not a finite number.
        """
        if not np.isfinite(statistic_N).all():
            raise ValueError("P(in-distribution): statistics must be finite")
        return np.interp(statistic_N, self.statistics, self.probabilities)


def fit_in_distribution(
    signs: Sequence[Floats], ood: Sequence[Floats], ood_prior: float
) -> InDistribution:
    """The non-increasing function that fits best in weighted least squares.

    One more sign is counted above all statistics and one more OOD image below all, as a conformal
    p-value counts the image itself: no probability is exactly 0 or 1. Statistics of signs, and of
    images with held-out labels, come as one array per signer; each signer weighs the same.

    Raises:
        ValueError: either is missing, a signer has none, a statistic is not a finite number, or the
            prior is not between 0 and 1.
    """
    if not (0 < ood_prior < 1):
        raise ValueError(f"P(in-distribution): the prior is {ood_prior}, not between 0 and 1")
    if not (signs and ood and all(len(each) for each in [*signs, *ood])):
        raise ValueError("P(in-distribution): signs and OOD images are needed of every signer")
    found = np.concatenate([*signs, *ood])
    if not np.isfinite(found).all():
        raise ValueError("P(in-distribution): statistics must be finite")
    weights = np.concatenate([(1 - ood_prior) * even_weights(signs), ood_prior * even_weights(ood)])
    is_sign = np.arange(len(found)) < sum(map(len, signs))
    statistics, at = np.unique(found, return_inverse=True)
    weight, of_signs = np.bincount(at, weights), np.bincount(at, weights * is_sign)
    below, above = (
        ood_prior / (1 + sum(map(len, ood))),
        (1 - ood_prior) / (1 + sum(map(len, signs))),
    )
    fitted = isotonic_regression(
        np.concatenate([[0.0], of_signs / weight, [1.0]]),
        weights=np.concatenate([[below], weight, [above]]),
        increasing=False,
    ).x[1:-1]
    steps = np.diff(fitted) != 0
    ends = np.append(True, steps) | np.append(steps, True)
    return InDistribution(ood_prior, statistics[ends], fitted[ends])


def even_weights(groups: Sequence[Floats]) -> Floats:
    """Weights of all values, every group having the same total; n values together n / (n + 1), the
    image that is added having the rest.
    """
    count = sum(map(len, groups))
    each = [np.full(len(group), 1 / (len(groups) * len(group))) for group in groups]
    return count / (count + 1) * np.concatenate(each)

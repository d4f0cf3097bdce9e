"""How far an answer may be believed where what was shown may be no sign at all.

The ensemble's probabilities are of labels, given that the image is of one of them: a gesture that
is none, and looks a little like L, is "L, 99 %". How strange the image is says what they cannot.
So an answer's confidence is

    P(sign | t) · max_k p_k

with p the probabilities at the rule's temperature, t its statistic, and P(sign | t) from training
signers alone: of signs that the models had not seen (their signers were left out), and of signs
whose labels were left out too, which stand for gestures that are none. What share of the images
shown are such gestures nobody can measure beforehand: it is assumed (``rejection.ood_prior``).

Source: isotonic regression as calibration, Zadrozny & Elkan 2002, "Transforming Classifier Scores
into Accurate Multiclass Probability Estimates"; by pool adjacent violators (scipy).

Letters: N images, B breakpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class InDistribution:
    """How likely an image is to be of a label at all.

    Args:
        share: Share of the images shown that are not, as it was assumed.
        strange_B: Statistics of the rule, ascending.
        sign_B: P(sign) at each, never rising; between them it is interpolated, beyond them it
            stays.
    """

    share: float
    strange_B: Floats
    sign_B: Floats

    def words(self) -> str:
        """For people."""
        return (
            f"how sure an answer is takes it that a share of {self.share:g} of the images shown "
            "are no sign"
        )

    def of(self, strange_N: Floats) -> Floats:
        """P(sign) of images as strange as this.

        Raises:
            ValueError: a statistic is not a finite number.
        """
        if not np.isfinite(strange_N).all():
            raise ValueError("belief: statistics must be finite")
        return np.interp(strange_N, self.strange_B, self.sign_B)


def fit_in_distribution(
    signs: Sequence[Floats], others: Sequence[Floats], share: float
) -> InDistribution:
    """The belief that fits best among those that never rise with strangeness.

    One more sign is counted as stranger than all, and one more other image as less strange than
    all, as a conformal p-value counts the image itself: nothing is believed or disbelieved wholly.

    Args:
        signs: Statistics of signs, a group per signer; each group weighs the same.
        others: The same of images that are of no label.
        share: Share of the latter among images shown, between 0 and 1.

    Raises:
        ValueError: there are none of either, a group is empty, a statistic is not a finite number,
            or the share is not between 0 and 1.
    """
    if not (0 < share < 1):
        raise ValueError(f"belief: the share of strange images is {share}, not between 0 and 1")
    if not (signs and others and all(len(each) for each in [*signs, *others])):
        raise ValueError("belief: signs and others are needed, in groups that are not empty")
    found = np.concatenate([*signs, *others])
    if not np.isfinite(found).all():
        raise ValueError("belief: statistics must be finite")
    weights = np.concatenate([(1 - share) * even_weights(signs), share * even_weights(others)])
    true = np.arange(len(found)) < sum(map(len, signs))
    strange_U, at = np.unique(found, return_inverse=True)
    whole_U, sign_U = np.bincount(at, weights), np.bincount(at, weights * true)
    least, most = share / (1 + sum(map(len, others))), (1 - share) / (1 + sum(map(len, signs)))
    mean = np.concatenate([[0.0], sign_U / whole_U, [1.0]])
    weight = np.concatenate([[least], whole_U, [most]])
    fitted_U = isotonic_regression(mean, weights=weight, increasing=False).x[1:-1]
    steps = np.diff(fitted_U) != 0
    ends = np.append(True, steps) | np.append(steps, True)
    return InDistribution(share, strange_U[ends], fitted_U[ends])


def even_weights(groups: Sequence[Floats]) -> Floats:
    """Weights of all values of all groups: every group the same in total; of n values together
    n / (n + 1), the one that is added having the rest.
    """
    count = sum(map(len, groups))
    each = [np.full(len(group), 1 / (len(groups) * len(group))) for group in groups]
    return count / (count + 1) * np.concatenate(each)

"""The confidence of an answer: the probability that its label is right.

Letters: N images, K labels.
"""

from __future__ import annotations

from sign_ensemble.rejection.conformal import Floats
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.temperature import tempered


def confidence(
    probs_NK: Floats,
    statistic_N: Floats,
    temperature: float,
    in_distribution: InDistribution | None,
) -> Floats:
    """P(in-distribution | statistic) × max_k p_k at the temperature, (N,); where the first factor
    is not known (None), the second alone.
    """
    of_label_N = tempered(probs_NK, temperature).max(-1)
    return of_label_N if in_distribution is None else of_label_N * in_distribution.of(statistic_N)

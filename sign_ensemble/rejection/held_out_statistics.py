"""The rule's statistic of signs, and of signs with held-out labels, for signers left out in turn.

A sign whose label no model was fitted to, by a signer whom none has seen, is what a wrong gesture
is to the finished ensemble: a real hand, well taken, of no label.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.rejection.conformal import Floats, calibration_weights
from sign_ensemble.rejection.p_in_distribution import InDistribution, fit_in_distribution
from sign_ensemble.rejection.rule import ood_statistic


@dataclass(frozen=True)
class HeldOutScores:
    """Out-of-signer scores of all training images with one group of labels held out."""

    scores: Mapping[str, Floats]  # scores (N,) by name
    groups_N: NDArray[np.int64]  # the signer (fold) of each image
    held_out_N: NDArray[np.bool_]  # whether its label was held out
    copies_N: NDArray[np.bool_] | None = None  # which are augmented copies; None: none


def statistics_by_signer(held_out: HeldOutScores) -> list[tuple[Floats, Floats]]:
    """For each signer, the statistic of their signs and of their images with held-out labels; each
    calibrated on the other signers' signs, as an unseen signer's would be.
    """

    def some(rows_N: NDArray[np.bool_]) -> dict[str, Floats]:
        return {name: scores_N[rows_N] for name, scores_N in held_out.scores.items()}

    found = []
    signs_N = ~held_out.held_out_N
    for group in np.unique(held_out.groups_N[signs_N]):
        of_group_N = held_out.groups_N == group
        others_N = signs_N & ~of_group_N
        calibration = some(others_N)
        copies_N = held_out.copies_N
        weights = calibration_weights(
            held_out.groups_N[others_N], None if copies_N is None else copies_N[others_N]
        )
        signs, ood = (
            ood_statistic(some(rows_N & of_group_N), calibration, weights)
            for rows_N in (signs_N, held_out.held_out_N)
        )
        found.append((signs, ood))
    return found


def in_distribution_of(
    held_out: Sequence[HeldOutScores], ood_prior: float
) -> InDistribution | None:
    """P(in-distribution | statistic) from all held-out label groups; None where there are none, or
    where the prior is 0.
    """
    pairs = [pair for each in held_out for pair in statistics_by_signer(each)]
    ood = [statistic_N for _, statistic_N in pairs if len(statistic_N)]
    if not (ood and ood_prior):
        return None
    return fit_in_distribution([signs for signs, _ in pairs], ood, ood_prior)

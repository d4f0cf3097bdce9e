"""Clouds in what a member's own convolutions see: they read beside the member, and are a witness.

On letters by signers left out (hand1 to hand4 of protocol M, 7 cases, one network each) a
fine-tuned network read .982 of them, .987 with the clouds of its fifth layer beside it, .980 with
clouds of frozen layers. Left-out letters too (8 cases) own clouds tell apart better than frozen
ones, AUROC .934 against .906, and as well beside them (the larger surprise of both: .932; FPR95
.303 against .376). On strangers' digits they did not (README), so they decide only where asked to.
Alone they would not do: thresholds from judges, which saw one signer fewer, did not hold for
members, and a rule of own clouds and the guard answered up to 41 % of other people's hands.

Letters: N images asked about, B training images, D features, L labels with a cloud, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.backbone import FIFTH_FEATURES
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    fit_class_gaussians,
    label_distances,
    relative,
)
from sign_ensemble.rejection.reference_set import of_all_labels

LABELS = "labels"  # among the arrays
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MemberGda:
    """Clouds of training images as one network sees them.

    Args:
        labels_L: The labels that have a cloud, ascending.
        clouds: Of its fifth layer.
    """

    labels_L: NDArray[np.int64]
    clouds: ClassGaussians

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name."""
        return {LABELS: self.labels_L, **self.clouds.arrays()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> MemberGda:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        return cls(arrays[LABELS], ClassGaussians.of_arrays(arrays))


def fit_member_gda(features_BE: NDArray[np.float16], labels_B: NDArray[np.int64]) -> MemberGda:
    """The clouds of training images in a network's features of them."""
    return MemberGda(
        np.unique(labels_B), fit_class_gaussians(features_BE[:, :FIFTH_FEATURES], labels_B)
    )


@dataclass(frozen=True)
class GdaDistances:
    """How far N images are from a network's own clouds.

    Args:
        cloud_N: Relative distance, see ``gaussians.py``.
        to_labels_NK: Squared Mahalanobis distance to each label's cloud.
    """

    cloud_N: Floats
    to_labels_NK: Floats


def gda_distances(features_ND: NDArray[np.float16], own: MemberGda, labels: int) -> GdaDistances:
    """Distances of images, as the same network sees them, to its clouds.

    A label without a cloud is as far as the farthest with one.
    """
    to_clouds_NL, to_all_N = label_distances(features_ND[:, :FIFTH_FEATURES], own.clouds)
    to_labels_NK = of_all_labels(to_clouds_NL, own.labels_L, labels)
    return GdaDistances(relative(to_clouds_NL, to_all_N), to_labels_NK)


def of_members(each: Sequence[GdaDistances], votes_M: Floats) -> tuple[Floats, Floats]:
    """The relative distance (N,), a mean by votes; and every member's distances (M, N, K)."""
    clouds_MN = np.stack([one.cloud_N for one in each])
    return votes_M / votes_M.sum() @ clouds_MN, np.stack([one.to_labels_NK for one in each])

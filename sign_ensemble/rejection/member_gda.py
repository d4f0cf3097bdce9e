"""GDA on the features of a fine-tuned member's own convolutions.

Letters: N images, B images fitted on, D features, K labels, L labels that occur among the B, M
members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.backbone import FIFTH_FEATURES
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    fit_class_gaussians,
    label_distances,
)
from sign_ensemble.rejection.kind_distances import of_all_labels

LABELS = "labels"  # among the arrays


@dataclass(frozen=True)
class MemberGda:
    """Class Gaussians of the fifth layer of one member's convolutions."""

    labels_L: NDArray[np.int64]  # the labels that have a Gaussian, ascending
    gaussians: ClassGaussians  # the Gaussians

    def to_labels(self, features_ND: NDArray[np.float16], labels: int) -> NDArray[np.float64]:
        """Squared Mahalanobis distance to each of K labels (N, K); a label without a Gaussian is
        as far as the farthest with one. The fifth layer's features come first.
        """
        to_some_NL, _ = label_distances(features_ND[:, :FIFTH_FEATURES], self.gaussians)
        return of_all_labels(to_some_NL, self.labels_L, labels)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All fields by name."""
        return {LABELS: self.labels_L, **self.gaussians.arrays()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> MemberGda:
        """Undo :meth:`arrays`."""
        return cls(arrays[LABELS], ClassGaussians.of_arrays(arrays))


def fit_member_gda(features_BD: NDArray[np.float16], labels_B: NDArray[np.int64]) -> MemberGda:
    """Fit to a member's features of training images."""
    fifth_BD = features_BD[:, :FIFTH_FEATURES]
    return MemberGda(np.unique(labels_B), fit_class_gaussians(fifth_BD, labels_B))

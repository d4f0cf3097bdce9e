"""Clouds in what a member's own convolutions see.

Convolutions that learned the labels spread what is no label: on letters left out, by signers left
out (7 cases, letters of protocol M's hand1 to hand4, one network each), the relative distance in
the fifth layer of a fine-tuned network had AUROC .927 and accepted .29 at 95 % of signs, that in
the frozen third layer .898 and .37; and averaged with the network's own answer its clouds read
better than the network alone (accuracy .987 against .982).

Letters: N images asked about, B training images, D features, L labels with a cloud, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.backbone import D
from sign_ensemble.uncertainty.gaussians import Clouds, fit_clouds, label_distances, relative
from sign_ensemble.uncertainty.readings import of_all_labels

LABELS = "labels"  # among the arrays
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OwnClouds:
    """Clouds of training images as one network sees them.

    Args:
        labels_L: The labels that have a cloud, ascending.
        clouds: Of its fifth layer.
    """

    labels_L: NDArray[np.int64]
    clouds: Clouds

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name."""
        return {LABELS: self.labels_L, **self.clouds.arrays()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> OwnClouds:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        return cls(arrays[LABELS], Clouds.of_arrays(arrays))


@dataclass(frozen=True)
class Away:
    """How far N images are from a network's own clouds.

    Args:
        cloud_N: Relative distance, see ``gaussians.py``.
        to_labels_NK: Squared Mahalanobis distance to each label's cloud.
    """

    cloud_N: Floats
    to_labels_NK: Floats


def fit_own(features_BE: NDArray[np.float16], labels_B: NDArray[np.int64]) -> OwnClouds:
    """The clouds of training images in a network's features of them."""
    return OwnClouds(np.unique(labels_B), fit_clouds(features_BE[:, :D], labels_B))


def away(features_NE: NDArray[np.float16], own: OwnClouds, labels: int) -> Away:
    """Distances of images, as the same network sees them, to its clouds.

    A label without a cloud is as far as the farthest with one.
    """
    to_clouds_NL, to_all_N = label_distances(features_NE[:, :D], own.clouds)
    return Away(relative(to_clouds_NL, to_all_N), of_all_labels(to_clouds_NL, own.labels_L, labels))


def joined(parts: Iterable[Away], labels: int) -> Away:
    """Of some images after those of others."""
    kept = list(parts)
    return Away(
        np.concatenate([np.zeros(0), *(part.cloud_N for part in kept)]),
        np.concatenate([np.zeros((0, labels)), *(part.to_labels_NK for part in kept)]),
    )


def of_members(each: Sequence[Away], votes_M: Floats) -> tuple[Floats, Floats]:
    """The relative distance (N,), a mean by votes; and every member's distances (M, N, K)."""
    clouds_MN = np.stack([one.cloud_N for one in each])
    return votes_M / votes_M.sum() @ clouds_MN, np.stack([one.to_labels_NK for one in each])

"""Which part of a picture fits the label worst, however well the others do.

Many a wrong gesture is a sign but for one finger. Of a distance to a label's whole cloud that is a
small part, and what is unusual in any new hand adds up in the rest. So each of the third layer's
3 x 3 places has clouds of its own, and the place that fits the nearest label worst speaks, with a
little of the whole; so do the fourth layer's places, and the two layers' worst count alike. On
letters left out, by signers left out (100 cases of five splits of protocol M; nobody's digits):
AUROC .921 and .344 of them kept at 95 % of signs kept, against .916 and .370 by the third layer's
places alone (better with 17 of 20 signers of a split) and .899 and .416 by the whole alone. The
worst of both layers' places .920 and .341; of second to fifth layer .920 to .922 and .351 to .357;
5 x 5 or 4 x 4 places instead of 3 x 3 .88 and .90, two by two of them together .89. On four
built-in people drawn anew, each a stranger to three, gestures' AUROC .805 and .717 kept instead of
.814 and .733 (n = 60), and of the worst of both .789.
Small patches of the second layer against the nearest label's images: .928 and .341 there, but on
built-in signers they tell little and spoil the rest; see README.

Letters: N images asked about, B training images, C features of the third layer, F of the fourth, K
labels, J = PLACES² places of L = 2 layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.data.convolutions import PLACES
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    Floats,
    check_training,
    fit_in_hellinger,
    hellinger,
    hellinger_chunks,
    hellinger_distances,
)

# Tried on the same letters (AUROC); what is within a standard error (.003) is left at less.
DIRECTIONS = 80  # .9151; 40: .9131, 120: .9166
SHRINK = 0.4  # share of round covariance; .2: .9128, .6: .9151
WHOLE = 0.25  # of the whole's distance; .15: .9146, .5: .9144, 0: .9108
J = PLACES * PLACES
L = 2
Layers = tuple[NDArray[np.float16], NDArray[np.float16]]  # features of the third, of the fourth


def by_region(of_all_NC: torch.Tensor) -> torch.Tensor:
    """A layer's features, as ``Convolutions`` lays them out, place by place: (J, N, C / J)."""
    return of_all_NC.unflatten(1, (-1, J)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class RegionalGaussians:
    """Clouds of each label in each place.

    Args:
        places: J of the third layer, then J of the fourth.
    """

    places: tuple[ClassGaussians, ...]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name."""
        each = enumerate(self.places)
        return {f"{i}.{name}": v for i, one in each for name, v in one.arrays().items()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> RegionalGaussians:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        names = ClassGaussians.__dataclass_fields__
        each = ({name: arrays[f"{i}.{name}"] for name in names} for i in range(L * J))
        return cls(tuple(ClassGaussians.of_arrays(of) for of in each))

    def distances(self, layers: Layers) -> tuple[Floats, Floats]:
        """Squared Mahalanobis distances to each label's cloud (LJ, N, K) and that of all (LJ, N).

        Raises:
            ValueError: a feature is not a finite number.
        """
        to_labels = [np.zeros((L * J, 0, len(self.places[0].means_KP)))]
        to_all = [np.zeros((L * J, 0))]
        for some in zip(*map(hellinger_chunks, layers), strict=True):
            rooted_of = [rooted_NC for layer in some for rooted_NC in by_region(layer)]
            each = [
                hellinger_distances(rooted_NC, clouds)
                for rooted_NC, clouds in zip(rooted_of, self.places, strict=True)
            ]
            to_labels.append(np.stack([to_labels_NK for to_labels_NK, _ in each]))
            to_all.append(np.stack([to_all_N for _, to_all_N in each]))
        return np.concatenate(to_labels, 1), np.concatenate(to_all, 1)


def fit_regional(layers: Layers, labels_B: NDArray[np.int64]) -> RegionalGaussians:
    """The clouds of training images in each place.

    Raises:
        ValueError: there is no image, or a feature is not a finite number.
    """
    found: list[ClassGaussians] = []
    for layer in layers:
        check_training(layer)
        places = by_region(hellinger(layer))
        found += [fit_in_hellinger(each, labels_B, DIRECTIONS, SHRINK) for each in places]
    return RegionalGaussians(tuple(found))


def worst_region(to_labels_JNK: Floats, to_all_JN: Floats) -> Floats:
    """The mean over layers of max_j M_jk − M_j0, j the layer's places, of the nearest label
    k = argmin_k Σ_j M_jk by both layers' places; unbounded.

    M are squared Mahalanobis distances in place j, M_j0 to the cloud of all images.
    """
    nearest_N = to_labels_JNK.sum(0).argmin(1)
    of_nearest_JN = np.take_along_axis(to_labels_JNK, nearest_N[None, :, None], 2)[..., 0]
    worst_N: Floats = (of_nearest_JN - to_all_JN).reshape(L, J, -1).max(1).mean(0)
    return worst_N


def regional_distance(layers: Layers, parts: RegionalGaussians, whole_N: Floats) -> Floats:
    """How far the worst part is outside the nearest label's cloud, plus WHOLE of the whole.

    Args:
        layers: Features of the images asked about.
        parts: Clouds of each place.
        whole_N: Relative distance of the whole, see ``gaussians.py``.

    Raises:
        ValueError: a feature is not a finite number.
    """
    return worst_region(*parts.distances(layers)) + WHOLE * whole_N

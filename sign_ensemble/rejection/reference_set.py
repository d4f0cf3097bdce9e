"""Training images as a bank, and how far other images are from it.

Distances of a training signer's own images are to those of the other signers alone: as a stranger's
would be.

Letters: R layers with clouds, N images, B training images, V views, D features of the fifth layer,
C of the third, F of the fourth, L labels with a cloud, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data.backbone import Features
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    fit_class_gaussians,
    label_distances,
    relative,
)
from sign_ensemble.rejection.hand_count import HandCountDetector, HandCountImages, HandCountTraining
from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours
from sign_ensemble.rejection.norms import Norms
from sign_ensemble.rejection.regional_mahalanobis import (
    RegionalGaussians,
    fit_regional,
    regional_distance,
)
from sign_ensemble.rejection.vetoes import HANDS

DIRECTIONS = 400  # of the fifth layer: its clouds read .949, with 200: .944, 100: .929
MOST_ROWS = 8000  # images and views that the fifth layer's clouds are fitted to (600 MB)
FITTED_AT_ONCE = 4  # atlases: the fifth layer's clouds take as much memory each
AT_ONCE = 4096  # images whose features are in memory together
Floats = NDArray[np.float64]


class Rows(Protocol):
    """Features of images, in memory or not."""

    def rows(self, chosen: NDArray[np.int64]) -> Features:
        """Those of some of the images."""
        ...


@dataclass(frozen=True)
class ReferenceSet:
    """Training images that distances are measured to.

    Args:
        fifth_BVD: Features of the fifth layer, of each image and its views.
        third_BD: Features of the third layer.
        fourth_BD: Of the fourth.
        labels_B: Their labels.
        groups_B: The signer (fold) of each.
        hands: Pictures made of their signs; None where nobody asks for the guards of HANDS.
    """

    fifth_BVD: NDArray[np.float16]
    third_BD: NDArray[np.float16]
    fourth_BD: NDArray[np.float16]
    labels_B: NDArray[np.int64]
    groups_B: NDArray[np.int64]
    hands: HandCountImages | None = None

    def without(self, group: int) -> ReferenceSet:
        """The images of all other signers."""
        return self.rows(self.groups_B != group)

    def rows(self, chosen_B: NDArray[np.bool_]) -> ReferenceSet:
        """Some of the images, without pictures."""
        return ReferenceSet(
            self.fifth_BVD[chosen_B],
            self.third_BD[chosen_B],
            self.fourth_BD[chosen_B],
            self.labels_B[chosen_B],
            self.groups_B[chosen_B],
        )

    @cached_property
    def lessons(self) -> HandCountTraining | None:
        """What the guards of HANDS learn from, made ready once."""
        if self.hands is None:
            return None
        return HandCountTraining.of(self.fifth_BVD[:, 0], self.groups_B, self.hands)


@dataclass(frozen=True)
class DistanceModels:
    """Clouds of each label in the third layer, and in the fifth where they read.

    Args:
        labels_L: The labels that have a cloud, ascending.
        third: The third layer's.
        parts: The third layer's and the fourth's, of each place alone.
        fifth: The fifth's.
        hands: What no sign looks like, and two at once.
    """

    labels_L: NDArray[np.int64]
    third: ClassGaussians
    parts: RegionalGaussians
    fifth: ClassGaussians | None
    hands: HandCountDetector | None = None


@dataclass(frozen=True)
class Distances:
    """How far N images are from the training images.

    Args:
        neighbour_N: See ``neighbours.py``.
        cloud_N: See ``relative_distance`` of ``gaussians.py``.
        part_N: See ``parts.py``.
        norm_N: See ``norms.py``.
        to_labels_RNK: Squared Mahalanobis distance to each label's cloud, by layer.
        own_N: As cloud_N, to the clouds of members' own convolutions; None where they have none.
        hands_NG: By each of HANDS, see ``hands.py``; None where nobody asks.
    """

    neighbour_N: Floats
    cloud_N: Floats
    part_N: Floats
    norm_N: Floats
    to_labels_RNK: Floats
    own_N: Floats | None = None
    hands_NG: Floats | None = None


def fit_distance_models(
    bank: ReferenceSet, reads: bool, hands: HandCountDetector | None = None
) -> DistanceModels:
    """The clouds of training images, of the fifth layer too if clouds read; and, unless that is
    given, what no sign looks like, and two.
    """
    labels_L, third = np.unique(bank.labels_B), fit_class_gaussians(bank.third_BD, bank.labels_B)
    parts = fit_regional((bank.third_BD, bank.fourth_BD), bank.labels_B)
    if bank.lessons and hands is None:
        hands = bank.lessons.fit()
    if not reads:
        return DistanceModels(labels_L, third, parts, None, hands)
    views = max(0, min(bank.fifth_BVD.shape[1], MOST_ROWS // len(bank.labels_B)) - 1)
    some_BVD = bank.fifth_BVD[:, 1 : 1 + views] if views else None
    fifth = fit_class_gaussians(bank.fifth_BVD[:, 0], bank.labels_B, DIRECTIONS, some_BVD)
    return DistanceModels(labels_L, third, parts, fifth, hands)


def models_of_other_signers(
    bank: ReferenceSet,
    groups_N: NDArray[np.int64],
    reads: bool,
    hands: Mapping[int, HandCountDetector] | None = None,
) -> dict[int, DistanceModels]:
    """For each signer asked about, the clouds of all others' images.

    Args:
        bank: Training images; a signer need not have one there.
        groups_N: The signers asked about.
        reads: Whether clouds read.
        hands: What no sign and two look like by all others' signs, if that is known.

    Raises:
        ValueError: a signer is left with nobody to compare with.
    """
    known = hand_count_of_other_signers(bank, groups_N) if hands is None else hands
    groups = [int(group) for group in np.unique(groups_N)]

    def fit(number: int) -> DistanceModels:
        return fit_distance_models(bank.without(groups[number]), reads, known.get(groups[number]))

    # most of it are products and factors too small for two threads to share
    return dict(zip(groups, map_on_threads(len(groups), fit, FITTED_AT_ONCE), strict=True))


def hand_count_of_other_signers(
    bank: ReferenceSet, groups_N: NDArray[np.int64]
) -> dict[int, HandCountDetector]:
    """For each signer asked about, what no sign and two look like by all others' signs; nothing
    where nobody asks.
    """
    if bank.lessons is None:
        return {}
    return {int(group): bank.lessons.fit(int(group)) for group in np.unique(groups_N)}


def of_all_labels(to_clouds_NL: Floats, labels_L: NDArray[np.int64], labels: int) -> Floats:
    """Distances to all K labels (N, K) from those to the L that have a cloud; one without is as far
    as the farthest with one.
    """
    to_labels_NK = np.repeat(to_clouds_NL.max(1, keepdims=True), labels, 1)
    to_labels_NK[:, labels_L] = to_clouds_NL
    return to_labels_NK


def distances(found: Features, atlas: DistanceModels, labels: int) -> tuple[Floats, Floats, Floats]:
    """Relative distance to the third layer's clouds (N,), ``part_distance`` (N,), and the distances
    to all K labels (R, N, K).
    """
    to_clouds_NL, to_all_N = label_distances(found.third_ND, atlas.third)
    clouds = [to_clouds_NL]
    if atlas.fifth is not None:
        clouds.append(label_distances(found.fifth_ND, atlas.fifth)[0])
    to_labels_RNK = np.stack([of_all_labels(each, atlas.labels_L, labels) for each in clouds])
    whole_N, layers = relative(to_clouds_NL, to_all_N), (found.third_ND, found.fourth_ND)
    return whole_N, regional_distance(layers, atlas.parts, whole_N), to_labels_RNK


def measure_distances(
    found: Rows,
    groups_N: NDArray[np.int64],
    bank: ReferenceSet,
    others: Mapping[int, DistanceModels],
    k: int,
    labels: int,
) -> Distances:
    """Distances of images to the training images of signers that they are not of.

    Args:
        found: The images' features, which are looked at a few at a time.
        groups_N: The signer (fold) of each.
        bank: Training images.
        others: See :func:`models_of_other_signers`.
        k: Which neighbour.
        labels: How many labels there are.
    """
    layers = 1 + any(atlas.fifth is not None for atlas in others.values())
    near_N, cloud_N, part_N, norm_N = np.zeros((4, len(groups_N)))
    asks = all(atlas.hands for atlas in others.values())
    hands_NG = np.zeros((len(groups_N), len(HANDS)))
    to_labels_RNK = np.zeros((layers, len(groups_N), labels))
    near = NearestNeighbours.of(bank.fifth_BVD[:, 0])
    for group in np.unique(groups_N):
        mine = np.flatnonzero(groups_N == group)
        usual = Norms.of(bank.fifth_BVD[bank.groups_B != group, 0])
        for start in range(0, len(mine), AT_ONCE):
            chosen = mine[start : start + AT_ONCE]
            some = found.rows(chosen)
            near_N[chosen] = near.distances(some.fifth_ND, k, groups_N[chosen], bank.groups_B)
            found_of = distances(some, others[int(group)], labels)
            cloud_N[chosen], part_N[chosen], to_labels_RNK[:, chosen] = found_of
            norm_N[chosen] = usual.of_images(some.fifth_ND)
            if (hands := others[int(group)].hands) and asks:
                hands_NG[chosen] = hands.scores(some.fifth_ND)
    asked = hands_NG if asks else None
    return Distances(near_N, cloud_N, part_N, norm_N, to_labels_RNK, hands_NG=asked)

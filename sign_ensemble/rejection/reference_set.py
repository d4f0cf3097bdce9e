"""The reference set: training images that distances are measured to, and what is fitted to them.

A training signer's images are measured to those of the other signers alone, as an unseen signer's
would be.

Letters: N images, B reference images, V an image and its augmented copies, D features of a layer, K
labels, L labels that occur among the B, M layers with class Gaussians or members with GDA of their
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data.backbone import Features, HandFeatures
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    Floats,
    fit_class_gaussians,
    label_distances,
    relative_distance,
)
from sign_ensemble.rejection.hand_count import (
    COUNTS,
    HandCountDetector,
    HandCountImages,
    HandCountTraining,
)
from sign_ensemble.rejection.kind_distances import (
    READ_BY,
    KindDistances,
    KindGaussians,
    concatenate_kinds,
    fit_kind_gaussians,
    kind_distances,
    of_all_labels,
)
from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours
from sign_ensemble.rejection.regional_mahalanobis import (
    RegionalGaussians,
    fit_regional,
    regional_distance,
)

FIFTH_COMPONENTS = 400  # of the fifth layer's Gaussians, whose predictions join the ensemble
MOST_ROWS = 8000  # images and copies that the fifth layer's Gaussians are fitted to (600 MB)
FITTED_AT_ONCE = 4  # folds: the fifth layer's Gaussians take as much memory each
AT_ONCE = 4096  # images whose features are in memory together


class FeatureRows(Protocol):
    """Features of images, in memory or on disk."""

    def rows(self, chosen: NDArray[np.int64]) -> Features:
        """Those of some of the images."""
        ...


@dataclass(frozen=True)
class ReferenceSet:
    """Training images that distances are measured to."""

    # features of the fifth layer, of each image and its augmented copies
    fifth_BVD: NDArray[np.float16]
    third_BD: NDArray[np.float16]  # features of the third layer
    fourth_BD: NDArray[np.float16]  # features of the fourth layer
    labels_B: NDArray[np.int64]  # labels
    groups_B: NDArray[np.int64]  # the fold (signer) of each
    # what ``HandFeatures`` have of each image and some augmented copies; None: hands are not used
    hand_BVD: NDArray[np.float16] | None = None
    # what the hand-count detector is fitted to; None: there is no such detector
    pictures: HandCountImages | None = None

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
            None if self.hand_BVD is None else self.hand_BVD[chosen_B],
        )

    def kind_gaussians(self) -> KindGaussians | None:
        """The Gaussians of fingertips and landmarks; None where no hand was found."""
        if self.hand_BVD is None:
            return None
        features = HandFeatures(self.hand_BVD.reshape(-1, self.hand_BVD.shape[2]))
        return fit_kind_gaussians(features, np.repeat(self.labels_B, self.hand_BVD.shape[1]))

    @cached_property
    def hand_count_training(self) -> HandCountTraining | None:
        """What the hand-count detectors of all folds are fitted to."""
        if self.pictures is None:
            return None
        return HandCountTraining.of(self.fifth_BVD[:, 0], self.groups_B, self.pictures)


@dataclass(frozen=True)
class DistanceModels:
    """What is fitted to a reference set."""

    labels_L: NDArray[np.int64]  # the labels that occur in it, ascending
    third: ClassGaussians  # class Gaussians of the third layer
    regional: RegionalGaussians  # class Gaussians of every region of the third and fourth layer
    # class Gaussians of the fifth layer; None where GDA predictions are not used
    fifth: ClassGaussians | None = None
    # the hand-count detector; None where it is not used
    hand_count: HandCountDetector | None = None
    # class Gaussians of fingertips and landmarks; None where hands are not used
    kinds: KindGaussians | None = None


@dataclass(frozen=True)
class Distances:
    """How far N images are from a reference set."""

    knn_N: Floats  # kNN distance, see ``nearest_neighbours.py``
    regional_N: Floats  # see ``regional_mahalanobis.py``
    # squared Mahalanobis distance to each label: by layer, or by member where members have GDA of
    # their own
    to_labels_MNK: Floats
    hand_count_N2: Floats | None = None  # see ``hand_count.py``; None where it is not used
    kinds: KindDistances | None = None  # see ``kind_distances.py``; None where hands are not used


def concatenate_distances(parts: Sequence[Distances]) -> Distances:
    """Distances of several sets of images, one after the other, to the same reference set."""
    counts = [part.hand_count_N2 for part in parts if part.hand_count_N2 is not None]
    kinds = [part.kinds for part in parts if part.kinds is not None]
    return Distances(
        np.concatenate([part.knn_N for part in parts]),
        np.concatenate([part.regional_N for part in parts]),
        np.concatenate([part.to_labels_MNK for part in parts], 1),
        np.concatenate(counts) if counts else None,
        concatenate_kinds(kinds) if kinds else None,
    )


def fit_distance_models(
    reference: ReferenceSet, gda: bool, hand_count: HandCountDetector | None = None
) -> DistanceModels:
    """Fit everything to a reference set: with ``gda`` the fifth layer's Gaussians too, without
    ``hand_count`` the detector.
    """
    labels_L = np.unique(reference.labels_B)
    third = fit_class_gaussians(reference.third_BD, reference.labels_B)
    regional = fit_regional((reference.third_BD, reference.fourth_BD), reference.labels_B)
    if hand_count is None and reference.hand_count_training:
        hand_count = reference.hand_count_training.fit()
    kinds = reference.kind_gaussians()
    if kinds or not gda:
        return DistanceModels(labels_L, third, regional, None, hand_count, kinds)
    fifth_BVD = reference.fifth_BVD
    copies = max(0, min(fifth_BVD.shape[1], MOST_ROWS // len(reference.labels_B)) - 1)
    augmented_BVD = fifth_BVD[:, 1 : 1 + copies] if copies else None
    fifth = fit_class_gaussians(
        fifth_BVD[:, 0], reference.labels_B, FIFTH_COMPONENTS, augmented_BVD
    )
    return DistanceModels(labels_L, third, regional, fifth, hand_count, kinds)


def models_of_other_signers(
    reference: ReferenceSet,
    groups_N: NDArray[np.int64],
    gda: bool,
    hand_count: Mapping[int, HandCountDetector] | None = None,
) -> dict[int, DistanceModels]:
    """For each signer, what :func:`fit_distance_models` fits to the other signers' images.

    ``groups_N`` names the signers, any number of times each; they need not have reference images.

    Raises:
        ValueError: a signer is left with nobody to compare with.
    """
    groups = [int(group) for group in np.unique(groups_N)]
    known = hand_count_of_other_signers(reference, groups_N) if hand_count is None else hand_count

    def fit(number: int) -> DistanceModels:
        group = groups[number]
        return fit_distance_models(reference.without(group), gda, known.get(group))

    # most products here are too small for two threads to share
    return dict(zip(groups, map_on_threads(len(groups), fit, FITTED_AT_ONCE), strict=True))


def hand_count_of_other_signers(
    reference: ReferenceSet, groups_N: NDArray[np.int64]
) -> dict[int, HandCountDetector]:
    """For each signer, the hand-count detector of the others; empty where it is not used."""
    training = reference.hand_count_training
    if training is None:
        return {}
    return {int(group): training.fit(int(group)) for group in np.unique(groups_N)}


def mahalanobis_distances(
    features: Features, models: DistanceModels, labels: int
) -> tuple[Floats, Floats, KindDistances | None]:
    """Regional Mahalanobis distance (N,), squared distances to all labels by layer (M, N, K), and
    the distances by fingertips and landmarks, whose discriminants take the layers' place.
    """
    to_some_NL, to_all_N = label_distances(features.third_ND, models.third)
    regional_N = regional_distance(
        (features.third_ND, features.fourth_ND),
        models.regional,
        relative_distance(to_some_NL, to_all_N),
    )
    if models.kinds:
        kinds = kind_distances(features.of_hand, models.kinds, labels)
        return regional_N, kinds.in_discriminants_2NK, kinds
    layers = [to_some_NL]
    if models.fifth is not None:
        layers.append(label_distances(features.fifth_ND, models.fifth)[0])
    each = [of_all_labels(to_some, models.labels_L, labels) for to_some in layers]
    return regional_N, np.stack(each), None


def distances_to_others(
    features: FeatureRows,
    groups_N: NDArray[np.int64],
    reference: ReferenceSet,
    models: Mapping[int, DistanceModels],
    k: int,
    labels: int,
) -> Distances:
    """Distances of images, ``groups_N`` being their signers, to the reference images of the other
    signers; ``models`` are those of :func:`models_of_other_signers`, and ``labels`` is K.
    """
    n = len(groups_N)
    with_kinds = reference.hand_BVD is not None
    with_fifth = any(each.fifth is not None for each in models.values())
    layers = len(READ_BY) if with_kinds else 1 + with_fifth
    of_kinds = KindDistances.zeros(np.zeros(n, np.int64), labels)
    counts = all(each.hand_count for each in models.values())
    knn_N, regional_N = np.zeros((2, n))
    hand_count_N2, to_labels_MNK = np.zeros((n, len(COUNTS))), np.zeros((layers, n, labels))
    neighbours = NearestNeighbours.of(reference.fifth_BVD[:, 0])
    for group in np.unique(groups_N):
        of_group, fitted = np.flatnonzero(groups_N == group), models[int(group)]
        for start in range(0, len(of_group), AT_ONCE):
            rows = of_group[start : start + AT_ONCE]
            some = features.rows(rows)
            fifth_ND = some.fifth_ND
            knn_N[rows] = neighbours.distances(fifth_ND, k, groups_N[rows], reference.groups_B)
            regional_N[rows], to_labels_MNK[:, rows], kinds = mahalanobis_distances(
                some, fitted, labels
            )
            if kinds:
                for name, values in vars(kinds).items():
                    getattr(of_kinds, name)[rows] = values
            if counts and fitted.hand_count:
                hand_count_N2[rows] = fitted.hand_count.scores(fifth_ND)
    return Distances(
        knn_N,
        regional_N,
        to_labels_MNK,
        hand_count_N2 if counts else None,
        of_kinds if with_kinds else None,
    )

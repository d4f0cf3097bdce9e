"""Clouds read as well: a Gaussian per label is a reader of its own, and takes no training.

A head learns what tells the labels of the training signers apart, and on few signers that is partly
the signers. The Gaussians' covariances hold how signs vary without being another sign, and are
rounded (Friedman 1989, regularised discriminant analysis). On signers left out they read better
than heads (8 cases from three people each, letters of protocol M, heads of 512 and 256 units:
accuracy .955, nll .156 for both layers together; .894 and .350 for a head).

Letters: M members, R readings (one per layer), N images, B training images, V views, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from sign_ensemble.data.backbone import Features
from sign_ensemble.uncertainty.ensemble import Evidence
from sign_ensemble.uncertainty.gaussians import Clouds, fit_clouds, label_distances, relative
from sign_ensemble.uncertainty.neighbours import Neighbours
from sign_ensemble.uncertainty.norms import Norms
from sign_ensemble.uncertainty.parts import Parts, fit_parts, part_distance

DIRECTIONS = 400  # of the fifth layer: .949, 200: .944, 100: .929
MOST_ROWS = 8000  # images and views that the fifth layer's clouds are fitted to (600 MB)
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # that a reading may get; all members together have 1
LOWEST, HIGHEST = 1.0, 1000.0  # temperatures; hundreds of directions that are not independent
AT_ONCE = 4096  # images whose features are in memory together
Floats = NDArray[np.float64]


class Rows(Protocol):
    """Features of images, in memory or not."""

    def rows(self, chosen: NDArray[np.int64]) -> Features:
        """Those of some of the images."""
        ...


@dataclass(frozen=True)
class Bank:
    """Training images that distances are measured to.

    Args:
        deep_BVD: Features of the fifth layer, of each image and its views.
        middle_BC: Features of the third layer.
        labels_B: Their labels.
        groups_B: The signer (fold) of each.
    """

    deep_BVD: NDArray[np.float16]
    middle_BC: NDArray[np.float16]
    labels_B: NDArray[np.int64]
    groups_B: NDArray[np.int64]

    def rows(self, chosen_B: NDArray[np.bool_]) -> Bank:
        """Some of the images."""
        return Bank(
            self.deep_BVD[chosen_B],
            self.middle_BC[chosen_B],
            self.labels_B[chosen_B],
            self.groups_B[chosen_B],
        )


@dataclass(frozen=True)
class Atlas:
    """Clouds of each label in the third layer, and in the fifth where they read.

    Args:
        labels_L: The labels that have a cloud, ascending.
        third: The third layer's.
        parts: The third layer's, of each place alone.
        fifth: The fifth's.
    """

    labels_L: NDArray[np.int64]
    third: Clouds
    parts: Parts
    fifth: Clouds | None


@dataclass(frozen=True)
class Measured:
    """How far N images are from the training images.

    Args:
        neighbour_N: See ``neighbours.py``.
        cloud_N: See ``relative_distance`` of ``gaussians.py``.
        part_N: See ``parts.py``.
        norm_N: See ``norms.py``.
        to_labels_RNK: Squared Mahalanobis distance to each label's cloud, by layer.
        own_N: As cloud_N, to the clouds of members' own convolutions; None where they have none.
    """

    neighbour_N: Floats
    cloud_N: Floats
    part_N: Floats
    norm_N: Floats
    to_labels_RNK: Floats
    own_N: Floats | None = None


@dataclass(frozen=True)
class Readings:
    """How the clouds' distances become logits, and what they count.

    Args:
        temperatures: T of each layer; one for all members' own clouds.
        weight: What each layer's reading counts, all members together being 1; what all members'
            own clouds count together.
        own: Whether each member has clouds of its own, see ``own.py``.
    """

    temperatures: tuple[float, ...]
    weight: float
    own: bool = False

    def words(self) -> str:
        """For people."""
        if self.own:
            return f"each member's own clouds read too, and count {self.weight:g} times the member"
        return f"clouds read too: each of two layers counts {self.weight:g} times all members"

    def logits(self, to_labels_RNK: Floats) -> NDArray[np.float32]:
        """−M_k / (2 T): a Gaussian's log-density but for a constant, tempered; (R, N, K)."""
        half_R = -0.5 / np.array(self.temperatures)
        return (half_R[:, None, None] * to_labels_RNK).astype(np.float32)

    def beside(
        self, logits_MNK: NDArray[np.float32], votes_M: Floats, to_labels_RNK: Floats
    ) -> tuple[NDArray[np.float32], Floats]:
        """The members' logits and votes, and after them the readings'."""
        votes_R = self.weight * votes_M
        if not self.own:
            votes_R = np.full(len(self.temperatures), self.weight * votes_M.sum())
        return (
            np.concatenate([logits_MNK, self.logits(to_labels_RNK)]),
            np.concatenate([votes_M, votes_R]),
        )


def evidence_of(
    logits_MNK: NDArray[np.float32], votes_M: Floats, at: Measured, readings: Readings | None
) -> Evidence:
    """What members and training images say of images.

    Args:
        logits_MNK: The members' logits.
        votes_M: Their votes.
        at: Distances to training images.
        readings: How clouds read; None where they do not.
    """
    said, clouds = (logits_MNK, votes_M), 0
    if readings:
        said, clouds = readings.beside(*said, at.to_labels_RNK), len(at.to_labels_RNK)
    return Evidence(*said, at.neighbour_N, at.cloud_N, at.part_N, at.norm_N, clouds, at.own_N)


def fit_atlas(bank: Bank, reads: bool) -> Atlas:
    """The clouds of training images; of the fifth layer too if clouds read."""
    labels_L, third = np.unique(bank.labels_B), fit_clouds(bank.middle_BC, bank.labels_B)
    parts = fit_parts(bank.middle_BC, bank.labels_B)
    if not reads:
        return Atlas(labels_L, third, parts, None)
    views = max(0, min(bank.deep_BVD.shape[1], MOST_ROWS // len(bank.labels_B)) - 1)
    some_BVD = bank.deep_BVD[:, 1 : 1 + views] if views else None
    fifth = fit_clouds(bank.deep_BVD[:, 0], bank.labels_B, DIRECTIONS, some_BVD)
    return Atlas(labels_L, third, parts, fifth)


def atlases_of_others(bank: Bank, groups_N: NDArray[np.int64], reads: bool) -> dict[int, Atlas]:
    """For each signer asked about, the clouds of all others' images.

    Args:
        bank: Training images; a signer need not have one there.
        groups_N: The signers asked about.
        reads: Whether clouds read.

    Raises:
        ValueError: a signer is left with nobody to compare with.
    """
    return {
        int(group): fit_atlas(bank.rows(bank.groups_B != group), reads)
        for group in np.unique(groups_N)
    }


def of_all_labels(to_clouds_NL: Floats, labels_L: NDArray[np.int64], labels: int) -> Floats:
    """Distances to all K labels (N, K) from those to the L that have a cloud; one without is as far
    as the farthest with one.
    """
    to_labels_NK = np.repeat(to_clouds_NL.max(1, keepdims=True), labels, 1)
    to_labels_NK[:, labels_L] = to_clouds_NL
    return to_labels_NK


def distances(found: Features, atlas: Atlas, labels: int) -> tuple[Floats, Floats, Floats]:
    """Relative distance to the third layer's clouds (N,), ``part_distance`` (N,), and the distances
    to all K labels (R, N, K).
    """
    to_clouds_NL, to_all_N = label_distances(found.middle_NC, atlas.third)
    layers = [to_clouds_NL]
    if atlas.fifth is not None:
        layers.append(label_distances(found.deep_ND, atlas.fifth)[0])
    to_labels_RNK = np.stack([of_all_labels(each, atlas.labels_L, labels) for each in layers])
    whole_N = relative(to_clouds_NL, to_all_N)
    return whole_N, part_distance(found.middle_NC, atlas.parts, whole_N), to_labels_RNK


def measured(
    found: Rows,
    groups_N: NDArray[np.int64],
    bank: Bank,
    others: Mapping[int, Atlas],
    k: int,
    labels: int,
) -> Measured:
    """Distances of images to the training images of signers that they are not of.

    Args:
        found: The images' features, which are looked at a few at a time.
        groups_N: The signer (fold) of each.
        bank: Training images.
        others: See :func:`atlases_of_others`.
        k: Which neighbour.
        labels: How many labels there are.
    """
    layers = 1 + any(atlas.fifth is not None for atlas in others.values())
    near_N, cloud_N, part_N, norm_N = np.zeros((4, len(groups_N)))
    to_labels_RNK = np.zeros((layers, len(groups_N), labels))
    near = Neighbours.of(bank.deep_BVD[:, 0])
    for group in np.unique(groups_N):
        mine = np.flatnonzero(groups_N == group)
        usual = Norms.of(bank.deep_BVD[bank.groups_B != group, 0])
        for start in range(0, len(mine), AT_ONCE):
            chosen = mine[start : start + AT_ONCE]
            some = found.rows(chosen)
            near_N[chosen] = near.distances(some.deep_ND, k, groups_N[chosen], bank.groups_B)
            found_of = distances(some, others[int(group)], labels)
            cloud_N[chosen], part_N[chosen], to_labels_RNK[:, chosen] = found_of
            norm_N[chosen] = usual.of_images(some.deep_ND)
    return Measured(near_N, cloud_N, part_N, norm_N, to_labels_RNK)


def loss(probs_NK: Floats, labels_N: NDArray[np.int64], weights_N: Floats) -> float:
    """Weighted mean of −log p of the true label, nats."""
    true_N = probs_NK[np.arange(len(labels_N)), labels_N]
    return -float(weights_N @ np.log(np.maximum(true_N, 1e-300)))


def fit_readings(
    to_labels_RNK: Floats,
    logits_MNK: NDArray[np.float32],
    votes_M: Floats,
    labels_N: NDArray[np.int64],
    weights_N: Floats,
    own: bool = False,
) -> Readings | None:
    """Temperatures and weight with the lowest loss on images by signers that nobody had seen.

    Each layer's temperature makes its own reading's loss lowest; then the weight, the same for each
    layer, makes that of the whole ensemble lowest; ties go to less.

    Args:
        to_labels_RNK: Distances of the images to the clouds of others.
        logits_MNK: What members that had not seen the signers say of them.
        votes_M: The members' votes.
        labels_N: True labels.
        weights_N: How much each image counts, summing to 1.
        own: The distances are to clouds of the members' own, in their order: one temperature for
            all, and the weight is what all of them count together.

    Returns:
        None if the members are better without.
    """
    temperatures = []
    for layers in [to_labels_RNK] if own else [each[None] for each in to_labels_RNK]:

        def of(log_t: float, away_LNK: Floats = layers) -> float:
            probs_LNK = np.exp(log_softmax(-away_LNK / 2 / np.exp(log_t), -1))
            return sum(loss(probs_NK, labels_N, weights_N) for probs_NK in probs_LNK)

        found = minimize_scalar(of, bounds=np.log([LOWEST, HIGHEST]), method="bounded")
        temperatures.append(float(np.exp(found.x)))
    of_members_NK = np.tensordot(
        votes_M / votes_M.sum(), np.exp(log_softmax(logits_MNK.astype(np.float64), -1)), axes=1
    )
    of_clouds_RNK = np.exp(
        log_softmax(Readings(tuple(temperatures), 1.0).logits(to_labels_RNK).astype(np.float64), -1)
    )
    of_clouds_NK = of_clouds_RNK.mean(0) if own else of_clouds_RNK.sum(0)
    losses = {
        weight: loss(
            (of_members_NK + weight * of_clouds_NK) / (1 + weight * len(temperatures)),
            labels_N,
            weights_N,
        )
        for weight in WEIGHTS
    }
    best = min(WEIGHTS, key=lambda weight: (round(losses[weight], 12), weight))
    return Readings(tuple(temperatures), best, own) if best else None


def readings_of(values: dict[str, Any] | None) -> Readings | None:
    """A rule.json's readings."""
    if values is None:
        return None
    return Readings(tuple(values["temperatures"]), float(values["weight"]), bool(values["own"]))

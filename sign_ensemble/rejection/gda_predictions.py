"""Clouds read as well: a Gaussian per label is a reader of its own, and takes no training.

A head learns what tells the labels of the training signers apart, and on few signers that is partly
the signers. The Gaussians' covariances hold how signs vary without being another sign, and are
rounded (Friedman 1989, regularised discriminant analysis). On signers left out they read better
than heads (8 cases from three people each, letters of protocol M, heads of 512 and 256 units:
accuracy .955, nll .156 for both layers together; .894 and .350 for a head).

Letters: M members, R readings (one per layer), N images, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.reference_set import Distances

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # that a reading may get; all members together have 1
LOWEST, HIGHEST = 1.0, 1000.0  # temperatures; hundreds of directions that are not independent
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GdaPredictions:
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


def ensemble_output(
    logits_MNK: NDArray[np.float32], votes_M: Floats, at: Distances, readings: GdaPredictions | None
) -> EnsembleOutput:
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
    away = (at.neighbour_N, at.cloud_N, at.part_N, at.norm_N)
    return EnsembleOutput(*said, *away, clouds, at.own_N, at.hands_NG)


def loss(probs_NK: Floats, labels_N: NDArray[np.int64], weights_N: Floats) -> float:
    """Weighted mean of −log p of the true label, nats."""
    true_N = probs_NK[np.arange(len(labels_N)), labels_N]
    return -float(weights_N @ np.log(np.maximum(true_N, 1e-300)))


def fit_gda_predictions(
    to_labels_RNK: Floats,
    logits_MNK: NDArray[np.float32],
    votes_M: Floats,
    labels_N: NDArray[np.int64],
    weights_N: Floats,
    own: bool = False,
) -> GdaPredictions | None:
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
        log_softmax(
            GdaPredictions(tuple(temperatures), 1.0).logits(to_labels_RNK).astype(np.float64), -1
        )
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
    return GdaPredictions(tuple(temperatures), best, own) if best else None


def gda_predictions_of(values: dict[str, Any] | None) -> GdaPredictions | None:
    """A rule.json's readings."""
    if values is None:
        return None
    return GdaPredictions(
        tuple(values["temperatures"]), float(values["weight"]), bool(values["own"])
    )

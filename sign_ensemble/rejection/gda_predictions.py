"""GDA predictions: class Gaussians as classifiers that join the ensemble.

A head learns what separates the labels of the training signers, and with few signers part of that
is the signers themselves. Regularised Gaussians hold how a sign varies without being another one,
and read unseen signers better. They take no training.

Letters: N images, M members or layers with Gaussians, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from sign_ensemble.learning.task import Kind
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.joint_distance import JointScales, joint_distance
from sign_ensemble.rejection.kind_distances import READ_BY
from sign_ensemble.rejection.reference_set import Distances

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # tried; all members together have weight 1
LOWEST, HIGHEST = 1.0, 1000.0  # temperatures: hundreds of components that are not independent
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GdaPredictions:
    """How squared distances become logits, and how much they count."""

    # T of each layer; a single one where members have GDA of their own
    temperatures: tuple[float, ...]
    # weight of each layer's predictions, all members together having 1; or of all members' own GDA
    # together
    weight: float
    of_members: bool = False  # whether the Gaussians are fitted to each member's own features

    def words(self) -> str:
        """One sentence for people."""
        if self.of_members:
            return f"GDA on each member's features counts {self.weight:g} times the member"
        layers = len(self.temperatures)
        return f"GDA on each of {layers} inputs counts {self.weight:g} times all members together"

    def logits(self, to_labels_MNK: Floats) -> NDArray[np.float32]:
        """−M_k / (2 T), (M, N, K): a Gaussian's log-density up to a constant, tempered."""
        scale_M = -0.5 / np.array(self.temperatures)
        return (scale_M[:, None, None] * to_labels_MNK).astype(np.float32)

    def joined_to(
        self, logits_MNK: NDArray[np.float32], votes_M: Floats, to_labels_MNK: Floats
    ) -> tuple[NDArray[np.float32], Floats]:
        """The members' logits and votes, followed by those of the GDA predictions."""
        votes = self.weight * votes_M[: len(to_labels_MNK)]  # of pixel members, which come first
        if not self.of_members:
            votes = np.full(len(self.temperatures), self.weight * votes_M.sum())
        return (
            np.concatenate([logits_MNK, self.logits(to_labels_MNK)]),
            np.concatenate([votes_M, votes]),
        )


def ensemble_output(
    logits_MNK: NDArray[np.float32],
    votes_M: Floats,
    distances: Distances,
    gda: GdaPredictions | None,
    kinds_M: Sequence[Kind] = (),
    scales: JointScales | None = None,
) -> EnsembleOutput:
    """Members' logits and votes, GDA predictions if they are used, and distances in one record."""
    count = 0
    pixels: tuple[Kind, ...] = ("pixels",)
    kinds = tuple(kinds_M) or pixels * len(logits_MNK)
    if gda:
        logits_MNK, votes_M = gda.joined_to(logits_MNK, votes_M, distances.to_labels_MNK)
        count = len(distances.to_labels_MNK)
        by_kind = distances.kinds and not gda.of_members
        kinds = (*kinds, *(READ_BY if by_kind else pixels * count))
    output = EnsembleOutput(
        logits_MNK, votes_M, distances.knn_N, distances.regional_N, count,
        distances.hand_count_N2, kinds,
    )  # fmt: skip
    if distances.kinds is None or scales is None:
        return output
    joint = joint_distance(distances.kinds, distances.regional_N, scales)
    return replace(
        output,
        hands_N=distances.kinds.hands_N,
        joint_N=joint.total_N,
        tips_N=joint.tips_N,
        landmarks_N=joint.landmarks_N,
    )


def loss(probs_NK: Floats, labels_N: NDArray[np.int64], weights_N: Floats) -> float:
    """Σ_n w_n (−log p of the true label), nats."""
    true_N = probs_NK[np.arange(len(labels_N)), labels_N]
    return -float(weights_N @ np.log(np.maximum(true_N, 1e-300)))


def fit_gda_predictions(
    to_labels_MNK: Floats,
    logits_MNK: NDArray[np.float32],
    votes_M: Floats,
    labels_N: NDArray[np.int64],
    weights_N: Floats,
    of_members: bool = False,
) -> GdaPredictions | None:
    """Temperatures and weight with the lowest loss on unseen signers; None if that weight is 0.

    First each layer's temperature minimises its own loss; then the weight, the same for each layer,
    minimises the ensemble's. Ties go to the lower weight. Distances are to the other signers'
    Gaussians, logits are out-of-fold, and the images' weights sum to 1. Where distances are by
    member (``of_members``), one temperature serves all.
    """
    temperatures = []
    for layers in [to_labels_MNK] if of_members else [each[None] for each in to_labels_MNK]:

        def of(log_t: float, layers_MNK: Floats = layers) -> float:
            probs_MNK = np.exp(log_softmax(-layers_MNK / 2 / np.exp(log_t), -1))
            return sum(loss(probs_NK, labels_N, weights_N) for probs_NK in probs_MNK)

        found = minimize_scalar(of, bounds=np.log([LOWEST, HIGHEST]), method="bounded")
        temperatures.append(float(np.exp(found.x)))
    members_NK = np.tensordot(
        votes_M / votes_M.sum(), np.exp(log_softmax(logits_MNK.astype(np.float64), -1)), axes=1
    )
    gda_logits = GdaPredictions(tuple(temperatures), 1.0).logits(to_labels_MNK)
    gda_MNK = np.exp(log_softmax(gda_logits.astype(np.float64), -1))
    gda_NK = gda_MNK.mean(0) if of_members else gda_MNK.sum(0)
    losses = {
        weight: loss(
            (members_NK + weight * gda_NK) / (1 + weight * len(temperatures)), labels_N, weights_N
        )
        for weight in WEIGHTS
    }
    best = min(WEIGHTS, key=lambda weight: (round(losses[weight], 12), weight))
    return GdaPredictions(tuple(temperatures), best, of_members) if best else None


def gda_predictions_of(values: dict[str, Any] | None) -> GdaPredictions | None:
    """From rule.json."""
    if values is None:
        return None
    return GdaPredictions(tuple(values["temperatures"]), values["weight"], values["of_members"])

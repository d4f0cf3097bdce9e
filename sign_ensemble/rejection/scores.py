"""The scores an image can be rejected by: one list, which the rule, the report and the docs read.

Every score takes the ensemble's output on N images and gives N numbers, higher = reject. Scores of
single members are averaged after they are computed, since averaging logits or probabilities first
loses what single members know (Xia and Bouganis 2022, arXiv 2207.07517).

Letters: N images, M members, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.learning.task import Kind
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.reference_set import Distances

Scores = NDArray[np.float64]
OOD_SCORES = ("joint_distance", "regional_mahalanobis")  # the first that there is is tested
UNCERTAINTY_SCORE = "total_uncertainty"
HAND_COUNT_SCORES = ("no_hand", "two_hands")
COUNTED_SCORES = ("hand_not_found", "several_hands")  # 0 or 1, by MediaPipe's networks
VETOES = ("knn_distance", *HAND_COUNT_SCORES, *COUNTED_SCORES)


def entropy(probs_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """H(p) = −Σ_k p_k log p_k over the last axis, in nats, 0 log 0 = 0."""
    return -np.sum(probs_K * np.log(np.where(probs_K > 0, probs_K, 1.0)), -1)


def total_uncertainty(output: EnsembleOutput) -> Scores:
    """H(p̄), the entropy of the ensemble's mean probabilities; nats, 0 to log K."""
    return entropy(output.probs_NK)


def disagreement(output: EnsembleOutput) -> Scores:
    """H(p̄) − mean_m H(p_m), the mutual information of label and member; nats, 0 to log K.

    It accepts images far from the data, where all members know equally little. It is the sum of
    the disagreement between the kinds, within pixels and within landmarks.
    """
    each = entropy(np.exp(output.log_probs_MNK))
    return np.maximum(entropy(output.probs_NK) - output.mean(each), 0.0)


def disagreement_between(output: EnsembleOutput) -> Scores:
    """H(p̄) − Σ_g w_g H(p̄_g) over the kinds g of members, w_g a kind's share of the votes."""
    within = sum(share * entropy(probs_NK) for share, probs_NK, _ in by_kind(output).values())
    return np.maximum(entropy(output.probs_NK) - within, 0.0)


def disagreement_within(output: EnsembleOutput, kind: Kind) -> Scores:
    """w_g (H(p̄_g) − mean of H(p_m) over the members of kind g); 0 without members of the kind."""
    share, probs_NK, each_N = by_kind(output).get(kind, (0.0, output.probs_NK, 0.0))
    return np.maximum(share * (entropy(probs_NK) - each_N), 0.0)


def by_kind(output: EnsembleOutput) -> dict[Kind, tuple[float, Scores, Scores]]:
    """Of each kind of members: its share of the votes, the mean of its members' probabilities
    (N, K), and the mean of their entropies (N,), both by votes.
    """
    votes_M = output.votes_M / output.votes_M.sum()
    probs_MNK, found = np.exp(output.log_probs_MNK), {}
    for kind in dict.fromkeys(output.kinds_M):
        of_kind = np.array([each == kind for each in output.kinds_M])
        share = float(votes_M[of_kind].sum())
        weights = votes_M[of_kind] / share
        probs = probs_MNK[of_kind]
        mean_NK = np.tensordot(weights, probs, 1)
        found[kind] = (share, mean_NK, np.tensordot(weights, entropy(probs), 1))
    return found


def of_hands(output: EnsembleOutput, name: str) -> Scores:
    """A score that is known where hands are used.

    Raises:
        ValueError: they are not.
    """
    if output.joint_N is None or output.hands_N is None:
        raise ValueError(f"{name}: hands are not used")
    hands_N = output.hands_N
    return {
        "joint_distance": output.joint_N,
        "hand_not_found": (hands_N == 0).astype(float),
        "several_hands": (hands_N > 1).astype(float),
    }[name]


def hand_count_score(output: EnsembleOutput, name: str) -> Scores:
    """``no_hand`` or ``two_hands``, about −1 to 1; see ``hand_count.py``.

    Raises:
        ValueError: the run has no hand-count detector.
    """
    if output.hand_count_N2 is None:
        raise ValueError(f"{name}: there is no hand-count detector")
    return output.hand_count_N2[:, HAND_COUNT_SCORES.index(name)]


def max_prob(probs_NK: NDArray[np.float64]) -> Scores:
    """1 − max_k p_k: the score of a single model, for comparison."""
    return 1 - probs_NK.max(-1)


@dataclass(frozen=True)
class Score:
    """One score."""

    name: str  # in settings, files and tables
    title: str  # words for people
    # what the rule does with it
    role: Literal["OOD test", "veto", "uncertainty test", "comparison"]
    meaning: str  # one sentence, with its source
    reason: str  # why an image is rejected by it
    # what it is computed from
    needs: Literal["members", "reference set", "hand-count detector", "hands", "both kinds"]
    of: Callable[[EnsembleOutput], Scores]  # the function


SCORES = (
    Score(
        "joint_distance",
        "joint distance",
        "OOD test",
        "How badly pixels at the fingertips and landmarks together fit one label's Gaussians.",
        "pixels and landmarks do not fit one label",
        "hands",
        lambda output: of_hands(output, "joint_distance"),
    ),
    Score(
        "regional_mahalanobis",
        "regional Mahalanobis distance",
        "OOD test",
        "How badly the worst region fits the nearest label's Gaussian; tested without hands.",
        "a part of the hand fits no label",
        "reference set",
        lambda output: output.regional_N,
    ),
    Score(
        "knn_distance",
        "kNN distance",
        "veto",
        "Cosine distance to the k-th nearest training image in frozen features (Sun et al. 2022).",
        "like nothing in the training images",
        "reference set",
        lambda output: output.knn_N,
    ),
    Score(
        "no_hand",
        "no hand",
        "veto",
        "Score of the classifier that finds pictures without a hand.",
        "hardly any hand in the picture",
        "hand-count detector",
        lambda output: hand_count_score(output, "no_hand"),
    ),
    Score(
        "two_hands",
        "two hands",
        "veto",
        "Score of the classifier that finds pictures with two hands.",
        "two hands at once",
        "hand-count detector",
        lambda output: hand_count_score(output, "two_hands"),
    ),
    Score(
        "hand_not_found",
        "hand not found",
        "veto",
        "Whether MediaPipe's networks find no hand; not used where they miss many training hands.",
        "no hand was found",
        "hands",
        lambda output: of_hands(output, "hand_not_found"),
    ),
    Score(
        "several_hands",
        "several hands",
        "veto",
        "Whether MediaPipe's networks find more than one hand.",
        "more than one hand",
        "hands",
        lambda output: of_hands(output, "several_hands"),
    ),
    Score(
        "total_uncertainty",
        "total uncertainty",
        "uncertainty test",
        "Entropy of the ensemble's mean probabilities.",
        "the ensemble is not sure which label it is",
        "members",
        total_uncertainty,
    ),
    Score(
        "disagreement",
        "disagreement",
        "comparison",
        "Mutual information of label and member: what the members disagree on.",
        "the members disagree",
        "members",
        disagreement,
    ),
    Score(
        "disagreement_between",
        "disagreement between kinds",
        "comparison",
        "The part of the disagreement that is between pixels and landmarks.",
        "pixels and landmarks disagree",
        "both kinds",
        disagreement_between,
    ),
    Score(
        "disagreement_pixels",
        "disagreement within pixels",
        "comparison",
        "The part of the disagreement that is among the members that read pixels.",
        "the members that read pixels disagree",
        "both kinds",
        lambda output: disagreement_within(output, "pixels"),
    ),
    Score(
        "disagreement_landmarks",
        "disagreement within landmarks",
        "comparison",
        "The part of the disagreement that is among the members that read landmarks.",
        "the members that read landmarks disagree",
        "both kinds",
        lambda output: disagreement_within(output, "landmarks"),
    ),
)
BY_NAME = {score.name: score for score in SCORES}


def all_scores(output: EnsembleOutput) -> dict[str, Scores]:
    """Every score of SCORES that can be computed from this output, by name."""
    missing = {
        "hand-count detector": output.hand_count_N2 is None,
        "hands": output.joint_N is None,
        "both kinds": len(set(output.kinds_M)) < 2,
    }
    return {score.name: score.of(output) for score in SCORES if not missing.get(score.needs)}


def distance_scores(distances: Distances) -> dict[str, Scores]:
    """The scores that need no member: the OOD score and the vetoes."""
    found = {"regional_mahalanobis": distances.regional_N, "knn_distance": distances.knn_N}
    if distances.hand_count_N2 is not None:
        found |= dict(zip(HAND_COUNT_SCORES, distances.hand_count_N2.T, strict=True))
    return found


def ood_score_among(scores: Mapping[str, Scores]) -> str:
    """The score of the OOD test, among those that there are."""
    return next(name for name in OOD_SCORES if name in scores)


def vetoes_among(scores: Mapping[str, Scores]) -> tuple[str, ...]:
    """The vetoes that there are scores of."""
    return tuple(name for name in VETOES if name in scores)

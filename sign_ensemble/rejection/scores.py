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

from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.reference_set import Distances

Scores = NDArray[np.float64]
OOD_SCORE, UNCERTAINTY_SCORE = "regional_mahalanobis", "total_uncertainty"
HAND_COUNT_SCORES = ("no_hand", "two_hands")
VETOES = ("knn_distance", *HAND_COUNT_SCORES)


def entropy(probs_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """H(p) = −Σ_k p_k log p_k over the last axis, in nats, 0 log 0 = 0."""
    return -np.sum(probs_K * np.log(np.where(probs_K > 0, probs_K, 1.0)), -1)


def total_uncertainty(output: EnsembleOutput) -> Scores:
    """H(p̄), the entropy of the ensemble's mean probabilities; nats, 0 to log K."""
    return entropy(output.probs_NK)


def disagreement(output: EnsembleOutput) -> Scores:
    """H(p̄) − mean_m H(p_m), the mutual information of label and member; nats, 0 to log K.

    It accepts images far from the data, where all members know equally little.
    """
    each = entropy(np.exp(output.log_probs_MNK))
    return np.maximum(entropy(output.probs_NK) - output.mean(each), 0.0)


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
    needs: Literal["members", "reference set", "hand-count detector"]  # what it is computed from
    of: Callable[[EnsembleOutput], Scores]  # the function


SCORES = (
    Score(
        "regional_mahalanobis",
        "regional Mahalanobis distance",
        "OOD test",
        "How badly the worst region of the image fits the nearest label's Gaussian.",
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
)
BY_NAME = {score.name: score for score in SCORES}


def all_scores(output: EnsembleOutput) -> dict[str, Scores]:
    """Every score of SCORES that can be computed from this output, by name."""
    missing = "hand-count detector" if output.hand_count_N2 is None else ""
    return {score.name: score.of(output) for score in SCORES if score.needs != missing}


def distance_scores(distances: Distances) -> dict[str, Scores]:
    """The scores that need no member: the OOD score and the vetoes."""
    found = {"regional_mahalanobis": distances.regional_N, "knn_distance": distances.knn_N}
    if distances.hand_count_N2 is not None:
        found |= dict(zip(HAND_COUNT_SCORES, distances.hand_count_N2.T, strict=True))
    return found


def vetoes_among(scores: Mapping[str, Scores]) -> tuple[str, ...]:
    """The vetoes that there are scores of."""
    return tuple(name for name in VETOES if name in scores)

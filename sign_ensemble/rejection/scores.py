"""The scores an image can be rejected by, siblings of one shape.

Each takes the evidence on N images and gives N numbers, higher = reject. Member-wise scores are
computed per member and averaged after (Xia & Bouganis 2022, arXiv 2207.07517: averaging logits or
probabilities first loses what single members know).

Letters: M members, N images, K labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.reference_set import Distances
from sign_ensemble.rejection.vetoes import HANDS

Scores = NDArray[np.float64]
GAMMA = 0.1  # of the generalised entropy, as published
STEEPEST = 100.0  # exponent of SIRC's; what is weaker still is as strange


def entropy(probs_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """H(p) = −Σ_k p_k log p_k over the last axis, in nats, 0 log 0 = 0."""
    return -np.sum(probs_K * np.log(np.where(probs_K > 0, probs_K, 1.0)), -1)


def total_uncertainty(evidence: EnsembleOutput) -> Scores:
    """H(p̄): how unsure the ensemble is, for whatever reason; nats, 0 to log K."""
    return entropy(evidence.probs_NK)


def disagreement(evidence: EnsembleOutput) -> Scores:
    """H(p̄) − mean_m H(p_m): mutual information of answer and member; nats, 0 to log K.

    Blind far from the data, where members agree on knowing nothing; see the other scores.
    """
    each = entropy(np.exp(evidence.log_probs_MNK))
    return np.maximum(entropy(evidence.probs_NK) - evidence.mean(each), 0.0)


def energy(evidence: EnsembleOutput) -> Scores:
    """mean_m −log Σ_k exp z_mk (Liu et al. 2020, arXiv 2010.03759); nats, unbounded."""
    logits = evidence.logits_MNK.astype(np.float64)
    top = logits.max(-1)
    return evidence.mean(-(top + np.log(np.exp(logits - top[..., None]).sum(-1))))


def max_logit(evidence: EnsembleOutput) -> Scores:
    """mean_m −max_k z_mk (Hendrycks et al. 2019, arXiv 1911.11132); unbounded."""
    return evidence.mean(-evidence.logits_MNK.astype(np.float64).max(-1))


def generalised_entropy(evidence: EnsembleOutput) -> Scores:
    """mean_m Σ_k (p_mk (1 − p_mk))^γ, γ = 0.1, over all labels (GEN, Liu et al. 2023, CVPR).

    Unlike the entropy it hears every label that has not quite been ruled out.
    """
    probs = np.exp(evidence.log_probs_MNK)
    return evidence.mean(((probs * (1 - probs)).clip(min=0.0) ** GAMMA).sum(-1))


def feature_norm(evidence: EnsembleOutput) -> Scores:
    """The norm's negative, standardised by training images; see ``norms.py``."""
    return -evidence.norm_N


def sirc(evidence: EnsembleOutput) -> Scores:
    """mean_m (1 − max_k p_mk) (1 + exp(−(s + 3))), s the standardised feature norm.

    SIRC (Xia & Bouganis 2022, arXiv 2207.07506): a softmax score where features are as strong as
    usual, and the more the weaker they are; a = μ − 3σ and b = 1/σ as there.
    """
    unsure_MN = 1 - np.exp(evidence.log_probs_MNK.max(-1))
    return evidence.mean(unsure_MN) * (1 + np.exp(np.minimum(-(evidence.norm_N + 3), STEEPEST)))


def neighbour(evidence: EnsembleOutput) -> Scores:
    """Cosine distance, 0 to 2, to the k-th nearest training image (Sun et al., arXiv 2204.06507).

    On the untouched ImageNet features: they still tell a photograph from a hand after members have
    forgotten the difference.
    """
    return evidence.neighbour_N


def relative_mahalanobis(evidence: EnsembleOutput) -> Scores:
    """min_k M_k − M_0: how far outside every label's cloud of training images; unbounded.

    Ren et al. 2021, arXiv 2106.09022, on untouched ImageNet features of the third layer; see
    ``gaussians.py``. It sees the wrong gestures that look to every member like the nearest label.
    """
    return evidence.cloud_N


def part_mahalanobis(evidence: EnsembleOutput) -> Scores:
    """max_j (M_jk − M_j0) + (min_k M_k − M_0) / 4, of the nearest label k, over the places j of a
    picture and of its whole; see ``parts.py``.

    It sees the wrong gestures that are a sign but for one finger.
    """
    return evidence.part_N


def own_mahalanobis(evidence: EnsembleOutput) -> Scores:
    """As relative_mahalanobis, in each member's own convolutions, a mean by votes; see ``own.py``.

    Raises:
        ValueError: members are heads on frozen convolutions.
    """
    if evidence.own_N is None:
        raise ValueError("own_mahalanobis: members have no convolutions of their own")
    return evidence.own_N


def no_hand(evidence: EnsembleOutput) -> Scores:
    """How much like a picture without a sign, about −1 to 1; see ``hands.py``.

    Raises:
        ValueError: nobody learned what these look like.
    """
    return _hands(evidence)[:, HANDS.index("no_hand")]


def two_hands(evidence: EnsembleOutput) -> Scores:
    """How much like two signs at once, about −1 to 1; see ``hands.py``.

    Raises:
        ValueError: nobody learned what these look like.
    """
    return _hands(evidence)[:, HANDS.index("two_hands")]


def _hands(evidence: EnsembleOutput) -> Scores:
    if evidence.hands_NG is None:
        raise ValueError("no_hand and two_hands: no pictures were made to learn from")
    return evidence.hands_NG


OWN = "own_mahalanobis"  # the witness that heads have not
WITNESSES: dict[str, Callable[[EnsembleOutput], Scores]] = {
    "total_uncertainty": total_uncertainty,
    "disagreement": disagreement,
    "energy": energy,
    "max_logit": max_logit,
    "generalised_entropy": generalised_entropy,
    "sirc": sirc,
    "feature_norm": feature_norm,
    "neighbour": neighbour,
    "relative_mahalanobis": relative_mahalanobis,
    "part_mahalanobis": part_mahalanobis,
    OWN: own_mahalanobis,
    "no_hand": no_hand,
    "two_hands": two_hands,
}

DISTANCES = frozenset(
    {"feature_norm", "neighbour", "relative_mahalanobis", "part_mahalanobis", *HANDS}
)
"""The witnesses that ask no member."""


def all_scores(evidence: EnsembleOutput) -> dict[str, Scores]:
    """The scores of every witness that there is."""
    missing = {OWN} if evidence.own_N is None else set()
    if evidence.hands_NG is None:
        missing |= set(HANDS)
    return {name: by(evidence) for name, by in WITNESSES.items() if name not in missing}


def distance_scores(at: Distances) -> dict[str, Scores]:
    """The scores of the witnesses that ask no member, DISTANCES."""
    hands = {} if at.hands_NG is None else dict(zip(HANDS, at.hands_NG.T, strict=True))
    return {
        "feature_norm": -at.norm_N,
        "neighbour": at.neighbour_N,
        "relative_mahalanobis": at.cloud_N,
        "part_mahalanobis": at.part_N,
        **hands,
    }


def max_prob(probs_NK: NDArray[np.float64]) -> Scores:
    """1 − max_k p_k: the score of a single model, which this package is the answer to."""
    return 1 - probs_NK.max(-1)

"""The scores of ``rejection/scores.py`` as functions that are exported; a test holds both equal.

Letters: N images, M members, then GDA predictions, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.rejection.scores import HAND_COUNT_SCORES


@dataclass(frozen=True)
class GraphOutput:
    """What members and the reference set say of N images, like ``EnsembleOutput``."""

    logits_MNK: torch.Tensor  # float32
    votes_M: NDArray[np.float64]
    kinds_M: Sequence[str]
    knn_N: torch.Tensor
    regional_N: torch.Tensor
    hand_count_N2: torch.Tensor | None  # None: there is no hand-count detector
    hands_N: torch.Tensor | None
    joint_N: torch.Tensor | None  # None: hands are not used

    @property
    def probs_MNK(self) -> torch.Tensor:
        """Probabilities of each member, float64."""
        return self.logits_MNK.double().softmax(-1)

    @property
    def probs_NK(self) -> torch.Tensor:
        """The members' mean by votes."""
        return weighted(self.votes_M, self.probs_MNK)


def weighted(votes_M: NDArray[np.float64], values: torch.Tensor) -> torch.Tensor:
    """Mean over the first axis by votes."""
    shares = torch.from_numpy(votes_M / votes_M.sum())
    return (shares.view(-1, *[1] * (values.ndim - 1)) * values).sum(0)


def entropy(probs: torch.Tensor) -> torch.Tensor:
    """−Σ p log p over the last axis, nats, 0 log 0 = 0."""
    one = torch.ones((), dtype=torch.float64)
    return -(probs * torch.where(probs > 0, probs, one).log()).sum(-1)


def disagreements(output: GraphOutput) -> dict[str, torch.Tensor]:
    """Mutual information of label and member, and where there are several kinds its parts."""
    probs_MNK, of_all_N = output.probs_MNK, entropy(output.probs_NK)
    each_MN = entropy(probs_MNK)
    found = {"disagreement": of_all_N - weighted(output.votes_M, each_MN)}
    kinds = [*dict.fromkeys(output.kinds_M)]
    if len(kinds) > 1:
        within_N = torch.zeros((), dtype=torch.float64)
        for kind in kinds:
            rows = [m for m, other in enumerate(output.kinds_M) if other == kind]
            votes = output.votes_M[rows]
            share = float(votes.sum() / output.votes_M.sum())
            of_kind_N = entropy(weighted(votes, probs_MNK[rows]))
            within_N = within_N + share * of_kind_N
            found[f"disagreement_{kind}"] = share * (of_kind_N - weighted(votes, each_MN[rows]))
        found["disagreement_between"] = of_all_N - within_N
    return {name: value.clamp(min=0) for name, value in found.items()}


def all_scores(output: GraphOutput) -> Mapping[str, torch.Tensor]:
    """Every score by name."""
    found = {
        "regional_mahalanobis": output.regional_N,
        "knn_distance": output.knn_N,
        "total_uncertainty": entropy(output.probs_NK),
        **disagreements(output),
    }
    if output.hand_count_N2 is not None:
        found |= dict(zip(HAND_COUNT_SCORES, output.hand_count_N2.unbind(1), strict=True))
    if output.joint_N is not None and output.hands_N is not None:
        found["joint_distance"] = output.joint_N
        found["hand_not_found"] = (output.hands_N == 0).double()
        found["several_hands"] = (output.hands_N > 1).double()
    return found

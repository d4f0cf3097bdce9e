"""Members side by side: features in, evidence out.

Letters: M members, N images, K labels, D features, H1 and H2 the widest hidden layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.errors import UserError
from sign_ensemble.learning.member import Member, load
from sign_ensemble.run import read_json

CHUNK = 1024  # images per product: 5 members of width 1024 then need 20 MB


@dataclass(frozen=True)
class Evidence:
    """What the members and the training images say of N images; the scores read nothing else.

    Args:
        logits_MNK: Each member's scores before LogSoftmax.
        votes_M: Each member's votes, at least 1.
        neighbour_N: Distance to the k-th nearest training image, see ``neighbours.py``.
        cloud_N: Relative distance to the nearest label's cloud, see ``gaussians.py``.
    """

    logits_MNK: NDArray[np.float32]
    votes_M: NDArray[np.float64]
    neighbour_N: NDArray[np.float64]
    cloud_N: NDArray[np.float64]

    @property
    def log_probs_MNK(self) -> NDArray[np.float64]:
        """Each member's log-probabilities, nats."""
        logits = self.logits_MNK.astype(np.float64)
        top = logits.max(-1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))

    @property
    def probs_NK(self) -> NDArray[np.float64]:
        """The ensemble's probabilities: the mean of the members' by votes."""
        return self.mean(np.exp(self.log_probs_MNK))

    def mean(self, values_M: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over members (first axis) by votes."""
        return np.tensordot(self.votes_M / self.votes_M.sum(), values_M, axes=1)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Evidence:
        """The evidence on some of the images."""
        return Evidence(
            self.logits_MNK[:, chosen],
            self.votes_M,
            self.neighbour_N[chosen],
            self.cloud_N[chosen],
        )


@dataclass(frozen=True)
class Ensemble:
    """Members whose heads run as one batched product.

    The first layers stand side by side in one (D, M·H1) matrix. The others are padded with zeros to
    the widest and multiplied as a batch of M; a padded unit is ReLU(0) = 0 and adds nothing.
    """

    members: tuple[Member, ...]
    first_DH: torch.Tensor
    first_bias_H: torch.Tensor
    second_MHH: torch.Tensor
    second_bias_MH: torch.Tensor
    third_MHK: torch.Tensor
    third_bias_MK: torch.Tensor

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the outputs."""
        return self.members[0].card.labels

    @property
    def votes_M(self) -> NDArray[np.float64]:
        """Each member's votes."""
        return np.array([member.card.weight for member in self.members], np.float64)

    def logits(self, features_ND: NDArray[np.float16]) -> NDArray[np.float32]:
        """Every member's logits (M, N, K) for features (N, D)."""
        parts = []
        m = len(self.members)
        with torch.inference_mode():
            for start in range(0, len(features_ND), CHUNK):
                rows = np.ascontiguousarray(features_ND[start : start + CHUNK])
                x_ND = torch.from_numpy(rows).to(self.first_DH.device).float()
                hidden_NH = torch.relu(x_ND @ self.first_DH + self.first_bias_H)
                hidden_MNH = hidden_NH.view(len(rows), m, -1).transpose(0, 1)
                hidden_MNH = torch.relu(
                    torch.baddbmm(self.second_bias_MH[:, None], hidden_MNH, self.second_MHH)
                )
                parts.append(torch.baddbmm(self.third_bias_MK[:, None], hidden_MNH, self.third_MHK))
        if not parts:
            return np.zeros((m, 0, len(self.labels)), np.float32)
        return torch.cat(parts, 1).cpu().numpy()


def stack(members: Sequence[Member]) -> Ensemble:
    """Put members side by side.

    Raises:
        UserError: there are none, or they disagree on labels, preprocessing or training images.
    """
    if not members:
        raise UserError("an ensemble needs at least one member")
    first = members[0].card
    for member in members[1:]:
        for name in ("labels", "preprocessing", "manifest"):
            if getattr(member.card, name) != getattr(first, name):
                raise UserError(
                    f"members of trials {first.trial} and {member.card.trial} differ "
                    f"in {name}: they are not of one ensemble"
                )
    m, k = len(members), len(first.labels)
    h1 = max(member.card.recipe.widths[0] for member in members)
    h2 = max(member.card.recipe.widths[1] for member in members)
    d = members[0].tensors["layers.0.weight"].shape[1]
    first_DMH = torch.zeros(d, m, h1)
    first_bias_MH = torch.zeros(m, h1)
    second_MHH, second_bias_MH = torch.zeros(m, h1, h2), torch.zeros(m, h2)
    third_MHK, third_bias_MK = torch.zeros(m, h2, k), torch.zeros(m, k)
    for i, member in enumerate(members):
        w1, w2 = member.card.recipe.widths
        part = {name: torch.from_numpy(value) for name, value in member.tensors.items()}
        first_DMH[:, i, :w1] = part["layers.0.weight"].T
        first_bias_MH[i, :w1] = part["layers.0.bias"]
        second_MHH[i, :w1, :w2] = part["layers.3.weight"].T
        second_bias_MH[i, :w2] = part["layers.3.bias"]
        third_MHK[i, :w2] = part["layers.6.weight"].T
        third_bias_MK[i] = part["layers.6.bias"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Ensemble(
        tuple(members),
        first_DMH.reshape(d, m * h1).to(device),
        first_bias_MH.flatten().to(device),
        second_MHH.to(device),
        second_bias_MH.to(device),
        third_MHK.to(device),
        third_bias_MK.to(device),
    )


def load_ensemble(folder: Path) -> Ensemble:
    """Read the members that index.json lists, each checked against its sha256.

    Raises:
        UserError: a file is missing, changed, damaged or of another ensemble.
    """
    path = folder / "index.json"
    index = read_json(path)
    try:
        files = [(folder / entry["file"], str(entry["sha256"])) for entry in index["members"]]
    except (KeyError, TypeError) as fault:
        raise UserError(f"{path}: not an index of members ({fault})") from None
    return stack([load(file, sha256) for file, sha256 in files])

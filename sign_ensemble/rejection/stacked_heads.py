"""The heads of several members as one batched product.

Letters: N images, M members, K labels, D features, U hidden units of the widest head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.bf16_products import bf16_if_fast, to_float32
from sign_ensemble.core.device import best_device
from sign_ensemble.learning.member import Member

CHUNK = 1024  # images per product: 5 members of width 1024 then need 20 MB


@dataclass(frozen=True)
class StackedHeads:
    """Heads of M members, padded with zeros to the widest: a padded unit is ReLU(0) = 0.

    The first layers form one (M·U, D) matrix, the others a batch of M. The first two are bf16 where
    that is fast, as in training.
    """

    labels: int
    first_UD: torch.Tensor
    first_bias_U: torch.Tensor
    second_MUU: torch.Tensor
    second_bias_MU: torch.Tensor
    third_MUK: torch.Tensor
    third_bias_MK: torch.Tensor

    def logits(self, features_ND: NDArray[np.float16]) -> NDArray[np.float32]:
        """Every member's logits (M, N, K)."""
        parts = []
        m = len(self.third_MUK)
        with torch.inference_mode():
            for start in range(0, len(features_ND), CHUNK):
                x_ND = to_float32(features_ND[start : start + CHUNK])  # faster than half to bf16
                x_ND = x_ND.to(self.first_UD.device).to(self.first_UD.dtype)
                hidden_NU = (x_ND @ self.first_UD.T).float().add_(self.first_bias_U).relu_()
                hidden_MNU = hidden_NU.to(x_ND.dtype).view(len(x_ND), m, -1).transpose(0, 1)
                hidden_MNU = torch.bmm(hidden_MNU, self.second_MUU).float()
                hidden_MNU = hidden_MNU.add_(self.second_bias_MU[:, None]).relu_()
                parts.append(torch.baddbmm(self.third_bias_MK[:, None], hidden_MNU, self.third_MUK))
        if not parts:
            return np.zeros((m, 0, self.labels), np.float32)
        return torch.cat(parts, 1).cpu().numpy()


def stack_heads(members: Sequence[Member]) -> StackedHeads:
    """Stack the heads of at least one member."""
    first = members[0].card
    m, k = len(members), len(first.labels)
    h1 = max(member.card.recipe.widths[0] for member in members)
    h2 = max(member.card.recipe.widths[1] for member in members)
    first_MUD = torch.zeros(m, h1, members[0].tensors["layers.0.weight"].shape[1])
    first_bias_MU = torch.zeros(m, h1)
    second_MUU, second_bias_MU = torch.zeros(m, h1, h2), torch.zeros(m, h2)
    third_MUK, third_bias_MK = torch.zeros(m, h2, k), torch.zeros(m, k)
    for i, member in enumerate(members):
        w1, w2 = member.card.recipe.widths
        part = {name: torch.from_numpy(value) for name, value in member.tensors.items()}
        first_MUD[i, :w1] = part["layers.0.weight"]
        first_bias_MU[i, :w1] = part["layers.0.bias"]
        second_MUU[i, :w1, :w2] = part["layers.3.weight"].T
        second_bias_MU[i, :w2] = part["layers.3.bias"]
        third_MUK[i, :w2] = part["layers.6.weight"].T
        third_bias_MK[i] = part["layers.6.bias"]
    device = best_device()
    return StackedHeads(
        k,
        bf16_if_fast(first_MUD.flatten(0, 1).to(device)),
        first_bias_MU.flatten().to(device),
        bf16_if_fast(second_MUU.to(device)),
        second_bias_MU.to(device),
        third_MUK.to(device),
        third_bias_MK.to(device),
    )

"""The members' heads as a module that is exported, like ``rejection/stacked_heads.py``.

The first layers are one product, without the padding that a batch of equal widths needs.

Letters: N images, M members, K labels, D features, U hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sign_ensemble.learning.member import Member
from sign_ensemble.serving.graph_weights import stored


class StoredLinear(nn.Module):
    """A linear layer whose weights may be stored as float16."""

    def __init__(self, weight_UD: torch.Tensor, bias_U: torch.Tensor) -> None:
        super().__init__()
        self.weight_DU, self.bias_U = stored(weight_UD.T), stored(bias_U)

    def forward(self, values_ND: torch.Tensor) -> torch.Tensor:
        """The layer's output (N, U)."""
        return values_ND @ self.weight_DU.float() + self.bias_U.float()


class GraphHeads(nn.Module):
    """Heads that read the same features."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        each = [{k: torch.from_numpy(v) for k, v in m.tensors.items()} for m in members]
        self.widths = [member.card.recipe.widths[0] for member in members]
        self.first = StoredLinear(
            torch.cat([one["layers.0.weight"] for one in each]),
            torch.cat([one["layers.0.bias"] for one in each]),
        )
        self.rest = nn.ModuleList(
            nn.Sequential(
                StoredLinear(one["layers.3.weight"], one["layers.3.bias"]),
                nn.ReLU(),
                StoredLinear(one["layers.6.weight"], one["layers.6.bias"]),
            )
            for one in each
        )

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Logits (M, N, K)."""
        each = self.first(features_ND).relu().split(self.widths, 1)
        pairs = zip(each, self.rest, strict=True)
        return torch.stack([layers(hidden_NU) for hidden_NU, layers in pairs])

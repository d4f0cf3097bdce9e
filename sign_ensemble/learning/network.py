"""The head on AlexNet's features: D → h1 → h2 → labels, ReLU, dropout, LogSoftmax.

Letters: N images, D features, K labels.
"""

from __future__ import annotations

import torch
from torch import nn


class Head(nn.Module):
    """The default recipe's classifier.

    Args:
        features: D.
        widths: h1 and h2.
        labels: K.
        dropout: Share of each hidden layer's units dropped in training.
    """

    def __init__(self, features: int, widths: tuple[int, int], labels: int, dropout: float) -> None:
        super().__init__()
        self.labels = labels
        h1, h2 = widths
        self.layers = nn.Sequential(
            nn.Linear(features, h1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(h1, h2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(h2, labels),
        )

    def logits(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Scores before LogSoftmax, (N, K): what energy and max-logit are computed from."""
        return self.layers(features_ND)

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Log-probabilities, (N, K)."""
        return torch.log_softmax(self.logits(features_ND), -1)

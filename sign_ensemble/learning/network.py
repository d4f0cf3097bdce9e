"""The head on AlexNet's features: E → h1 → h2 → labels, ReLU, dropout, LogSoftmax; and the whole
network, of whose convolutions some or all learn too.

Letters: N images, H and W rows and columns, E features, H units of a hidden layer, K labels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sign_ensemble.data.convolutions import Convolutions

# What learns → how many layers of the convolutions, ReLUs and pools counted, stay as they are.
FROZEN = {"none": 13, "last": 10, "conv3+": 6, "all": 0}


class Head(nn.Module):
    """The default recipe's classifier.

    Args:
        features: E.
        widths: h1 and h2.
        labels: K.
        dropout: Share of each hidden layer's units dropped in training.
    """

    def __init__(self, features: int, widths: tuple[int, int], labels: int, dropout: float) -> None:
        super().__init__()
        self.widths, self.labels, self.dropout = widths, labels, dropout
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

    def forward(self, features_ND: torch.Tensor, *masks_NU: torch.Tensor) -> torch.Tensor:
        """Log-probabilities, (N, K).

        Args:
            features_ND: The features.
            masks_NU: For each hidden layer, what dropout multiplies it by; drawn by torch if none
                are given. Workers that share a step give theirs, so that the masks do not depend
                on how many share it.
        """
        if not masks_NU:
            return torch.log_softmax(self.logits(features_ND), -1)
        masks = iter(masks_NU)
        hidden = features_ND
        for layer in self.layers:
            hidden = hidden * next(masks) if isinstance(layer, nn.Dropout) else layer(hidden)
        return torch.log_softmax(hidden, -1)


class Network(nn.Module):
    """Convolutions and head, for fine-tuning.

    Args:
        convolutions: AlexNet's.
        head: On their features.
        layers: What learns: last, conv3+ or all; the rest of the convolutions gets no gradient.
    """

    def __init__(self, convolutions: Convolutions, head: Head, layers: str) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.head = head
        for number, layer in enumerate(convolutions.features):
            layer.requires_grad_(number >= FROZEN[layers])

    def forward(self, images_N3HW: torch.Tensor, *masks_NU: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (N, K) of normalised images; for the masks see the head."""
        return self.head(self.convolutions(images_N3HW), *masks_NU)

    def learned(self) -> dict[str, torch.Tensor]:
        """What training changed, by the names of a member's file: ``features.*``, ``layers.*``."""
        parts = (self.convolutions, self.head)
        return {
            name: value.detach()
            for part in parts
            for name, value in part.named_parameters()
            if value.requires_grad
        }


def logits_of(head: Head, features_ND: NDArray[np.float16]) -> NDArray[np.float32]:
    """Logits (N, K) in float32, a thousand images at a time."""
    device = next(head.parameters()).device
    if not len(features_ND):
        return np.zeros((0, head.labels), np.float32)
    with torch.inference_mode():
        parts = [
            head.logits(torch.from_numpy(np.asarray(features_ND[i : i + 1000])).to(device).float())
            for i in range(0, len(features_ND), 1000)
        ]
    return torch.cat(parts).cpu().numpy()

"""The head on AlexNet's features; the network of convolutions and head, for fine-tuning.

Letters: N images, H and W rows and columns, D features, U units of a hidden layer, K labels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sign_ensemble.data.convolutions import Convolutions

# finetune.layers → number of the first layers (with ReLUs and pools) that stay frozen.
FROZEN = {"none": 13, "last": 10, "conv3+": 6, "all": 0}
CHUNK = 1000  # images per forward pass


class Head(nn.Module):
    """D → h1 → h2 → labels, with ReLU, dropout and LogSoftmax.

    Args:
        features: D.
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
        """Outputs (N, K) before LogSoftmax."""
        return self.layers(features_ND)

    def forward(self, features_ND: torch.Tensor, *masks_NU: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (N, K).

        Args:
            features_ND: The features.
            masks_NU: Dropout factors of each hidden layer; drawn by torch if none are given.
                Workers that share a step pass theirs, so that the masks do not depend on the number
                of workers.
        """
        if not masks_NU:
            return torch.log_softmax(self.logits(features_ND), -1)
        masks = iter(masks_NU)
        hidden = features_ND
        for layer in self.layers:
            hidden = hidden * next(masks) if isinstance(layer, nn.Dropout) else layer(hidden)
        return torch.log_softmax(hidden, -1)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights as a member's file has them."""
        return {name: tensor.cpu().numpy() for name, tensor in self.state_dict().items()}


class Network(nn.Module):
    """Convolutions and head, for fine-tuning.

    Args:
        convolutions: AlexNet's.
        head: On their features.
        layers: Which convolutions are trained (last, conv3+ or all); the others get no gradient.
    """

    def __init__(self, convolutions: Convolutions, head: Head, layers: str) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.head = head
        for number, layer in enumerate(convolutions.features):
            layer.requires_grad_(number >= FROZEN[layers])

    def forward(self, images_N3HW: torch.Tensor, *masks_NU: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (N, K) of normalised images; for the masks see :class:`Head`."""
        return self.head(self.convolutions(images_N3HW), *masks_NU)

    def learned_parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by their names in a member's file."""
        return {
            name: value
            for part in (self.convolutions, self.head)
            for name, value in part.named_parameters()
            if value.requires_grad
        }

    def learned(self) -> dict[str, torch.Tensor]:
        """Their values, by the same names."""
        return {name: value.detach() for name, value in self.learned_parameters().items()}


def logits_of(head: Head, features_ND: NDArray[np.float16]) -> NDArray[np.float32]:
    """Logits (N, K) in float32, :data:`CHUNK` images at a time."""
    device = next(head.parameters()).device
    parts = [torch.zeros((0, head.labels), device=device)]
    with torch.inference_mode():
        for start in range(0, len(features_ND), CHUNK):
            chunk_ND = torch.from_numpy(np.asarray(features_ND[start : start + CHUNK]))
            parts.append(head.logits(chunk_ND.to(device).float()))
    return torch.cat(parts).cpu().numpy()


def softmax(logits_NK: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities, by torch: loading SciPy as well would delay every worker."""
    probs_NK: NDArray[np.float64] = torch.from_numpy(logits_NK).double().softmax(-1).numpy()
    return probs_NK

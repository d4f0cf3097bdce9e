"""The one training loop.

It sees a network, batches and a recipe; whether the batches are cached features or images, and what
of the network learns, is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sign_ensemble.config import MemberConfig
from sign_ensemble.data.backbone import bf16_is_fast


class Batches(Protocol):
    """Training data that can be passed over again and again."""

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and labels of one pass in random order."""
        ...


@dataclass(frozen=True)
class FeatureBatches:
    """Cached features in batches; every epoch draws, for some images, one of their views.

    Args:
        features_RVD: All cached features, memory-mapped.
        rows_N: The row of each training image in them.
        labels_N: Its label.
        size: Images per batch.
        view_share: Share of images that an epoch replaces by a view.
    """

    features_RVD: NDArray[np.float16]
    rows_N: NDArray[np.int64]
    labels_N: NDArray[np.int64]
    size: int
    view_share: float

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Features (B, D) in float16 and labels (B,), each image once."""
        order = rng.permutation(len(self.rows_N))
        views = np.zeros(len(order), np.int64)
        if self.features_RVD.shape[1] > 1:
            drawn = rng.integers(1, self.features_RVD.shape[1], size=len(order))
            views = np.where(rng.random(len(order)) < self.view_share, drawn, 0)
        for start in range(0, len(order), self.size):
            chosen = order[start : start + self.size]
            values = self.features_RVD[self.rows_N[chosen], views[chosen]]
            yield torch.from_numpy(values), torch.from_numpy(self.labels_N[chosen])


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    ``epochs`` were run; the network holds the weights after ``best_epoch`` (from 1), whose loss on
    the images kept back was ``stop_nll`` (nats per image; None if none were kept back).
    """

    epochs: int
    best_epoch: int
    stop_nll: float | None
    losses: tuple[float, ...]


def smoothed_nll(
    log_probs_NK: torch.Tensor, labels_N: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Mean of (1 − s)·(−log p_y) + s·mean_k(−log p_k), in nats."""
    nll = nn.functional.nll_loss(log_probs_NK, labels_N)
    if not smoothing:
        return nll
    return (1 - smoothing) * nll - smoothing * log_probs_NK.mean()


def adam(network: nn.Module, recipe: MemberConfig) -> torch.optim.Optimizer:
    """Fused Adam; decay, where there is any, is decoupled and spares the biases."""
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def fit(
    network: nn.Module,
    batches: Batches,
    recipe: MemberConfig,
    rng: np.random.Generator,
    device: torch.device,
    stop_nll: Callable[[nn.Module], float] | None = None,
) -> Fitted:
    """Train ``network`` in place.

    Args:
        network: Maps inputs to log-probabilities.
        batches: Training data.
        recipe: Learning rate, decay, smoothing, epochs, patience.
        rng: Order of images and views; the dropout masks follow torch's own seed.
        device: Where to train; the network is there already.
        stop_nll: Loss on images kept back, asked after every epoch. Training ends when it has not
            fallen for ``recipe.patience`` epochs, and the best epoch's weights are kept.

    Raises:
        FloatingPointError: the loss is no number any more.
    """
    optimiser = adam(network, recipe)
    losses: list[float] = []
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    epoch = 0
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        total = torch.zeros((), device=device)
        seen = 0
        for inputs, labels_N in batches.epoch(rng):
            inputs, labels_N = inputs.to(device), labels_N.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
                log_probs_NK = network(inputs if bf16_is_fast(device) else inputs.float())
            loss = smoothed_nll(log_probs_NK.float(), labels_N, recipe.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(labels_N)
            seen += len(labels_N)
        losses.append(float(total) / seen)
        if not isfinite(losses[-1]):
            raise FloatingPointError(
                f"training diverged: the loss is {losses[-1]} in epoch {epoch} with learning_rate "
                f"{recipe.learning_rate:.1e}"
            )
        if stop_nll is None:
            continue
        network.eval()
        value = stop_nll(network)
        if best is None or value < best[0]:
            best = (value, epoch, {k: v.clone() for k, v in network.state_dict().items()})
        elif epoch - best[1] >= recipe.patience:
            break
    network.eval()
    if best is None:
        return Fitted(epoch, epoch, None, tuple(losses))
    network.load_state_dict(best[2])
    return Fitted(epoch, best[1], best[0], tuple(losses))

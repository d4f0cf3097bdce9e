"""The one training loop.

It sees a network, batches and a course; whether the batches are cached features or images, what of
the network learns, and how many workers share a step, is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import ceil, cos, inf, isfinite, pi
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.device import bf16_is_fast


@dataclass(frozen=True)
class MicroBatch:
    """Images that go through the network together.

    Args:
        inputs: What the network takes.
        labels_N: Their labels.
        weight: What their mean loss counts in the step; the weights of a step's pieces sum to 1.
    """

    inputs: tuple[torch.Tensor, ...]
    labels_N: torch.Tensor
    weight: float = 1.0


class Batches(Protocol):
    """Training data that can be passed over again and again."""

    @property
    def steps(self) -> int:
        """Steps of one pass."""
        ...

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """The pieces of each step of pass ``number`` (from 1), in random order, from step ``begin``
        (from 0) on.
        """
        ...


class Optimizer(Protocol):
    """What moves the weights: that of ``adam.py``, or any of torch's own."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        ...

    def step(self) -> Any:
        """Move every parameter that has a gradient."""
        ...


@dataclass(frozen=True)
class FeatureBatches:
    """Cached features in batches; every epoch draws, for some images, one of their views.

    Args:
        features_RVD: All cached features, memory-mapped.
        rows_N: The row of each training image in them.
        labels_N: Its label.
        size: Images per batch.
        augment_prob: Share of images that an epoch replaces by a view.
        rng: Order of images and views. Its state moves on, so a training of a head, which takes
            seconds, begins at the beginning.
    """

    features_RVD: NDArray[np.float16]
    rows_N: NDArray[np.int64]
    labels_N: NDArray[np.int64]
    size: int
    augment_prob: float
    rng: np.random.Generator

    @property
    def steps(self) -> int:
        """Steps of one pass."""
        return ceil(len(self.rows_N) / self.size)

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """Features (B, E) in float16 and labels (B,), each image once."""
        order = self.rng.permutation(len(self.rows_N))
        augmentations = np.zeros(len(order), np.int64)
        if self.features_RVD.shape[1] > 1:
            drawn = self.rng.integers(1, self.features_RVD.shape[1], size=len(order))
            augmentations = np.where(self.rng.random(len(order)) < self.augment_prob, drawn, 0)
        for start in range(begin * self.size, len(order), self.size):
            chosen = order[start : start + self.size]
            values = self.features_RVD[self.rows_N[chosen], augmentations[chosen]]
            yield [MicroBatch((torch.from_numpy(values),), torch.from_numpy(self.labels_N[chosen]))]


@dataclass(frozen=True)
class Schedule:
    """How a training goes.

    Args:
        epochs: Passes, at most.
        label_smoothing: See :func:`smoothed_nll`.
        patience: Passes without a better loss on the images kept back before it stops.
        warmup: Share of all steps in which step sizes rise to their highest.
        cosine: Whether they then fall to nothing along a cosine; else they stay.
        clip: Longest gradient.
    """

    epochs: int
    label_smoothing: float = 0.0
    patience: int = 1
    warmup: float = 0.0
    cosine: bool = False
    clip: float = inf

    def rate_factor(self, step: int, steps: int) -> float:
        """What step ``step`` (from 0) of ``steps`` multiplies the highest step size by.

        (step + 1) / w in the first w = warmup · steps; then 1, or (1 + cos(π t)) / 2 with t from 0
        to 1 over the rest.
        """
        rising = ceil(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        return (1 + cos(pi * (step - rising) / (steps - rising))) / 2 if self.cosine else 1.0


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands: ``step`` steps of pass ``epoch`` (from 1) are done.

    ``losses`` are the means of the passes that are done, each over its steps since the training
    began or went on.
    """

    epoch: int = 1
    step: int = 0
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class FitResult:
    """What a training came to.

    ``epochs`` were run; the network holds the weights after ``best_epoch`` (from 1), whose loss on
    the images kept back was ``validation_nll`` (nats per image; None if none were kept back).
    """

    epochs: int
    best_epoch: int
    validation_nll: float | None
    losses: tuple[float, ...]


def smoothed_nll(
    log_probs_NK: torch.Tensor, labels_N: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Mean of (1 − s)·(−log p_y) + s·mean_k(−log p_k), in nats."""
    nll = nn.functional.nll_loss(log_probs_NK, labels_N)
    if not smoothing:
        return nll
    return (1 - smoothing) * nll - smoothing * log_probs_NK.mean()


def head_schedule(recipe: MemberConfig) -> Schedule:
    """How a head alone is trained."""
    return Schedule(recipe.epochs, recipe.label_smoothing, recipe.patience)


def without_gradient_sync(network: nn.Module) -> AbstractContextManager[None]:
    """Gradients stay with this worker for the length of the block."""
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


def backward(
    network: nn.Module, micro_batches: list[MicroBatch], smoothing: float, device: torch.device
) -> torch.Tensor:
    """Gradients of one step's loss, summed over its pieces and, by the last one, over workers.

    Returns:
        This worker's part of the loss.
    """
    half = bf16_is_fast(device)
    shared = isinstance(network, DistributedDataParallel)
    workers = torch.distributed.get_world_size() if shared else 1
    total = torch.zeros((), device=device)
    for left, micro_batch in zip(range(len(micro_batches) - 1, -1, -1), micro_batches, strict=True):
        first, *others = (each.to(device, non_blocking=True) for each in micro_batch.inputs)
        labels_N = micro_batch.labels_N.to(device, non_blocking=True)
        with without_gradient_sync(network) if left else nullcontext():
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                log_probs_NK = network(first if half else first.float(), *others)
            loss = smoothed_nll(log_probs_NK.float(), labels_N, smoothing) * micro_batch.weight
            (loss * workers).backward()  # of which DistributedDataParallel takes the mean
        total += loss.detach()
    return total


def fit(
    network: nn.Module,
    batches: Batches,
    schedule: Schedule,
    optimizer: Optimizer,
    device: torch.device,
    validation_nll: Callable[[nn.Module], float] | None = None,
    begin: TrainingState | None = None,
    after_step: Callable[[TrainingState], None] | None = None,
) -> FitResult:
    """Train ``network`` in place.

    Args:
        network: Maps inputs to log-probabilities.
        batches: Training data.
        schedule: Passes, pace, smoothing, clipping.
        optimizer: Over the network's parameters, with their highest step sizes.
        device: Where to train; the network is there already.
        validation_nll: Loss on images kept back, asked after every pass. Training ends when it has not
            fallen for ``course.patience`` passes, and the best pass's weights are kept.
        begin: Where an interrupted training stood; network and optimiser are as they were then.
        after_step: Told where the training stands.

    Raises:
        FloatingPointError: the loss is no number any more.
    """
    at = begin or TrainingState()
    steps, highest = batches.steps, [group["lr"] for group in optimizer.param_groups]
    losses = list(at.losses)
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    for epoch in range(at.epoch, schedule.epochs + 1):
        network.train()
        total = torch.zeros((), device=device)
        for step, micro_batches in enumerate(batches.epoch(epoch, at.step), at.step):
            rate_factor = schedule.rate_factor((epoch - 1) * steps + step, schedule.epochs * steps)
            for group, rate in zip(optimizer.param_groups, highest, strict=True):
                group["lr"] = rate * rate_factor
            optimizer.zero_grad()
            total += backward(network, micro_batches, schedule.label_smoothing, device)
            if schedule.clip < inf:
                nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
            optimizer.step()
            if after_step and step + 1 < steps:
                after_step(TrainingState(epoch, step + 1, tuple(losses)))
        losses.append(sum_over_workers(total, network) / (steps - at.step))
        if not isfinite(losses[-1]):
            raise FloatingPointError(
                f"training diverged: the loss is {losses[-1]} in epoch {epoch} with learning_rate "
                f"{highest[0]:.1e}"
            )
        at = TrainingState(epoch + 1, 0, tuple(losses))
        if after_step:
            after_step(at)
        if validation_nll is None:
            continue
        network.eval()
        value = validation_nll(network)
        if best is None or value < best[0]:
            best = (value, epoch, {k: v.clone() for k, v in network.state_dict().items()})
        elif epoch - best[1] >= schedule.patience:
            break
    network.eval()
    for group, rate in zip(optimizer.param_groups, highest, strict=True):
        group["lr"] = rate
    done = len(losses)
    if best is None:
        return FitResult(done, done, None, tuple(losses))
    network.load_state_dict(best[2])
    return FitResult(done, best[1], best[0], tuple(losses))


def sum_over_workers(total: torch.Tensor, network: nn.Module) -> float:
    """The sum over all workers that share the training."""
    if isinstance(network, DistributedDataParallel):
        torch.distributed.all_reduce(total)
    return float(total)

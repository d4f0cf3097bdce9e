"""The one training loop: heads on features and networks on images, on one worker or several.

Letters: N images of a micro-batch, R rows of a cache file, V an image and its augmented copies,
D features, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil, cos, inf, isfinite, pi
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.device import bf16_is_fast
from sign_ensemble.learning.optimizer import Adam


@dataclass(frozen=True)
class MicroBatch:
    """Images that go through the network together; one or several make a step."""

    inputs: tuple[torch.Tensor, ...]  # the network's arguments
    labels_N: torch.Tensor  # the labels
    # of their mean loss in the step's; the weights of a step's micro-batches sum to 1
    weight: float = 1.0


class Batches(Protocol):
    """Training data, in epochs of steps of micro-batches."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        ...

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """Micro-batches of the steps of epoch ``number`` (from 1), from ``begin`` (from 0) on."""
        ...


@dataclass(frozen=True)
class FeatureBatches:
    """Cached features in batches; in every epoch some images are replaced by an augmented copy."""

    features_RVD: NDArray[np.float16]  # all cached features, memory-mapped
    rows_N: NDArray[np.int64]  # the row of each training image
    labels_N: NDArray[np.int64]  # the label of each training image
    size: int  # images per batch
    augment_prob: float  # probability that an image is replaced by one of its augmented copies
    # draws order and copies. Its state is not saved: a head's training is not resumed.
    rng: np.random.Generator
    noise: float = 0.0  # standard deviation of the noise on features, drawn by torch

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return ceil(len(self.rows_N) / self.size)

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """Features (N, D) in float16 and labels; each image once."""
        order = self.rng.permutation(len(self.rows_N))
        copies = np.zeros(len(order), np.int64)
        if self.features_RVD.shape[1] > 1:
            drawn = self.rng.integers(1, self.features_RVD.shape[1], size=len(order))
            copies = np.where(self.rng.random(len(order)) < self.augment_prob, drawn, 0)
        for start in range(begin * self.size, len(order), self.size):
            chosen = order[start : start + self.size]
            values = torch.from_numpy(self.features_RVD[self.rows_N[chosen], copies[chosen]])
            if self.noise:
                values = values.float() + self.noise * torch.randn(values.shape)
            yield [MicroBatch((values,), torch.from_numpy(self.labels_N[chosen]))]


@dataclass(frozen=True)
class Schedule:
    """Epochs, learning-rate schedule, smoothing and clipping of a training."""

    epochs: int  # most epochs
    label_smoothing: float = 0.0  # see ``smoothed_nll``
    patience: int = 1  # epochs without a better validation loss before training stops
    warmup: float = 0.0  # share of all steps in which learning rates rise linearly
    cosine: bool = False  # whether they then fall to 0 along a cosine; else they stay constant
    clip: float = inf  # largest norm of the gradient

    def rate_factor(self, step: int, steps: int) -> float:
        """Factor of the highest learning rate at step ``step`` (from 0) of ``steps``.

        (step + 1) / w in the first w = warmup · steps; then 1, or (1 + cos(π t)) / 2 with t from 0
        to 1 over the rest.
        """
        rising = ceil(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        return (1 + cos(pi * (step - rising) / (steps - rising))) / 2 if self.cosine else 1.0


@dataclass(frozen=True)
class TrainingState:
    """``step`` steps of epoch ``epoch`` (from 1) are done.

    ``losses`` are the mean losses of the finished epochs, each over its steps since the training
    began or was resumed.
    """

    epoch: int = 1
    step: int = 0
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class FitResult:
    """The outcome of a training.

    ``epochs`` were run; the network has the weights of ``best_epoch`` (from 1), whose loss on the
    validation images was ``validation_nll`` (nats per image; None without validation images).
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
    """The schedule of a head's training."""
    return Schedule(recipe.epochs, recipe.label_smoothing, recipe.patience)


def backward(
    network: nn.Module, micro_batches: list[MicroBatch], smoothing: float, device: torch.device
) -> torch.Tensor:
    """Gradients of a step's loss, summed over micro-batches and, by the last one, over workers.

    Returns:
        This worker's part of the loss.
    """
    bf16 = bf16_is_fast(device)
    parallel = network if isinstance(network, DistributedDataParallel) else None
    workers = torch.distributed.get_world_size() if parallel else 1
    total = torch.zeros((), device=device)
    for left, micro_batch in zip(range(len(micro_batches) - 1, -1, -1), micro_batches, strict=True):
        first, *masks = (each.to(device, non_blocking=True) for each in micro_batch.inputs)
        labels_N = micro_batch.labels_N.to(device, non_blocking=True)
        with parallel.no_sync() if parallel and left else nullcontext():
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                log_probs_NK = network(first if bf16 else first.float(), *masks)
            loss = smoothed_nll(log_probs_NK.float(), labels_N, smoothing) * micro_batch.weight
            (loss * workers).backward()  # DistributedDataParallel takes the mean over workers
        total += loss.detach()
    return total


def fit(
    network: nn.Module,
    batches: Batches,
    schedule: Schedule,
    optimizer: Adam | torch.optim.Optimizer,
    device: torch.device,
    validation_nll: Callable[[nn.Module], float] | None = None,
    begin: TrainingState | None = None,
    after_step: Callable[[TrainingState], None] | None = None,
) -> FitResult:
    """Train ``network`` in place.

    Args:
        network: Maps inputs to log-probabilities.
        batches: Training data.
        schedule: Epochs, learning-rate schedule, smoothing, clipping.
        optimizer: Over the network's parameters, with their highest learning rates.
        device: Where to train; the network is there already.
        validation_nll: Loss on the validation images, computed after every epoch. Training ends
            when it has not fallen for ``schedule.patience`` epochs, and the best epoch's weights
            are kept.
        begin: State of an interrupted training, to which network and optimizer were restored.
        after_step: Called with the state after every step.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    state = begin or TrainingState()
    steps, highest = batches.steps, [group["lr"] for group in optimizer.param_groups]
    losses = list(state.losses)
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    for epoch in range(state.epoch, schedule.epochs + 1):
        network.train()
        total = torch.zeros((), device=device)
        for step, micro_batches in enumerate(batches.epoch(epoch, state.step), state.step):
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
        if isinstance(network, DistributedDataParallel):
            torch.distributed.all_reduce(total)  # the sum over workers
        losses.append(float(total) / (steps - state.step))
        if not isfinite(losses[-1]):
            raise FloatingPointError(
                f"training diverged: the loss is {losses[-1]} in epoch {epoch} with learning_rate "
                f"{highest[0]:.1e}"
            )
        state = TrainingState(epoch + 1, 0, tuple(losses))
        if after_step:
            after_step(state)
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

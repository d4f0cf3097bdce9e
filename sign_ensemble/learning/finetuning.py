"""Fine-tuning of a trained head together with AlexNet's convolutions: what one worker needs.

Every random draw is seeded by training, epoch and step, not by earlier draws or the number of
workers: a resumed training gives the same bits, and one worker and several give the same weights up
to the order of sums.

Letters: N training images, B images of a step or micro-batch, R rows of a cache file, H and W rows
and columns, U units of a hidden layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.config import FinetuneConfig
from sign_ensemble.core.device import bf16_is_fast
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.opencv_module import opencv
from sign_ensemble.core.threads import slices_on_threads
from sign_ensemble.data import backbone
from sign_ensemble.data.augmentation import RANGES, augment, by_opencv
from sign_ensemble.data.backbone import as_input, from_bits, table_of_levels
from sign_ensemble.data.convolutions import Convolutions
from sign_ensemble.learning.member import Member
from sign_ensemble.learning.network import Head, Network
from sign_ensemble.learning.optimizer import Adam, adamw_for
from sign_ensemble.learning.prefetch import prefetch
from sign_ensemble.learning.task import PixelTask, seed_of
from sign_ensemble.learning.training_loop import MicroBatch, Schedule


@dataclass(frozen=True)
class PixelBatches:
    """One worker's share of the training images in batches, augmented on the network's device."""

    task: PixelTask  # images and labels
    rows_N: NDArray[np.int64]  # the training images, by their index in the task
    settings: FinetuneConfig  # batch size and probability of augmentation
    micro_batch_size: int  # most images of a micro-batch
    widths: Sequence[int]  # units of the hidden layers that get dropout masks
    dropout: float  # share of units dropped
    seed: int  # of this training
    rank: int  # this worker, from 0
    workers: int  # workers that share a step
    device: torch.device  # where the network is

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return ceil(len(self.rows_N) / self.settings.batch_size)

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """Normalised images (B, 3, H, W) with dropout masks, and labels; each image once."""
        return prefetch(self.micro_batches(number, begin), self.device)

    def micro_batches(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """This worker's micro-batches of each step, prepared when the step is taken."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self.rows_N)
        augmented = rng.random(len(order)) < self.settings.augment_prob
        images_RHW3 = np.asarray(self.task.pixels.open())  # views of a memmap would be slower
        size = self.settings.batch_size
        for step in range(begin, self.steps):
            batch = slice(step * size, (step + 1) * size)
            rows_B, augmented_B = order[batch], augmented[batch]
            masks_BU = self.masks(len(rows_B), number, step)
            share = np.arange(len(rows_B))[self.rank :: self.workers]
            weight = 1.0
            if not len(share):  # every worker must take part in a step: this one with weight 0
                share, weight = np.zeros(1, np.int64), 0.0
            found = []
            for start in range(0, len(share), self.micro_batch_size):
                part = share[start : start + self.micro_batch_size]
                images = self.images(images_RHW3, rows_B[part], augmented_B[part], number)
                masks = tuple(mask_BU[torch.from_numpy(part)] for mask_BU in masks_BU)
                labels = torch.from_numpy(self.task.labels_N[rows_B[part]])
                part_weight = weight * len(part) / len(rows_B)
                found.append(MicroBatch((images, *masks), labels, part_weight))
            yield found

    def masks(self, images: int, number: int, step: int) -> tuple[torch.Tensor, ...]:
        """Dropout masks (B, U) of one step for all workers: 0, or 1 / (1 - dropout)."""
        generator = torch.Generator(self.device).manual_seed(seed_of(self.seed, number, step))
        kept = 1 - self.dropout
        return tuple(
            (torch.rand(images, width, device=self.device, generator=generator) < kept).float()
            / kept
            for width in self.widths
        )

    def images(
        self,
        images_RHW3: NDArray[np.uint8],
        rows_B: NDArray[np.int64],
        augmented_B: NDArray[np.bool_],
        number: int,
    ) -> torch.Tensor:
        """Normalised images of these rows, some of them in an augmentation of this epoch."""
        file_rows_B = self.task.pixels.row_N[rows_B]
        augmentation, chosen = 1 + seed_of(self.seed, number), np.flatnonzero(augmented_B)
        keys = [self.task.keys[row] for row in rows_B]
        if self.device.type != "cuda":
            images = [images_RHW3[row] for row in file_rows_B]
            return self.images_on_cpu(images, keys, augmentation, augmented_B)
        read_BHW3 = torch.from_numpy(images_RHW3[file_rows_B])
        images_BHW3 = read_BHW3.pin_memory().to(self.device, non_blocking=True)
        if len(chosen):
            index = torch.from_numpy(chosen).to(self.device)
            before, chosen_keys = images_BHW3[index], [keys[i] for i in chosen]
            images_BHW3[index] = augment(before, chosen_keys, augmentation, self.task.mirror)
        return as_input(images_BHW3, bf16_is_fast(self.device))

    def images_on_cpu(
        self,
        images: Sequence[NDArray[np.uint8]],
        keys: Sequence[str],
        augmentation: int,
        augmented_B: NDArray[np.bool_],
    ) -> torch.Tensor:
        """The same on torch's number of threads, without a copy of the images."""
        cv2, bf16 = opencv(), bf16_is_fast(self.device)
        table = table_of_levels(bf16)
        pixels_BHW3 = np.empty((len(images), *images[0].shape), table.dtype)

        def normalise(part: slice) -> None:
            chosen = part.start + np.flatnonzero(augmented_B[part])
            of_part = ([each[i] for i in chosen] for each in (images, keys, pixels_BHW3))
            read, chosen_keys, into = of_part
            by_opencv(read, chosen_keys, augmentation, self.task.mirror, RANGES, into, table)
            for i in part.start + np.flatnonzero(~augmented_B[part]):
                cv2.LUT(images[i], table, pixels_BHW3[i])

        slices_on_threads(len(keys), normalise)
        return from_bits(pixels_BHW3, bf16)


def finetuning_schedule(settings: FinetuneConfig, label_smoothing: float) -> Schedule:
    """The schedule of a fine-tuning: warm-up, then cosine; no early stopping."""
    return Schedule(
        epochs=settings.epochs,
        label_smoothing=label_smoothing,
        warmup=settings.warmup,
        cosine=True,
        clip=settings.clip,
    )


def network_of(member: Member, settings: FinetuneConfig, weights: str) -> Network:
    """The initial network: a member's head and the convolutions it was trained on."""
    recipe, labels = member.card.recipe, member.card.labels
    head = Head(backbone.HEAD_FEATURES, recipe.widths, len(labels), recipe.dropout)
    head.load_state_dict({name: torch.from_numpy(v) for name, v in member.tensors.items()})
    convolutions = Convolutions()
    convolutions.load_state_dict(backbone.load(weights).layers.state_dict())
    for weight in convolutions.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return Network(convolutions, head, settings.layers)


def optimizer_of(network: Network, settings: FinetuneConfig) -> Adam:
    """AdamW, with separate learning rates for the convolutions and the head."""
    return adamw_for(
        (network.head, settings.learning_rate),
        (network.convolutions, settings.backbone_rate),
        weight_decay=settings.weight_decay,
    )


def checkpoint_tensors(network: Network, optimizer: Adam) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors: trained weights, and Adam's state of each."""
    tensors = {}
    for name, parameter in network.learned_parameters().items():
        tensors[f"network.{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value
    return {name: value.cpu().contiguous() for name, value in tensors.items()}


def restore(network: Network, optimizer: Adam, tensors: dict[str, torch.Tensor]) -> None:
    """Restore network and optimizer from a checkpoint's tensors.

    Raises:
        UserError: the checkpoint is of another network.
    """
    parameters = network.learned_parameters()
    shapes = {k[8:]: v.shape for k, v in tensors.items() if k.startswith("network.")}
    if shapes != {name: value.shape for name, value in parameters.items()}:
        raise UserError(
            "a checkpoint is of another network: its layers or widths differ; delete the run's "
            "folder train to begin the fine-tuning anew"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"network.{name}"])
            moments = {k: tensors[f"{k}.{name}"] for k in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {
                "step": tensors[f"step.{name}"].to(parameter.device, copy=True),
                **{k: torch.empty_like(parameter).copy_(v) for k, v in moments.items()},
            }

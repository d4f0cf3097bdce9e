"""A trained head and AlexNet's convolutions, trained on together: what one worker needs.

All that is random follows from the seed, the pass and the step, never from what was drawn before or
from how many workers share a step: so a training goes on from a checkpoint as if nothing had been,
and one worker and several give the same weights but for the order of sums.

Letters: B images of a step, H units of a hidden layer, H and W rows and columns.
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
from sign_ensemble.learning.training_loop import MicroBatch, Schedule, TrainingState


@dataclass(frozen=True)
class PixelBatches:
    """One worker's share of the training images in batches, augmented where the network is.

    Args:
        task: Images and labels.
        rows_N: Which of them are learned from.
        settings: Batch size and share of views.
        micro_batch_size: Images that are held at a time.
        widths: Units of the hidden layers that get dropout masks.
        dropout: Share of units dropped.
        seed: Of this training.
        rank: This worker, from 0.
        workers: How many share a step.
        device: Where the network is.
    """

    task: PixelTask
    rows_N: NDArray[np.int64]
    settings: FinetuneConfig
    micro_batch_size: int
    widths: Sequence[int]
    dropout: float
    seed: int
    rank: int
    workers: int
    device: torch.device

    @property
    def steps(self) -> int:
        """Steps of one pass."""
        return ceil(len(self.rows_N) / self.settings.batch_size)

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """Normalised images (B, 3, H, W) with dropout masks, and labels; each image once."""
        return prefetch(self.made(number, begin), self.device)

    def made(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """The pieces of each step, made when they are asked for."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self.rows_N)
        augmented = rng.random(len(order)) < self.settings.augment_prob
        images_RHW3 = np.asarray(self.task.pixels.open())  # views of a memmap would be slower
        size = self.settings.batch_size
        for step in range(begin, self.steps):
            batch = slice(step * size, (step + 1) * size)
            chosen, turned = order[batch], augmented[batch]
            masks_BU = self.masks(len(chosen), number, step)
            mine = np.arange(len(chosen))[self.rank :: self.workers]
            weight = 1.0
            if not len(mine):  # the workers wait for each other: this one takes part with nothing
                mine, weight = np.zeros(1, np.int64), 0.0
            micro_batches = []
            for start in range(0, len(mine), self.micro_batch_size):
                part = mine[start : start + self.micro_batch_size]
                images = self.images(images_RHW3, chosen[part], turned[part], number)
                masks = tuple(mask_BU[torch.from_numpy(part)] for mask_BU in masks_BU)
                labels = torch.from_numpy(self.task.labels_N[chosen[part]])
                micro_batches.append(
                    MicroBatch((images, *masks), labels, weight * len(part) / len(chosen))
                )
            yield micro_batches

    def masks(self, images: int, number: int, step: int) -> tuple[torch.Tensor, ...]:
        """Dropout masks (B, H) of one step for all workers: 0, or 1 / (1 - dropout)."""
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
        rows: NDArray[np.int64],
        augmented: NDArray[np.bool_],
        number: int,
    ) -> torch.Tensor:
        """Images of these rows, some of them in a view drawn for this pass, normalised."""
        row_N = self.task.pixels.row_N[rows]
        augmentation, some = 1 + seed_of(self.seed, number), np.flatnonzero(augmented)
        keys = [self.task.keys[row] for row in rows]
        if self.device.type != "cuda":
            return self.on_processor(
                [images_RHW3[slot] for slot in row_N], keys, augmentation, augmented
            )
        read_NHW3 = images_RHW3[row_N]
        sent_NHW3 = torch.from_numpy(read_NHW3).pin_memory().to(self.device, non_blocking=True)
        if len(some):
            turn = torch.from_numpy(some).to(self.device)
            mine = [keys[i] for i in some]
            sent_NHW3[turn] = augment(sent_NHW3[turn], mine, augmentation, self.task.mirror)
        return as_input(sent_NHW3, bf16_is_fast(self.device))

    def on_processor(
        self,
        read: Sequence[NDArray[np.uint8]],
        keys: Sequence[str],
        augmentation: int,
        augmented: NDArray[np.bool_],
    ) -> torch.Tensor:
        """The same by torch's number of threads, each image read where it lies."""
        cv2, half = opencv(), bf16_is_fast(self.device)
        table_1T3 = table_of_levels(half)
        pixels_NHW3 = np.empty((len(read), *read[0].shape), table_1T3.dtype)

        def look_up(part: slice) -> None:
            turned = part.start + np.flatnonzero(augmented[part])
            mine, shown, into = ([of[i] for i in turned] for of in (keys, read, pixels_NHW3))
            by_opencv(shown, mine, augmentation, self.task.mirror, RANGES, into, table_1T3)
            for i in part.start + np.flatnonzero(~augmented[part]):
                cv2.LUT(read[i], table_1T3, pixels_NHW3[i])

        slices_on_threads(len(keys), look_up)
        return from_bits(pixels_NHW3, half)


def finetuning_schedule(settings: FinetuneConfig, label_smoothing: float) -> Schedule:
    """How a fine-tuning goes: all its epochs, warm-up and cosine, clipped."""
    return Schedule(
        epochs=settings.epochs,
        label_smoothing=label_smoothing,
        warmup=settings.warmup,
        cosine=True,
        clip=settings.clip,
    )


def network_of(member: Member, settings: FinetuneConfig, weights: str) -> Network:
    """The network that begins with a member's head and the convolutions it was trained on."""
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
    """AdamW, with a step size of its own for the convolutions and for the head."""
    return adamw_for(
        (network.head, settings.learning_rate),
        (network.convolutions, settings.backbone_rate),
        weight_decay=settings.weight_decay,
    )


def checkpoint_tensors(network: Network, optimizer: Adam) -> dict[str, torch.Tensor]:
    """What a checkpoint holds: learned weights, and Adam's moments and steps of each."""
    tensors = {f"network.{name}": value for name, value in network.learned().items()}
    names = {id(value): name for name, value in named_parameters(network).items()}
    for parameter, moments in optimizer.state.items():
        for kind, value in moments.items():
            tensors[f"{kind}.{names[id(parameter)]}"] = value
    return {name: value.cpu().contiguous() for name, value in tensors.items()}


def named_parameters(network: Network) -> dict[str, torch.nn.Parameter]:
    """What learns, by the names of :meth:`Network.learned`."""
    parts = (network.convolutions, network.head)
    named = {name: value for part in parts for name, value in part.named_parameters()}
    return {name: named[name] for name in network.learned()}


def restore(network: Network, optimizer: Adam, tensors: dict[str, torch.Tensor]) -> None:
    """Put a checkpoint's tensors back.

    Raises:
        UserError: it is of another network.
    """
    parameters = named_parameters(network)
    of_network = {k[8:]: v.shape for k, v in tensors.items() if k.startswith("network.")}
    if of_network != {name: value.shape for name, value in parameters.items()}:
        raise UserError(
            "a checkpoint is of another network: its layers or widths differ; delete the run's "
            "folder train to begin the fine-tuning anew"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"network.{name}"])
            moments = {k: tensors[f"{k}.{name}"] for k in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {
                "step": tensors[f"step.{name}"].to(parameter.device, copy=True),  # fused Adam's own
                **{k: torch.empty_like(parameter).copy_(v) for k, v in moments.items()},
            }


def checkpoint_header(state: TrainingState) -> dict[str, object]:
    """A position as JSON values."""
    return {"epoch": state.epoch, "step": state.step, "losses": list(state.losses)}

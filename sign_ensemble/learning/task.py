"""Records that the files of this folder share: training data, resources, and a fold's result.

Letters: N training images, or images of one fold; K labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.config import FinetuneConfig, ScaleConfig
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.principal_components import ProjectedImages

NO_FOLD = -2  # of extra training signers: in every network's training set, in no fold


def seed_of(*parts: int) -> int:
    """A 32-bit seed that depends on all parts (search seed, trial, fold)."""
    return int(np.random.SeedSequence([part % 2**32 for part in parts]).generate_state(1)[0])


@dataclass(frozen=True)
class Resources:
    """How trainings share a cluster: ``concurrent`` at a time, each with ``min_workers`` to
    ``max_workers`` workers of so many CPUs and GPUs.
    """

    concurrent: int
    min_workers: int
    max_workers: int
    cpus: int
    gpus: float


@dataclass(frozen=True)
class PixelTask:
    """Training data of every fine-tuning of a run; small, since images stay in their file."""

    pixels: CachedArray  # where the decoded training images lie
    keys: tuple[str, ...]  # each image's sha256, which seeds its augmentations
    labels_N: NDArray[np.int64]  # label of each image
    folds_N: NDArray[np.int64]  # fold of each image, or ``NO_FOLD``
    mirror: bool  # whether augmentations may mirror
    weights: str  # the initial convolutions, as in data.weights


@dataclass(frozen=True)
class EndToEnd:
    """What end-to-end trials need besides features."""

    pixels: PixelTask  # the images
    settings: FinetuneConfig  # how convolutions are fine-tuned
    scale: ScaleConfig  # workers of a training
    resources: Resources  # their resources
    folder: str  # where unfinished trainings keep their files

    def of(self, params: dict[str, Any]) -> EndToEnd:
        """The same with a trial's hyperparameters."""
        return replace(self, settings=finetune_settings(self.settings, params))


def finetune_settings(default: FinetuneConfig, params: dict[str, Any]) -> FinetuneConfig:
    """The settings with a trial's hyperparameters, of which trials of heads have none."""
    return replace(default, backbone_rate=params.get("backbone_rate", default.backbone_rate))


@dataclass(frozen=True)
class Task:
    """Training data of every trial of a run; small, since features stay in their file."""

    features: CachedArray  # where the training images' features lie
    labels_N: NDArray[np.int64]  # label of each training image, 0 to K - 1
    # fold of each training image; all images of a signer are in one fold
    folds_N: NDArray[np.int64]
    fold_names: tuple[str, ...]  # each fold's signers, for people to read
    labels: tuple[str, ...]  # the K label names
    seed: int  # the search's seed
    end_to_end: EndToEnd | None = None  # images and resources, where trials are end-to-end
    # training images projected on principal components, by ``projection_key``; a process computes
    # the missing ones itself
    projected: Mapping[str, ProjectedImages] = field(default_factory=dict, repr=False)

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(self.fold_names)


@dataclass(frozen=True)
class FoldResult:
    """A fold model's figures on the fold that it was not trained on.

    ``nll`` is in nats per image; ``logits_NK`` follow the order of the fold's images in the task.
    """

    fold: int
    n: int
    nll: float
    accuracy: float
    ece: float
    epochs: int
    best_epoch: int
    seconds: float
    logits_NK: NDArray[np.float32]

    def figures(self) -> dict[str, Any]:
        """Everything but the logits."""
        return {name: value for name, value in vars(self).items() if name != "logits_NK"}

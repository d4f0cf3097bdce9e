"""Records that the files of this folder share: training data, resources, and a fold's result.

Letters: N training images, or images of one fold; K labels, V augmented copies of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.config import FinetuneConfig, ScaleConfig
from sign_ensemble.data.feature_cache import landmarks_of
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.principal_components import ProjectedImages

CALIBRATION_COPIES = 2  # augmented copies that the rule is calibrated on; more change little
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


LOGITS = ("logits_NK", "copies_VNK")  # of a FoldResult
Kind = Literal["pixels", "landmarks"]  # what a member reads
KINDS: tuple[Kind, ...] = get_args(Kind)


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
    kinds: tuple[Kind, ...] = ("pixels",)  # the kinds of members that can be trained
    # training images projected on principal components, by ``projection_key``; a process computes
    # the missing ones itself
    projected: Mapping[str, ProjectedImages] = field(default_factory=dict, repr=False)

    @property
    def copies(self) -> int:
        """Augmented copies of each image that the rule is calibrated on."""
        wanted = CALIBRATION_COPIES if "landmarks" in self.kinds else 0
        return min(wanted, self.features.shape[0] - 1)

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(self.fold_names)

    def of_kind(self, kind: Kind) -> Task:
        """The task of members of this kind: features of the landmarks, or of the pixels."""
        if kind == "pixels":
            return self
        return replace(self, features=landmarks_of(self.features), end_to_end=None, projected={})


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
    copies_VNK: NDArray[np.float32]  # logits of augmented copies, of none or CALIBRATION_COPIES

    def figures(self) -> dict[str, Any]:
        """Everything but the logits."""
        return {name: value for name, value in vars(self).items() if name not in LOGITS}

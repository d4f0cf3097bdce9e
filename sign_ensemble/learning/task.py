"""Records that the files of this folder share: what is learned from, by what means, and a fold's
result.

Letters: N training images, E features, K labels, F images of the fold left out, G negatives of it.
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

NO_FOLD = -2  # images that every network learns from and none is asked about


def seed_of(*parts: int) -> int:
    """A 32-bit seed that depends on all parts (search seed, trial, fold)."""
    return int(np.random.SeedSequence([part % 2**32 for part in parts]).generate_state(1)[0])


@dataclass(frozen=True)
class Resources:
    """How trainings share a cluster: ``concurrent`` of them, each with ``least`` to ``most`` workers
    of so many CPUs and GPUs.
    """

    concurrent: int
    least: int
    most: int
    cpus: int
    gpus: float


@dataclass(frozen=True)
class PixelTask:
    """What every fine-tuning of a run learns from; small, since the images stay in their file.

    Args:
        pixels: Where the training images lie, decoded.
        keys: Each image's sha256, which its views follow from.
        labels_N: Its label.
        folds_N: Its fold, or :data:`NO_FOLD`.
        mirror: Whether views may be mirrored.
        weights: The convolutions to begin from, as in data.weights.
    """

    pixels: CachedArray
    keys: tuple[str, ...]
    labels_N: NDArray[np.int64]
    folds_N: NDArray[np.int64]
    mirror: bool
    weights: str


@dataclass(frozen=True)
class EndToEnd:
    """What trials of whole networks need beside features.

    Args:
        pixels: The images.
        settings: How convolutions learn.
        scale: Workers of a training.
        resources: Their resources.
        negatives: Most negatives of each kind from a fold.
        folder: Where trainings under way keep their files.
    """

    pixels: PixelTask
    settings: FinetuneConfig
    scale: ScaleConfig
    resources: Resources
    negatives: int
    folder: str

    def of(self, params: dict[str, Any]) -> EndToEnd:
        """With what a trial tries put in."""
        return replace(self, settings=finetune_settings(self.settings, params))


def finetune_settings(default: FinetuneConfig, params: dict[str, Any]) -> FinetuneConfig:
    """The settings with a trial's put in; those of a trial of heads say nothing of convolutions."""
    return replace(default, backbone_rate=params.get("backbone_rate", default.backbone_rate))


@dataclass(frozen=True)
class Task:
    """What every trial of a run learns from; small, since the features stay in their file.

    Args:
        features: Where the training images' features lie.
        labels_N: Label of each training image, 0 to K - 1.
        folds_N: Fold of each training image, 0 to n - 1; a fold holds whole signers.
        fold_names: What each fold leaves out, for people to read.
        labels: The K label names.
        negatives: Path of the self-made negatives' features, safetensors with ``features`` and
            ``folds``: a negative made from a signer's images belongs to that signer's fold.
        seed: The search's seed.
        end_to_end: Images and means, where a trial's convolutions learn too.
        projected: Training images along their directions, by :func:`key_of`, as far as that was done
            before; a process finds the rest itself.
    """

    features: CachedArray
    labels_N: NDArray[np.int64]
    folds_N: NDArray[np.int64]
    fold_names: tuple[str, ...]
    labels: tuple[str, ...]
    negatives: str
    seed: int
    end_to_end: EndToEnd | None = None
    projected: Mapping[str, ProjectedImages] = field(default_factory=dict, repr=False)

    @property
    def folds(self) -> int:
        """How many folds there are."""
        return len(self.fold_names)


@dataclass(frozen=True)
class FoldResult:
    """How one setting did on one fold that it had not seen.

    ``nll`` is in nats per image; ``augrc`` is the chance that a misread sign or a self-made
    negative is answered, over all thresholds on the network's own entropy; ``logits_NK`` follow the
    order of the fold's images in the task, ``negative_logits_GK`` that of its negatives.
    """

    fold: int
    n: int
    nll: float
    accuracy: float
    ece: float
    augrc: float
    epochs: int
    best_epoch: int
    seconds: float
    logits_NK: NDArray[np.float32]
    negative_logits_GK: NDArray[np.float32]

    def figures(self) -> dict[str, Any]:
        """Everything but the arrays."""
        return {k: v for k, v in vars(self).items() if not isinstance(v, np.ndarray)}

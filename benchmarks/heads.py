"""What benchmarks learn heads from, and a head fitted without folds or search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.backbone import FIFTH_FEATURES
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.network import Head
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.training_loop import FeatureBatches, fit, head_schedule


def fifth_alone(features: CachedArray, path: Path) -> CachedArray:
    """The fifth layer's features, which torchvision's classifier is given, in a file of their own:
    each image's, and its views'.
    """
    fifth_NVD = np.ascontiguousarray(features.open()[features.row_N, :, :FIFTH_FEATURES])
    fifth_NVD.tofile(path)
    return CachedArray(str(path), np.arange(len(fifth_NVD)), fifth_NVD.shape[1:], "float16")


def trained(
    recipe: MemberConfig,
    labels: int,
    features_RVD: NDArray[np.float16],
    labels_R: NDArray[np.int64],
    seed: int,
) -> Head:
    """A head for so many labels, fitted on all of these images and their views."""
    torch.manual_seed(seed)
    head = Head(features_RVD.shape[2], recipe.widths, labels, recipe.dropout)
    rows = np.arange(len(labels_R))
    rng = np.random.default_rng(seed)
    batches = FeatureBatches(
        features_RVD, rows, labels_R, recipe.batch_size, recipe.augment_prob, rng
    )
    optimizer = adamw_for((head, recipe.learning_rate), weight_decay=recipe.weight_decay)
    fit(head, batches, head_schedule(recipe), optimizer, torch.device("cpu"))
    return head

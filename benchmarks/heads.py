"""A head fitted for a benchmark, without folds or search."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.config import MemberConfig
from sign_ensemble.learning.fit import FeatureBatches, adam, course_of, fit
from sign_ensemble.learning.network import Head


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
        features_RVD, rows, labels_R, recipe.batch_size, recipe.view_share, rng
    )
    optimiser = adam((head, recipe.learning_rate), weight_decay=recipe.weight_decay)
    fit(head, batches, course_of(recipe), optimiser, torch.device("cpu"))
    return head

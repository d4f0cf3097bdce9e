"""Training a head on cached features.

Letters: N training images; R rows of a cache file; V an image and its
augmented copies; P principal components; D features; K labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble import metrics
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.device import best_device
from sign_ensemble.learning.network import Head, logits_of, softmax
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.principal_components import (
    CHUNK,
    PrincipalComponents,
    cached_projection,
    cached_unseen_projection,
    projection_key,
)
from sign_ensemble.learning.task import Task
from sign_ensemble.learning.training_loop import FeatureBatches, FitResult, fit, head_schedule


@dataclass(frozen=True)
class ProjectedHead:
    """A head as it was trained."""

    head: Head  # its inputs are coordinates in ``subspace`` if there is one, else features
    fitted: FitResult  # how the training went
    subspace: PrincipalComponents | None = None  # the principal components
    key: str = ""  # key of the subspace, for caching

    def on_features(self) -> Head:
        """The same head, taking features."""
        return self.subspace.unproject(self.head) if self.subspace else self.head

    def logits(self, key: str, read: Callable[[], NDArray[np.float16]]) -> NDArray[np.float32]:
        """Logits (N, K) of images outside the training set, whose features (N, D) ``read`` returns.

        Their projection is cached by ``key``, which identifies the images.
        """
        if self.subspace is None:
            return logits_of(self.head, read())
        device = next(self.head.parameters()).device
        unseen_NP = cached_unseen_projection(f"{self.key} {key}", self.subspace, read, device)
        with torch.inference_mode():
            parts = [self.head.logits(chunk_NP) for chunk_NP in unseen_NP.split(CHUNK)]
        return torch.cat(parts).cpu().numpy()


def recipe_of(default: MemberConfig, params: dict[str, Any]) -> MemberConfig:
    """The default recipe with a trial's hyperparameters; h1 and h2 are the widths, and
    ``backbone_rate`` is no hyperparameter of a head.
    """
    rest = {k: v for k, v in params.items() if k not in ("h1", "h2", "backbone_rate")}
    h1, h2 = default.widths
    return replace(default, widths=(int(params.get("h1", h1)), int(params.get("h2", h2))), **rest)


def validation_mask(
    labels_N: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which images are for early stopping: ``share`` of each label's, rounded down."""
    chosen_N = np.zeros(len(labels_N), bool)
    for label in np.unique(labels_N):
        of_label = rng.permutation(np.flatnonzero(labels_N == label))
        chosen_N[of_label[: int(share * len(of_label))]] = True
    return chosen_N


def bootstrap_rows(rows: NDArray[np.int64], recipe: MemberConfig, seed: int) -> NDArray[np.int64]:
    """The rows to train on: all, or as many drawn with replacement."""
    if not recipe.bootstrapped:
        return rows
    return np.sort(np.random.default_rng([seed, 1]).choice(rows, len(rows)))


def fit_rows(
    task: Task, recipe: MemberConfig, rows: NDArray[np.int64], seed: int
) -> tuple[Head, FitResult]:
    """:func:`train_head`, returning a head that takes features."""
    trained = train_head(task, recipe, rows, seed)
    return trained.on_features(), trained.fitted


def train_head(
    task: Task, recipe: MemberConfig, rows: NDArray[np.int64], seed: int
) -> ProjectedHead:
    """Train a new head on some of the task's images, on principal components of their features if
    the recipe says so.

    Args:
        task: Features and labels.
        recipe: Hyperparameters.
        rows: Which training images, by their index in the task.
        seed: Seeds initial weights, dropout, order, augmentations and the validation images; the
            same seed on the same number of threads gives the same bits.
    """
    device = best_device()
    rng = np.random.default_rng(seed)
    labels_N, row_N = task.labels_N[rows], task.features.row_N[rows]
    inputs_RVD = task.features.open()
    validation_N = validation_mask(labels_N, recipe.validation_share, rng)
    subspace, key = None, ""
    if 0 < recipe.components < inputs_RVD.shape[2]:
        key = projection_key(task.features, row_N, recipe.components)
        projected = task.projected.get(key) or cached_projection(
            task.features, row_N, recipe.components, device
        )
        subspace, inputs_RVD = projected.subspace, projected.coordinates_NVP
        row_N = np.arange(len(rows))
    validation_inputs = inputs_RVD[row_N[validation_N], 0]

    def validation_nll(head: torch.nn.Module) -> float:
        assert isinstance(head, Head)
        probs = softmax(logits_of(head, validation_inputs))
        return float(metrics.nll(probs, labels_N[validation_N]))

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = Head(inputs_RVD.shape[2], recipe.widths, len(task.labels), recipe.dropout)
        head = head.to(device)
        train_rows = bootstrap_rows(np.flatnonzero(~validation_N), recipe, seed)
        size, prob, rate = recipe.batch_size, recipe.augment_prob, recipe.learning_rate
        batches = FeatureBatches(
            inputs_RVD, row_N[train_rows], labels_N[train_rows], size, prob, rng,
            recipe.point_noise,
        )  # fmt: skip
        optimizer = adamw_for(
            (head.layers[1:], rate),
            (head.layers[0], rate * (subspace.rate_factor if subspace else 1.0)),
            weight_decay=recipe.weight_decay,
        )
        stop_early = validation_nll if validation_N.any() else None
        fitted = fit(head, batches, head_schedule(recipe), optimizer, device, stop_early)
    return ProjectedHead(head, fitted, subspace, key)

"""One setting, judged on signers its models never saw.

Letters: N training images, E features, K labels, F images of the fold left out, G negatives of it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble import metrics
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.device import best_device
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.principal_components import (
    cached_projection,
    content_key,
    projection_key,
)
from sign_ensemble.learning.projected_head import ProjectedHead
from sign_ensemble.learning.task import FoldResult, Task
from sign_ensemble.learning.training_loop import FeatureBatches, FitResult, fit, head_schedule


def recipe_of(default: MemberConfig, params: dict[str, Any]) -> MemberConfig:
    """The default recipe with a trial's hyperparameters put in; h1 and h2 are the widths, and what
    is of the convolutions is left out.
    """
    params = {name: value for name, value in params.items() if name != "backbone_rate"}
    widths = (
        int(params.pop("h1", default.widths[0])),
        int(params.pop("h2", default.widths[1])),
    )
    return replace(default, widths=widths, **params)


def validation_mask(
    labels_N: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which images stop the training early: ``share`` of each label's, rounded down."""
    chosen_N = np.zeros(len(labels_N), bool)
    for label in np.unique(labels_N):
        mine = rng.permutation(np.flatnonzero(labels_N == label))
        chosen_N[mine[: int(share * len(mine))]] = True
    return chosen_N


def bootstrap_rows(rows: NDArray[np.int64], recipe: MemberConfig, seed: int) -> NDArray[np.int64]:
    """The rows that a network learns from: all, or as many drawn with replacement."""
    if not recipe.bootstrapped:
        return rows
    return np.sort(np.random.default_rng([seed, 1]).choice(rows, len(rows)))


def fit_rows(
    task: Task, recipe: MemberConfig, rows: NDArray[np.int64], seed: int
) -> tuple[Head, FitResult]:
    """Train a new head on some of the task's images, see :func:`train_head`; it takes features."""
    learned = train_head(task, recipe, rows, seed)
    return learned.on_features(), learned.fitted


def train_head(
    task: Task, recipe: MemberConfig, rows: NDArray[np.int64], seed: int
) -> ProjectedHead:
    """Train a new head on some of the task's images, along the principal directions of their
    features if the recipe says so.

    Args:
        task: Slots and labels.
        recipe: Hyperparameters.
        rows: Which training images, by their place in the task.
        seed: Decides initial weights, dropout, order, views and the images kept back; the same
            seed on the same number of threads gives the same bits.
    """
    device = best_device()
    rng = np.random.default_rng(seed)
    labels_N = task.labels_N[rows]
    row_N = task.features.row_N[rows]
    features_RVD = task.features.open()
    validation_N = validation_mask(labels_N, recipe.validation_share, rng)
    space, key = None, ""
    if 0 < recipe.components < HEAD_FEATURES:
        about = (task.features, row_N, recipe.components)
        key = projection_key(*about)
        projected = task.projected.get(key) or cached_projection(*about, device)
        space, features_RVD, row_N = (
            projected.subspace,
            projected.coordinates_NVP,
            np.arange(len(rows)),
        )
    validation_features = features_RVD[row_N[validation_N], 0]

    def validation_nll(head: torch.nn.Module) -> float:
        assert isinstance(head, Head)
        return float(
            metrics.nll(softmax(logits_of(head, validation_features)), labels_N[validation_N])
        )

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = Head(features_RVD.shape[2], recipe.widths, len(task.labels), recipe.dropout)
        head = head.to(device)
        shown_N = bootstrap_rows(np.flatnonzero(~validation_N), recipe, seed)
        batches = FeatureBatches(
            features_RVD,
            row_N[shown_N],
            labels_N[shown_N],
            recipe.batch_size,
            recipe.augment_prob,
            rng,
        )
        rate = recipe.learning_rate
        optimizer = adamw_for(
            (head.layers[1:], rate),
            (head.layers[0], rate * (space.rate_factor if space else 1.0)),
            weight_decay=recipe.weight_decay,
        )
        stop = validation_nll if validation_N.any() else None
        fitted = fit(head, batches, head_schedule(recipe), optimizer, device, stop)
    return ProjectedHead(head, fitted, space, key)


def fit_fold(
    task: Task, recipe: MemberConfig, fold: int, seed: int, negatives_GE: NDArray[np.float16]
) -> tuple[FoldResult, ProjectedHead]:
    """Train on all folds but one and look at that one.

    Args:
        task: Slots, labels and folds.
        recipe: Hyperparameters.
        fold: The fold left out.
        seed: See :func:`fit_rows`.
        negatives_GE: Slots of that fold's negatives.
    """
    began = time.monotonic()
    learned = train_head(task, recipe, np.flatnonzero(task.folds_N != fold), seed)
    out_N = task.folds_N == fold
    row_N = task.features.row_N[out_N]
    result = fold_result(
        fold=fold,
        labels_N=task.labels_N[out_N],
        logits_NK=learned.logits(
            projection_key(task.features, row_N, 0), lambda: task.features.open()[row_N, 0]
        ),
        negative_logits_GK=learned.logits(content_key(negatives_GE), lambda: negatives_GE),
        epochs=(learned.fitted.epochs, learned.fitted.best_epoch),
        began=began,
    )
    return result, learned


def fold_result(
    fold: int,
    labels_N: NDArray[np.int64],
    logits_NK: NDArray[np.float32],
    negative_logits_GK: NDArray[np.float32],
    epochs: tuple[int, int],
    began: float,
) -> FoldResult:
    """The figures of what a network said of a fold that it had not seen.

    Args:
        fold: The fold.
        labels_N: Its labels.
        logits_NK: What the network said of its images.
        negative_logits_GK: And of its negatives.
        epochs: Passes that were run, and the best of them.
        began: When, by the monotonic clock.
    """
    probs_NK = softmax(logits_NK)
    return FoldResult(
        fold=fold,
        n=len(labels_N),
        nll=float(metrics.nll(probs_NK, labels_N)),
        accuracy=float(metrics.accuracy(probs_NK, labels_N)),
        ece=float(metrics.ece(*metrics.top_class(probs_NK, labels_N))),
        augrc=unsure_risk(probs_NK, labels_N, softmax(negative_logits_GK)),
        epochs=epochs[0],
        best_epoch=epochs[1],
        seconds=time.monotonic() - began,
        logits_NK=logits_NK,
        negative_logits_GK=negative_logits_GK,
    )


def softmax(logits_NK: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of logits; by torch, which every worker has loaded: SciPy's would take each of
    them another fifth of a second.
    """
    probs_NK: NDArray[np.float64] = torch.from_numpy(logits_NK).double().softmax(-1).numpy()
    return probs_NK


def unsure_risk(
    probs_NK: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    negative_probs_GK: NDArray[np.float64],
) -> float:
    """AUGRC of signs and negatives, rejected by the entropy of their probabilities; failures are
    misread signs and all negatives.
    """
    every_NK = np.concatenate([probs_NK, negative_probs_GK])
    scores = torch.special.entr(torch.from_numpy(every_NK)).sum(-1).numpy()
    failed = np.ones(len(scores), bool)
    failed[: len(labels_N)] = probs_NK.argmax(-1) != labels_N
    return float(metrics.augrc(scores, failed))


def fold_of_each(
    signers_N: NDArray[np.str_], labels_N: NDArray[np.int64], most: int, seed: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Folds for leave-one-signer-out over the training images.

    A signer is a fold; with more signers than ``most``, the largest signers come first and each
    joins the fold that is smallest by then. Without signers (all names empty) folds are random
    images, spread evenly over labels.

    Returns:
        Fold of each image, and each fold's name: its signers joined by +.
    """
    names, counts = np.unique(signers_N, return_counts=True)
    if list(names) == [""]:
        rng = np.random.default_rng(seed)
        folds_N = np.zeros(len(labels_N), np.int64)
        n = min(most, int(np.bincount(labels_N).min()), 4)
        for label in np.unique(labels_N):
            mine = rng.permutation(np.flatnonzero(labels_N == label))
            folds_N[mine] = np.arange(len(mine)) % n
        return folds_N, tuple(f"random-{fold}" for fold in range(n))
    members: list[list[str]] = [[] for _ in range(min(most, len(names)))]
    sizes = [0] * len(members)
    for i in sorted(range(len(names)), key=lambda i: (-counts[i], names[i])):
        smallest = sizes.index(min(sizes))
        members[smallest].append(str(names[i]))
        sizes[smallest] += int(counts[i])
    members = sorted(sorted(group) for group in members)
    fold_of = {name: fold for fold, group in enumerate(members) for name in group}
    folds_N = np.array([fold_of[str(name)] for name in signers_N], np.int64)
    return folds_N, tuple("+".join(group) for group in members)

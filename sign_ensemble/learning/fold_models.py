"""A fold model: trained on all folds but one, and evaluated on that one, whose signers it has not
seen.

Letters: N training images, or images of one fold; K labels, V augmented copies, R rows of a cache
file, D features.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble import metrics
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.learning.head_training import ProjectedHead, train_head
from sign_ensemble.learning.network import softmax
from sign_ensemble.learning.principal_components import projection_key
from sign_ensemble.learning.task import FoldResult, Task

MOST_BLOCKS = 4  # folds without signers: more only take longer, since none is a new person


def fit_fold(
    task: Task, recipe: MemberConfig, fold: int, seed: int
) -> tuple[FoldResult, ProjectedHead]:
    """:func:`train_head` on all folds but ``fold``, evaluated on that one."""
    began = time.monotonic()
    trained = train_head(task, recipe, np.flatnonzero(task.folds_N != fold), seed)
    in_fold_N = task.folds_N == fold
    row_N = task.features.row_N[in_fold_N]
    key, inputs_RVD = projection_key(task.features, row_N, 0), task.features.open()

    def logits_of_copy(copy: int) -> NDArray[np.float32]:
        return trained.logits(f"{key} {copy}", lambda: inputs_RVD[row_N, copy])

    logits_NK = logits_of_copy(0)
    copies = [logits_of_copy(copy) for copy in range(1, 1 + task.copies)]
    copies_VNK = np.stack(copies) if copies else np.zeros((0, *logits_NK.shape), np.float32)
    epochs = trained.fitted.epochs, trained.fitted.best_epoch
    result = fold_result(fold, task.labels_N[in_fold_N], logits_NK, epochs, began)
    return replace(result, copies_VNK=copies_VNK), trained


def fold_result(
    fold: int,
    labels_N: NDArray[np.int64],
    logits_NK: NDArray[np.float32],
    epochs: tuple[int, int],
    began: float,
) -> FoldResult:
    """The figures of a fold model by its logits of the held-out fold.

    ``epochs`` are the number that was run and the best one; ``began`` is of the monotonic clock.
    """
    probs_NK = softmax(logits_NK)
    return FoldResult(
        fold=fold,
        n=len(labels_N),
        nll=float(metrics.nll(probs_NK, labels_N)),
        accuracy=float(metrics.accuracy(probs_NK, labels_N)),
        ece=float(metrics.ece(*metrics.top_class(probs_NK, labels_N))),
        epochs=epochs[0],
        best_epoch=epochs[1],
        seconds=time.monotonic() - began,
        logits_NK=logits_NK,
        copies_VNK=np.zeros((0, *logits_NK.shape), np.float32),
    )


def fold_of_each(
    signers_N: NDArray[np.str_], most: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Folds for leave-one-signer-out over the training images.

    A signer is a fold; with more signers than ``most``, the largest signers come first and each
    joins the fold that is smallest by then.

    Returns:
        Fold of each image, and each fold's name: its signers joined by +.
    """
    names, counts = np.unique(signers_N, return_counts=True)
    groups: list[list[str]] = [[] for _ in range(min(most, len(names)))]
    sizes = [0] * len(groups)
    for i in sorted(range(len(names)), key=lambda i: (-counts[i], names[i])):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(str(names[i]))
        sizes[smallest] += int(counts[i])
    groups = sorted(sorted(group) for group in groups)
    fold_of = {name: fold for fold, group in enumerate(groups) for name in group}
    folds_N = np.array([fold_of[str(name)] for name in signers_N], np.int64)
    return folds_N, tuple("+".join(group) for group in groups)


def block_of_each(
    labels_N: NDArray[np.int64], order_N: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Folds of images without signers: each holds a block of each label's images in file order, so
    that few frames of one video are in different folds. ``order_N`` are the images in that order.

    Returns:
        Fold of each image, and each fold's name.
    """
    folds_N = np.zeros(len(labels_N), np.int64)
    n = min(most, int(np.bincount(labels_N).min()), MOST_BLOCKS)
    for label in np.unique(labels_N):
        of_label = order_N[labels_N[order_N] == label]
        folds_N[of_label] = np.arange(len(of_label)) * n // len(of_label)
    return folds_N, tuple(f"block-{fold}" for fold in range(n))

"""How far training signers' images and negatives are from the images of the other signers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.backbone import FIFTH_FEATURES, HEAD_FEATURES, Features
from sign_ensemble.data.feature_cache import CachedFeatures, all_layers
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.hand_count import HandCountImages
from sign_ensemble.rejection.nearest_neighbours import draw_reference_rows
from sign_ensemble.rejection.reference_set import (
    Distances,
    ReferenceSet,
    Rows,
    measure_distances,
    models_of_other_signers,
)


def reference_rows(prepared: Prepared) -> NDArray[np.int64]:
    """The training images that distances are measured to, sorted; no label lacks one."""
    task = prepared.task
    most = max(prepared.config.rejection.reference_images, len(task.labels) * task.folds)
    return draw_reference_rows(task.labels_N, task.folds_N, most, task.seed)


def reference_set_of(
    task: Task, chosen: NDArray[np.int64], hands: HandCountImages | None = None
) -> ReferenceSet:
    """The training images of these rows, with their views; and pictures made of their signs."""
    row_B = task.features.row_N[chosen]
    every_RVA = all_layers(task.features).open()
    fifth_BVD = every_RVA[row_B, :, :FIFTH_FEATURES]
    third_BD, fourth_BD = (
        every_RVA[row_B, 0, FIFTH_FEATURES:HEAD_FEATURES],
        every_RVA[row_B, 0, HEAD_FEATURES:],
    )
    return ReferenceSet(
        fifth_BVD, third_BD, fourth_BD, task.labels_N[chosen], task.folds_N[chosen], hands
    )


def distances_to_other_signers(
    prepared: Prepared, bank: ReferenceSet, negatives: Mapping[str, NDArray[Any]], reads: bool
) -> tuple[Distances, Distances]:
    """Distances of the training signers' signs, and of the negatives made from them, to the images
    of the others.

    Args:
        prepared: The run.
        bank: The training images that distances are measured to.
        negatives: The arrays of the run's file of them.
        reads: Whether clouds of the fifth layer are wanted.
    """
    task = prepared.task
    others = models_of_other_signers(bank, task.folds_N, reads)

    def asked(of: Rows, groups: NDArray[np.int64]) -> Distances:
        k = prepared.config.rejection.neighbours
        return measure_distances(of, groups, bank, others, k, len(task.labels))

    signs = asked(CachedFeatures(task.features), task.folds_N)
    made = np.concatenate([negatives["features"], negatives["fourth"]], 1)
    return signs, asked(Features(made), negatives["folds"])

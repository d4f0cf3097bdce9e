"""Distances of the training signers' images to the other signers' reference images.

Letters: N training images, B reference images, V an image and its augmented copies, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.backbone import FIFTH_FEATURES, HEAD_FEATURES
from sign_ensemble.data.feature_cache import CachedFeatures, all_layers
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.hand_count import HandCountImages
from sign_ensemble.rejection.nearest_neighbours import draw_reference_rows
from sign_ensemble.rejection.reference_set import (
    Distances,
    ReferenceSet,
    distances_to_others,
    models_of_other_signers,
)


def reference_rows(prepared: Prepared) -> NDArray[np.int64]:
    """The training images of the reference set, sorted; every label and fold has one."""
    task = prepared.task
    most = max(prepared.config.rejection.reference_images, len(task.labels) * task.folds)
    return draw_reference_rows(task.labels_N, task.folds_N, most, task.seed)


def reference_set_of(
    task: Task, rows_B: NDArray[np.int64], pictures: HandCountImages | None = None
) -> ReferenceSet:
    """The reference set of these training images."""
    cached_RVD, cache_rows_B = all_layers(task.features).open(), task.features.row_N[rows_B]
    return ReferenceSet(
        fifth_BVD=cached_RVD[cache_rows_B, :, :FIFTH_FEATURES],
        third_BD=cached_RVD[cache_rows_B, 0, FIFTH_FEATURES:HEAD_FEATURES],
        fourth_BD=cached_RVD[cache_rows_B, 0, HEAD_FEATURES:],
        labels_B=task.labels_N[rows_B],
        groups_B=task.folds_N[rows_B],
        pictures=pictures,
    )


def distances_to_other_signers(prepared: Prepared, reference: ReferenceSet, gda: bool) -> Distances:
    """Distances of every training image to the reference images of the other signers; with
    ``gda`` also in the fifth layer.
    """
    task, k = prepared.task, prepared.config.rejection.neighbours
    models = models_of_other_signers(reference, task.folds_N, gda)
    features, labels = CachedFeatures(task.features), len(task.labels)
    return distances_to_others(features, task.folds_N, reference, models, k, labels)

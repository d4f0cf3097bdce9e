"""Distances of the training signers' images to the other signers' reference images.

Letters: N training images, B reference images, V an image and its augmented copies, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.console import progress
from sign_ensemble.data.backbone import FIFTH_FEATURES, HEAD_FEATURES, OF_IMAGE
from sign_ensemble.data.feature_cache import CachedFeatures, all_layers, hand_counts
from sign_ensemble.data.picture_conditions import drawn_conditions
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

MOST_ROWS = 20_000  # images and copies that fingertips' and landmarks' Gaussians are fitted to


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
        fourth_BD=cached_RVD[cache_rows_B, 0, HEAD_FEATURES:OF_IMAGE],
        labels_B=task.labels_N[rows_B],
        groups_B=task.folds_N[rows_B],
        hand_BVD=hand_features_of(task, rows_B),
        pictures=pictures,
    )


def hand_features_of(task: Task, rows_B: NDArray[np.int64]) -> NDArray[np.float16] | None:
    """What ``HandFeatures`` have of training images and their augmented copies, in all at most
    MOST_ROWS; None where landmarks are not learned from.
    """
    if "landmarks" not in task.kinds:
        return None
    every, rows = all_layers(task.features).open(), task.features.row_N[rows_B]
    copies = max(1, min(every.shape[1], MOST_ROWS // max(1, len(rows_B))))
    return every[rows, :copies, OF_IMAGE:]


def copies_to_calibrate(prepared: Prepared) -> dict[int, NDArray[np.int64]]:
    """Number of a copy → the training images whose copy was taken under no other conditions than
    those of rejection.conditions and still shows a hand that is found: a copy without is no picture
    that an answer is wanted to. Copy 0, the images themselves, comes first.
    """
    config, task = prepared.config, prepared.task
    rows = np.arange(len(task.labels_N))
    if "landmarks" not in task.kinds or not config.rejection.conditions:
        return {0: rows}
    keys, allowed = prepared.rows.column("sha256").to_pylist(), set(config.rejection.conditions)
    found, hands_NV = {0: rows}, hand_counts(task.features)
    for copy in range(1, 1 + task.copies):
        under = [allowed.issuperset(drawn_conditions(key, copy)) for key in keys]
        found[copy] = np.flatnonzero(np.array(under) & (hands_NV[:, copy] > 0))
    return {copy: chosen for copy, chosen in found.items() if len(chosen)}


def distances_to_other_signers(
    prepared: Prepared,
    reference: ReferenceSet,
    gda: bool,
    copies: Mapping[int, NDArray[np.int64]],
) -> list[Distances]:
    """Distances of every training image to the reference images of the other signers, and of the
    given images' augmented copies, copy by copy; with ``gda`` also in the fifth layer.
    """
    task, k = prepared.task, prepared.config.rejection.neighbours
    models = models_of_other_signers(reference, task.folds_N, gda)
    found, labels = [], len(task.labels)
    with progress("images compared with other signers'") as step:
        for copy, rows in copies.items():
            some = replace(task.features, row_N=task.features.row_N[rows])
            features, folds_N = CachedFeatures(some, copy), task.folds_N[rows]
            found.append(distances_to_others(features, folds_N, reference, models, k, labels))
            step(len(found), len(copies))
    return found

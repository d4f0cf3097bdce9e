"""Labels held out in groups: what a wrong gesture looks like, from training signers alone.

Letters: N training images, B reference images, K labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.console import progress
from sign_ensemble.data.feature_cache import CachedFeatures
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.held_out_statistics import HeldOutScores
from sign_ensemble.rejection.reference_set import (
    ReferenceSet,
    distances_to_others,
    hand_count_of_other_signers,
    models_of_other_signers,
)
from sign_ensemble.rejection.scores import distance_scores

GROUPS = 5  # a fifth of the labels at a time: enough wrong gestures, and most labels stay


def label_groups(labels: int, most: int, seed: int) -> list[NDArray[np.int64]]:
    """At most ``most`` of GROUPS random groups of K labels; none unless two labels are left."""
    if labels < 3:
        return []
    order = np.random.default_rng(seed).permutation(labels)
    return [np.sort(group) for group in np.array_split(order, min(GROUPS, labels))][:most]


def held_out_scores(
    prepared: Prepared, reference: ReferenceSet, rows_B: NDArray[np.int64]
) -> list[HeldOutScores]:
    """The scores of all training images with each group of labels held out in turn.

    Only scores that need no member: nothing is trained.
    """
    task, settings = prepared.task, prepared.config.rejection
    groups = label_groups(len(task.labels), settings.held_out_groups, task.seed)
    features, found = CachedFeatures(task.features), []
    hand_count = hand_count_of_other_signers(reference, task.folds_N)  # does not depend on labels
    with progress("groups of labels held out") as step:
        for out in groups:
            held_out_N = np.isin(task.labels_N, out)
            kept = np.setdiff1d(np.arange(len(task.labels)), out)
            smaller = reference.rows(~held_out_N[rows_B])
            smaller = replace(smaller, labels_B=np.searchsorted(kept, smaller.labels_B))
            models = models_of_other_signers(smaller, task.folds_N, False, hand_count)
            distances = distances_to_others(
                features, task.folds_N, smaller, models, settings.neighbours, len(kept)
            )
            found.append(HeldOutScores(distance_scores(distances), task.folds_N, held_out_N))
            step(len(found), len(groups))
    return found

"""Labels held out in groups: what a wrong gesture looks like, from training signers alone.

Letters: N training images, B reference images, K labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.console import progress
from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data.feature_cache import CachedFeatures
from sign_ensemble.pipeline.out_of_signer import copies_to_calibrate
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.held_out_statistics import HeldOutScores
from sign_ensemble.rejection.joint_distance import fit_joint_scales, joint_distance
from sign_ensemble.rejection.kind_distances import (
    KindDistances,
    concatenate_kinds,
    kind_distances,
)
from sign_ensemble.rejection.reference_set import (
    FITTED_AT_ONCE,
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
    found: list[HeldOutScores] = []
    of_pixels = reference.hand_BVD is None
    # does not depend on labels
    hand_count = hand_count_of_other_signers(reference, task.folds_N) if of_pixels else {}
    with progress("groups of labels held out") as step:
        for out in groups:
            held_out_N = np.isin(task.labels_N, out)
            kept = np.setdiff1d(np.arange(len(task.labels)), out)
            smaller = reference.rows(~held_out_N[rows_B])
            smaller = replace(smaller, labels_B=np.searchsorted(kept, smaller.labels_B))
            if of_pixels:
                models = models_of_other_signers(smaller, task.folds_N, False, hand_count)
                features = CachedFeatures(task.features)
                distances = distances_to_others(
                    features, task.folds_N, smaller, models, settings.neighbours, len(kept)
                )
                scores = distance_scores(distances)
                found.append(HeldOutScores(scores, task.folds_N, held_out_N))
            else:
                found.append(joint_scores(prepared, smaller, kept, held_out_N))
            step(len(found), len(groups))
    return found


def joint_scores(
    prepared: Prepared,
    reference: ReferenceSet,
    kept: NDArray[np.int64],
    held_out_N: NDArray[np.bool_],
) -> HeldOutScores:
    """The joint distance of all training images in which a hand was found, and of their augmented
    copies for calibration, to the other signers' images of the labels that are kept.
    """
    task = prepared.task
    kinds, rows_N, copies_N = distances_of_kinds(prepared, reference, len(kept))
    signs = np.flatnonzero(~held_out_N[rows_N])
    labels = np.searchsorted(kept, task.labels_N[rows_N[signs]])
    scales = fit_joint_scales(kinds.rows(signs), np.zeros(1), labels)
    scores = {"joint_distance": joint_distance(kinds, None, scales).total_N}
    return HeldOutScores(scores, task.folds_N[rows_N], held_out_N[rows_N], copies_N)


def distances_of_kinds(
    prepared: Prepared, reference: ReferenceSet, labels: int
) -> tuple[KindDistances, NDArray[np.int64], NDArray[np.bool_]]:
    """Distances of all training images in which a hand was found, and of their augmented copies for
    calibration, to the other signers' reference images of so many labels; the image of each, and
    which are copies.
    """
    task, parts, rows, copies = prepared.task, [], [], []
    folds = np.unique(task.folds_N).tolist()
    fitted_to_others = map_on_threads(
        len(folds), lambda i: reference.without(folds[i]).kind_gaussians(), FITTED_AT_ONCE
    )
    gaussians = dict(zip(folds, fitted_to_others, strict=True))
    for copy, chosen in copies_to_calibrate(prepared).items():
        features = CachedFeatures(task.features, copy)
        for fold, fitted in gaussians.items():
            of_fold = chosen[task.folds_N[chosen] == fold]
            if fitted is None or not len(of_fold):
                continue
            hands = features.rows(of_fold).of_hand
            seen = np.flatnonzero(hands.hands_N > 0)
            parts.append(kind_distances(hands.rows(seen), fitted, labels))
            rows.append(of_fold[seen])
            copies.append(np.full(len(seen), copy > 0))
    return concatenate_kinds(parts), np.concatenate(rows), np.concatenate(copies)

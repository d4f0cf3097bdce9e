"""Pictures of no hand, one and two, made from training signs, for the hand-count detector.

Letters: B images (the pictures), D features of the fifth layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.console import progress
from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data.hand_count_negatives import SIGNS, pictures_of_fold, signs_of_fold
from sign_ensemble.data.hand_features import features_of_pictures
from sign_ensemble.learning.task import seed_of
from sign_ensemble.pipeline.preparation import Prepared, read_images
from sign_ensemble.rejection.hand_count import HandCountImages


def hand_count_images(prepared: Prepared) -> HandCountImages | None:
    """Features of the pictures, made if they are missing; None if the detector is not wanted, and
    where hands are found and counted in the pictures themselves.
    """
    config, run = prepared.config, prepared.run
    if not config.rejection.hand_count_images or "landmarks" in prepared.task.kinds:
        return None
    if not run.hand_count.exists():
        write_hand_count_images(prepared, config.rejection.hand_count_images)
    arrays, _ = read_arrays(run.hand_count)
    return HandCountImages(arrays["fifth"], arrays["hands"], arrays["groups"])


def write_hand_count_images(prepared: Prepared, each: int) -> None:
    """Make so many pictures with each number of hands from every fold, and write their features."""
    run, task, data = prepared.run, prepared.task, prepared.config.data

    def make(fold: int) -> NDArray[np.float16]:
        seed = seed_of(task.seed, fold)
        chosen = signs_of_fold(task.folds_N, fold, seed).tolist()
        signs = read_images(prepared.rows, prepared.manifest.root, data, chosen)
        return features_of_pictures(pictures_of_fold(each, seed, signs), data).fifth_ND

    parts: list[NDArray[np.float16]] = []
    with progress("pictures for the hand-count detector made") as step:
        for part_BD in map_on_threads(task.folds, make):
            parts.append(part_BD)
            step(len(parts), task.folds)
    hands_B = np.tile(np.repeat(SIGNS, each), task.folds).astype(np.int64)
    groups_B = np.repeat(np.arange(task.folds), len(SIGNS) * each).astype(np.int64)
    fifth_BD: NDArray[np.float16] = np.concatenate(parts)
    write_arrays(run.hand_count, {"fifth": fifth_BD, "hands": hands_B, "groups": groups_B})

"""Pictures of no sign, of one and of two, made of training signs: what guards learn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.console import progress
from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data.feature_cache import features_of_images
from sign_ensemble.data.hand_count_negatives import SIGNS, pictures_of_fold
from sign_ensemble.data.negatives import signs_of_fold
from sign_ensemble.learning.task import seed_of
from sign_ensemble.pipeline.preparation import Prepared, read_images
from sign_ensemble.rejection.hand_count import HandCountImages


def hand_count_images(prepared: Prepared) -> HandCountImages | None:
    """The pictures' features, made if they are missing; None if nobody asks for these guards."""
    config, run = prepared.config, prepared.run
    if not config.rejection.hand_count_images:
        return None
    arrays = read_arrays(run.hands)[0] if run.hands.exists() else {}
    if "signs" not in arrays:  # none made yet, or by a version that made no pictures without a sign
        write_hand_count_images(prepared, config.rejection.hand_count_images)
        arrays, _ = read_arrays(run.hands)
    return HandCountImages(arrays["deep"], arrays["signs"], arrays["groups"])


def write_hand_count_images(prepared: Prepared, each: int) -> None:
    """Make so many pictures of each of SIGNS from every fold, and write their features."""
    run, task = prepared.run, prepared.task
    data = prepared.config.data

    def made(fold: int) -> NDArray[np.float16]:
        seed = seed_of(task.seed, fold)
        chosen = signs_of_fold(task.folds_N, fold, seed).tolist()
        signs = read_images(prepared.rows, prepared.manifest.root, data, chosen)
        return features_of_images(pictures_of_fold(each, seed, signs), data.weights).fifth_ND

    parts: list[NDArray[np.float16]] = []
    with progress("pictures of no sign and two made") as step:
        for part in map_on_threads(task.folds, made):
            parts.append(part)
            step(len(parts), task.folds)
    fifth_ND: NDArray[np.float16] = np.concatenate(parts)
    signs = np.tile(np.repeat(SIGNS, each), task.folds)
    groups = np.repeat(np.arange(task.folds), len(SIGNS) * each)
    arrays = {"signs": signs.astype(np.int64), "groups": groups.astype(np.int64)}
    write_arrays(run.hands, {"deep": fifth_ND, **arrays})

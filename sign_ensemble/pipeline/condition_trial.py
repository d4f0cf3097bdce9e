"""Test signs and wrong gestures taken otherwise: how far the answers hold.

Some of the held-out images are shown once more under each condition that augmented copies have, one
at a time.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble import metrics
from sign_ensemble.core.console import progress
from sign_ensemble.data.hand_mask import hand_mask_of
from sign_ensemble.data.images import fit_square
from sign_ensemble.data.picture_conditions import CONDITIONS, copy_of
from sign_ensemble.hands.finder import find_hands
from sign_ensemble.hands.hand_crop import box_of
from sign_ensemble.pipeline.metrics_tree import Bootstrap
from sign_ensemble.rejection.predictor import Predictor

COPY = 1000  # number of the copy that is shown: far from those of training
PLAIN = "as taken"


def taken_under(
    condition: str, pictures_NHW3: NDArray[np.uint8], keys: Sequence[str], mirror: bool = False
) -> NDArray[np.uint8]:
    """The pictures taken under one condition, as large as they were; PLAIN leaves them."""
    if condition == PLAIN:
        return pictures_NHW3
    hands, made = find_hands(list(pictures_NHW3)), []
    side = pictures_NHW3.shape[1]
    for i, picture_HW3 in enumerate(pictures_NHW3):
        points_42 = hands.points_N42[i] if hands.found_N[i] else None
        box = (side / 2, side / 2, float(side)) if points_42 is None else box_of(points_42)
        mask_HW = hand_mask_of(picture_HW3, points_42)
        copy = copy_of(picture_HW3, box, mask_HW, keys[i], COPY, mirror, (condition,))
        made.append(fit_square(copy.picture_HW3, side, "pad"))
    return np.stack(made)


def condition_tree(
    predictor: Predictor,
    signs: tuple[NDArray[np.uint8], Sequence[str], NDArray[np.int64]],
    near: tuple[NDArray[np.uint8], Sequence[str]] | None,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """For each condition accuracy and coverage of the signs (pictures, keys, labels), and the share
    of wrong gestures (pictures, keys) answered, None without any.
    """
    found: dict[str, Any] = {}
    pictures_NHW3, keys, labels_N = signs
    with progress("conditions tried") as step:
        for condition in (PLAIN, *CONDITIONS):
            answers = predictor.answer(taken_under(condition, pictures_NHW3, keys))
            right_N, n = (answers.labels_N == labels_N).astype(int), len(labels_N)
            figure, accepted_N = bootstrap.figure, answers.accepted_N
            each = {
                "accuracy": figure(partial(metrics.coverage, right_N), n),
                "coverage": figure(partial(metrics.coverage, accepted_N), n),
                "selective_risk": figure(
                    partial(metrics.selective_risk, accepted_N, 1 - right_N), n
                ),
                "near": None,
            }
            if near is not None:
                of_near = predictor.answer(taken_under(condition, *near)).accepted_N
                each["near"] = figure(partial(metrics.coverage, of_near), len(of_near))
            found[condition] = each
            step(len(found), 1 + len(CONDITIONS))
    return found

"""Test signs and wrong gestures taken otherwise: how far the answers hold.

Some of the held-out images are shown once more under each condition that augmented copies have, one
at a time.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble import metrics
from sign_ensemble.core.console import progress
from sign_ensemble.data.hand_mask import hand_mask_of
from sign_ensemble.data.picture_conditions import CONDITIONS, copy_of
from sign_ensemble.data.square_pictures import fit_square
from sign_ensemble.hands.finder import find_hands
from sign_ensemble.hands.hand_crop import box_in
from sign_ensemble.pipeline.metrics_tree import Bootstrap
from sign_ensemble.rejection.predictor import Predictor

COPY = 1000  # number of the copy that is shown: far from those of training
PLAIN = "as taken"


@dataclass(frozen=True)
class Taken:
    """Pictures (N, H, W, 3) that can be taken otherwise, with their hands, found once."""

    pictures_NHW3: NDArray[np.uint8]
    keys: Sequence[str]  # sha256, which seed the copies
    points: Sequence[NDArray[np.float32] | None]  # the hand's points (42,); None without a hand
    masks: Sequence[NDArray[np.uint8] | None]  # see ``hand_mask_of``

    @classmethod
    def of(cls, pictures_NHW3: NDArray[np.uint8], keys: Sequence[str]) -> Taken:
        """Find the hands."""
        hands = find_hands(list(pictures_NHW3))
        pairs = zip(hands.points_N42, hands.found_N, strict=True)
        points = [points_42 if found else None for points_42, found in pairs]
        masks = [hand_mask_of(*each) for each in zip(pictures_NHW3, points, strict=True)]
        return cls(pictures_NHW3, keys, points, masks)

    def under(self, condition: str) -> NDArray[np.uint8]:
        """All of them under one condition, as large as they were; PLAIN leaves them."""
        if condition == PLAIN:
            return self.pictures_NHW3
        side, made = self.pictures_NHW3.shape[1], []
        every = zip(self.pictures_NHW3, self.points, self.masks, self.keys, strict=True)
        for picture_HW3, points_42, mask_HW, key in every:
            box = box_in(points_42, side)
            copy = copy_of(picture_HW3, box, mask_HW, key, COPY, conditions=(condition,))
            made.append(fit_square(copy.picture_HW3, side, "pad"))
        return np.stack(made)


def condition_tree(
    predictor: Predictor,
    signs: Taken,
    labels_N: NDArray[np.int64],
    near: Taken | None,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """For each condition accuracy and coverage of the signs, and the share of wrong gestures
    answered, None without any.
    """
    found: dict[str, Any] = {}
    with progress("conditions tried") as step:
        for condition in (PLAIN, *CONDITIONS):
            answers = predictor.answer(signs.under(condition))
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
                of_near = predictor.answer(near.under(condition)).accepted_N
                each["near"] = figure(partial(metrics.coverage, of_near), len(of_near))
            found[condition] = each
            step(len(found), 1 + len(CONDITIONS))
    return found

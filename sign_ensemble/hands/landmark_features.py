"""Features of a hand's 21 points: what landmark members and their Gaussians read.

Image points and world points, each less the wrist, divided by the mean distance of the four
knuckles from the wrist; and all pairwise distances of the world points, likewise divided. The
hand's turn is kept, since it is meaning (G and Q, P and K, H and U).

Letters: N images, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.hands.finder import Hands
from sign_ensemble.hands.hand_region import POINTS

KNUCKLES = (5, 9, 13, 17)
FEATURES = 2 * (POINTS - 1) + 3 * (POINTS - 1) + POINTS * (POINTS - 1) // 2
TINY = 1e-6
Floats = NDArray[np.float32]


def scaled(points_N21x: Floats) -> Floats:
    """Points (N, 21, 2 or 3) less the wrist, over the mean distance of the knuckles from it."""
    from_wrist = points_N21x - points_N21x[:, :1]
    size_N = np.linalg.norm(from_wrist[:, list(KNUCKLES)], axis=-1).mean(1)
    found: Floats = from_wrist / np.maximum(size_N, TINY)[:, None, None]
    return found


def landmark_features(hands: Hands, mirrored_N: NDArray[np.bool_]) -> NDArray[np.float16]:
    """Features (N, D) of hands, those of mirrored ones as of the other hand; zeros without one."""
    n = len(hands.count_N)
    side_N = np.where(mirrored_N, -1.0, 1.0).astype(np.float32)
    image = scaled(hands.points_N42.reshape(n, POINTS, 2))
    world = scaled(hands.world_N63.reshape(n, POINTS, 3))
    image[..., 0] *= side_N[:, None]
    world[..., 0] *= side_N[:, None]
    first, second = np.triu_indices(POINTS, 1)
    between = np.linalg.norm(world[:, first] - world[:, second], axis=-1)
    parts = [image[:, 1:].reshape(n, 2 * (POINTS - 1)), world[:, 1:].reshape(n, 3 * (POINTS - 1))]
    features_ND = np.clip(np.concatenate([*parts, between], 1), -100, 100).astype(np.float16)
    features_ND[~hands.found_N] = 0
    return features_ND

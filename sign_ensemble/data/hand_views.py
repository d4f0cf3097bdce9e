"""Pictures → what the networks see: the crop around the hand, its fingertips, its landmarks.

Training, calibration, evaluation and prediction all use this.

Letters: N images, H and W rows and columns, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.square_pictures import PictureSettings, Pixels, fit_square
from sign_ensemble.hands import hand_crop, hand_networks
from sign_ensemble.hands.finder import Hands, find_hands
from sign_ensemble.hands.hand_region import POINTS
from sign_ensemble.hands.landmark_features import landmark_features

Pictures = Sequence[Pixels] | Pixels  # a list of them, or one array (N, H, W, 3)
FINGERTIPS = (4, 8, 12, 16, 20)  # among the 21 points
HAND_VERSION = 2  # raise when hands, crops or their features change
LEFT_BELOW = 0.5  # probability of a right hand below which it is a left one


@dataclass(frozen=True)
class HandViews:
    """What is seen of N pictures."""

    crops_NHW3: NDArray[np.uint8]  # the network's input
    places_N52: NDArray[np.float32]  # the fingertips, x and y from -1 to 1 over the crop
    hands: Hands  # as in the picture
    mirrored_N: NDArray[np.bool_]  # whether crop and landmarks are mirrored

    @property
    def hand_ND(self) -> NDArray[np.float16]:
        """The features that come from the hand alone: of the landmarks, and the number of hands."""
        count_N1 = np.minimum(self.hands.count_N, 2).astype(np.float16)[:, None]
        return np.concatenate([landmark_features(self.hands, self.mirrored_N), count_N1], 1)


def hand_version() -> dict[str, Any]:
    """What a hand's crop and landmarks depend on besides the picture."""
    return {**hand_networks.version(), "margin": hand_crop.MARGIN, "version": HAND_VERSION}


def is_left(hands: Hands) -> NDArray[np.bool_]:
    """Whether there is a hand, and it is rather a left one."""
    return hands.found_N & (hands.right_N < LEFT_BELOW)


def views_of(
    pictures: Sequence[Pixels],
    data: PictureSettings,
    hands: Hands,
    mirrored_N: NDArray[np.bool_] | None = None,
) -> HandViews:
    """What is seen of pictures whose hands are known; ``mirrored_N`` says which are mirrored, by
    default left hands if data.handedness is normalise.
    """
    if mirrored_N is None:
        mirrored_N = is_left(hands) & (data.handedness == "normalise")
    crops_NHW3 = np.empty((len(pictures), data.size, data.size, 3), np.uint8)
    places_N52 = np.zeros((len(pictures), len(FINGERTIPS), 2), np.float32)
    for i, picture_HW3 in enumerate(pictures):
        if not hands.found_N[i]:
            seen_HW3 = fit_square(picture_HW3, data.size, "pad")
            crops_NHW3[i] = seen_HW3[:, ::-1] if mirrored_N[i] else seen_HW3
            continue
        points_42, mirrored = hands.points_N42[i], bool(mirrored_N[i])
        crops_NHW3[i] = hand_crop.hand_crop(picture_HW3, points_42, data.size, mirrored)
        x, y, size = hand_crop.box_of(points_42)
        tips = points_42.reshape(POINTS, 2)[list(FINGERTIPS)]
        places_N52[i] = (tips - [x, y]) * 2 / (size * (1 + 2 * hand_crop.MARGIN))
        places_N52[i, :, 0] *= -1 if mirrored else 1
    return HandViews(crops_NHW3, places_N52, hands, mirrored_N)


def look(pictures: Pictures, data: PictureSettings) -> HandViews:
    """Find the hands in pictures, and what is seen of them."""
    return views_of(list(pictures), data, find_hands(list(pictures), count=True))

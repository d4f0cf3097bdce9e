"""Pictures with no sign, with one, and with two beside each other: made of training signers' images
and random numbers alone, for the guards that refuse what shows no hand and what shows two.

Signs are made smaller and moved to either side, their borders' pixels repeated; two are joined with
a soft seam. Every picture with one sign was made smaller and moved alike: else a guard would learn
what a small hand, or a repeated border, looks like (tried: it refused three in four of them). Where
there is none, one was moved out of the picture: what is left of it are its ground, at most a rim of
the hand, and a forearm, which goes on where it reached the border.

Letters: N pictures, B images of signs, H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.opencv_module import opencv

Images = NDArray[np.uint8]
SIGNS = (1, 2, 0)  # how many the pictures of a fold show
SMALLER = (0.6, 0.85)  # of two signs in a picture: as far away as both need to be in it
UNLIKE = (0.9, 1.1)  # of one of them against the other
APART = (0.2, 0.28)  # of the side, of each from the middle
BESIDE = 0.05  # of the side, of each along either axis
TURN = 0.5  # radians, of the line through both; and for some
UPRIGHT = 0.15  # of the pictures one sign is above the other
SEAM = (0.01, 0.06)  # of the side, how soft
MIRRORED = 0.7  # of the pictures the second sign is as of the other hand
GONE = (0.55, 0.9)  # of the side, at its own size: how far away a sign is moved
SIZES, LEAST = (0.7, 1.2), 0.8  # of it; a smaller one is moved as far as one of LEAST
RISEN, LEANING = 0.5, 0.3  # share of these moved upwards, so that arms stay; radians, the spread
NEARER, OFF = (0.7, 1.0), 0.1  # of half the pictures with one sign: its size, and from the middle


def placed(image_HW3: Images, scale: float, right: float, down: float) -> Images:
    """A picture made smaller and moved, in shares of the side; beyond its border that repeats."""
    cv2, side = opencv(), len(image_HW3)
    moved_23 = np.array(
        [
            [scale, 0, side * (0.5 - scale / 2 + right)],
            [0, scale, side * (0.5 - scale / 2 + down)],
        ]
    )
    found: Images = cv2.warpAffine(
        image_HW3, moved_23, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return found


def both_sides(
    signs_BHW3: Images, rng: np.random.Generator
) -> tuple[tuple[Images, Images], NDArray[np.float64]]:
    """Two signs drawn, one on either side of its own picture, and what each pixel of a picture with
    both takes of the second, (H, W).
    """
    side = signs_BHW3.shape[1]
    turn = rng.uniform(-TURN, TURN) + (np.pi / 2 if rng.random() < UPRIGHT else 0.0)
    right, down = np.cos(turn), np.sin(turn)
    scale, apart = rng.uniform(*SMALLER), rng.uniform(*APART)

    def one(end: int, mirrored: bool) -> Images:
        sign_HW3 = signs_BHW3[rng.integers(len(signs_BHW3))]
        if mirrored:
            sign_HW3 = np.ascontiguousarray(sign_HW3[:, ::-1])
        x, y = end * apart * np.array([right, down]) + rng.uniform(-BESIDE, BESIDE, 2)
        return placed(sign_HW3, scale * rng.uniform(*UNLIKE), x, y)

    first, second = one(-1, False), one(1, bool(rng.random() < MIRRORED))
    middles_S = (np.arange(side) + 0.5) / side - 0.5
    along_HW = middles_S[None] * right + middles_S[:, None] * down
    share_HW = 1 / (1 + np.exp(-along_HW / rng.uniform(*SEAM)))
    return (first, second), share_HW


def two_signs(n: int, rng: np.random.Generator, signs_BHW3: Images) -> Images:
    """N pictures, each with two of the signs drawn, beside or above each other."""
    pictures = np.empty((n, *signs_BHW3.shape[1:]), np.uint8)
    for picture_HW3 in pictures:
        (first, second), share_HW = both_sides(signs_BHW3, rng)
        share_HW1 = share_HW[:, :, None]
        picture_HW3[:] = np.rint((1 - share_HW1) * first + share_HW1 * second)
    return pictures


def one_sign(n: int, rng: np.random.Generator, signs_BHW3: Images) -> Images:
    """N pictures, each with one of the signs: every second as far to a side as in a picture of two,
    the others nearer and near the middle.
    """
    pictures = np.empty((n, *signs_BHW3.shape[1:]), np.uint8)
    for number, picture_HW3 in enumerate(pictures):
        if number % 2:
            picture_HW3[:] = both_sides(signs_BHW3, rng)[0][rng.integers(2)]
            continue
        sign_HW3 = signs_BHW3[rng.integers(len(signs_BHW3))]
        picture_HW3[:] = placed(sign_HW3, rng.uniform(*NEARER), *rng.uniform(-OFF, OFF, 2))
    return pictures


def no_sign(n: int, rng: np.random.Generator, signs_BHW3: Images) -> Images:
    """N pictures from which one of the signs was moved away: half of them upwards, the others
    anywhere.
    """
    pictures = np.empty((n, *signs_BHW3.shape[1:]), np.uint8)
    for picture_HW3 in pictures:
        sign_HW3 = signs_BHW3[rng.integers(len(signs_BHW3))]
        upwards = rng.random() < RISEN
        turn = rng.normal(-np.pi / 2, LEANING) if upwards else rng.uniform(0, 2 * np.pi)
        scale = rng.uniform(*SIZES)
        far = rng.uniform(*GONE) * max(scale, LEAST)
        picture_HW3[:] = placed(sign_HW3, scale, far * np.cos(turn), far * np.sin(turn))
    return pictures


def pictures_of_fold(n: int, seed: int, signs_BHW3: Images) -> Images:
    """N pictures of a fold's signs for each of SIGNS.

    Args:
        n: How many of each.
        seed: Of this fold.
        signs_BHW3: uint8 images.
    """
    makers = (one_sign, two_signs, no_sign)
    draws = (np.random.default_rng([seed, number]) for number in range(len(makers)))
    each = [make(n, rng, signs_BHW3) for make, rng in zip(makers, draws, strict=True)]
    return np.concatenate(each)

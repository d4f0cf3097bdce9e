"""Made pictures of no hand, of one and of two, which the hand-count detector is fitted on.

They consist of training signers' images and random numbers alone. A sign is made smaller and moved,
its border pixels repeated; two signs are joined with a soft seam. Pictures of one sign are treated
alike, lest the detector learn the size of a hand or a repeated border. A picture without a hand has
its sign moved out: what stays is background, at most a rim of the hand, and a forearm that reached
the border.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.opencv_module import opencv

Images = NDArray[np.uint8]
SIGNS_PER_FOLD = 200  # signs of each fold that pictures are made from
SIGNS = (1, 2, 0)  # signs in the pictures of a fold, in this order

# Two signs. Shares are of the side.
PAIR_SCALE = (0.6, 0.85)  # size of both signs
PAIR_RATIO = (0.9, 1.1)  # size of either against PAIR_SCALE
PAIR_OFFSET = (0.2, 0.28)  # share: distance of each from the middle
PAIR_JITTER = 0.05  # share: shift of each along either axis
PAIR_TURN = 0.5  # radians: tilt of the line through both
STACKED = 0.15  # probability that one sign is above the other
SEAM = (0.01, 0.06)  # share: softness of the seam
MIRRORED = 0.7  # probability that the second sign is mirrored, as of the other hand

# No sign: moved out of the picture.
GONE = (0.55, 0.9)  # share: how far, at its own size
GONE_SCALE = (0.7, 1.2)  # its size
GONE_LEAST = 0.8  # size below which the distance shrinks no more
UPWARDS, LEANING = 0.5, 0.3  # probability of moving up, so that an arm stays; spread in radians

# One sign, near the middle.
SINGLE_SCALE, SINGLE_JITTER = (0.7, 1.0), 0.1  # size; share: shift along either axis


def signs_of_fold(folds_N: NDArray[np.int64], fold: int, seed: int) -> NDArray[np.int64]:
    """At most SIGNS_PER_FOLD of a fold's images, drawn, sorted."""
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(folds_N == fold))
    return np.sort(drawn[:SIGNS_PER_FOLD])


def placed(image_HW3: Images, scale: float, right: float, down: float) -> Images:
    """The image scaled about its middle and moved by shares of its side, its border repeated."""
    cv2, side = opencv(), len(image_HW3)
    x, y = (side * (0.5 - scale / 2 + shift) for shift in (right, down))
    affine_23 = np.array([[scale, 0, x], [0, scale, y]])
    return cv2.warpAffine(
        image_HW3, affine_23, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def both_sides(
    signs_NHW3: Images, rng: np.random.Generator
) -> tuple[tuple[Images, Images], NDArray[np.float64]]:
    """Two signs drawn, each moved to its side of a picture of its own, and the second sign's share
    of each pixel (H, W) in a picture of both.
    """
    side = signs_NHW3.shape[1]
    turn = rng.uniform(-PAIR_TURN, PAIR_TURN) + (np.pi / 2 if rng.random() < STACKED else 0.0)
    right, down = np.cos(turn), np.sin(turn)
    scale, offset = rng.uniform(*PAIR_SCALE), rng.uniform(*PAIR_OFFSET)

    def one(end: int, mirrored: bool) -> Images:
        sign_HW3 = signs_NHW3[rng.integers(len(signs_NHW3))]
        if mirrored:
            sign_HW3 = np.ascontiguousarray(sign_HW3[:, ::-1])
        jitter = rng.uniform(-PAIR_JITTER, PAIR_JITTER, 2)
        x, y = end * offset * np.array([right, down]) + jitter
        return placed(sign_HW3, scale * rng.uniform(*PAIR_RATIO), x, y)

    first, second = one(-1, False), one(1, bool(rng.random() < MIRRORED))
    centres = (np.arange(side) + 0.5) / side - 0.5
    along_HW = centres[None] * right + centres[:, None] * down
    share_HW = 1 / (1 + np.exp(-along_HW / rng.uniform(*SEAM)))
    return (first, second), share_HW


def two_signs(n: int, rng: np.random.Generator, signs_NHW3: Images) -> Images:
    """Pictures of two signs side by side or one above the other, (n, H, W, 3)."""
    pictures = np.empty((n, *signs_NHW3.shape[1:]), np.uint8)
    for picture_HW3 in pictures:
        (first, second), share_HW = both_sides(signs_NHW3, rng)
        share_HW1 = share_HW[:, :, None]
        picture_HW3[:] = np.rint((1 - share_HW1) * first + share_HW1 * second)
    return pictures


def one_sign(n: int, rng: np.random.Generator, signs_NHW3: Images) -> Images:
    """Pictures of one sign, (n, H, W, 3): every second placed as in a picture of two, the others
    larger and near the middle.
    """
    pictures = np.empty((n, *signs_NHW3.shape[1:]), np.uint8)
    for number, picture_HW3 in enumerate(pictures):
        if number % 2:
            picture_HW3[:] = both_sides(signs_NHW3, rng)[0][rng.integers(2)]
            continue
        sign_HW3 = signs_NHW3[rng.integers(len(signs_NHW3))]
        scale = rng.uniform(*SINGLE_SCALE)
        shift = rng.uniform(-SINGLE_JITTER, SINGLE_JITTER, 2)
        picture_HW3[:] = placed(sign_HW3, scale, *shift)
    return pictures


def no_sign(n: int, rng: np.random.Generator, signs_NHW3: Images) -> Images:
    """Pictures out of which a sign was moved, upwards or in any direction, (n, H, W, 3)."""
    pictures = np.empty((n, *signs_NHW3.shape[1:]), np.uint8)
    for picture_HW3 in pictures:
        sign_HW3 = signs_NHW3[rng.integers(len(signs_NHW3))]
        upwards = rng.random() < UPWARDS
        turn = rng.normal(-np.pi / 2, LEANING) if upwards else rng.uniform(0, 2 * np.pi)
        scale = rng.uniform(*GONE_SCALE)
        far = rng.uniform(*GONE) * max(scale, GONE_LEAST)
        picture_HW3[:] = placed(sign_HW3, scale, far * np.cos(turn), far * np.sin(turn))
    return pictures


def pictures_of_fold(n: int, seed: int, signs_NHW3: Images) -> Images:
    """Pictures made of a fold's signs, n of each of SIGNS, uint8 (3 n, H, W, 3)."""
    makers = (one_sign, two_signs, no_sign)
    draws = (np.random.default_rng([seed, number]) for number in range(len(makers)))
    each = [make(n, rng, signs_NHW3) for make, rng in zip(makers, draws, strict=True)]
    return np.concatenate(each)

"""Self-made negatives: images that hold no sign, for choosing the rejection rule.

They are made of training signers' images and random numbers alone, and none is of the kind of a
test set in ``strange.py``, so that what the rule was chosen on says nothing about those.

Letters: N images, H and W rows and columns, G cells along a side of a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sign_ensemble.core.opencv_module import opencv

Images = NDArray[np.uint8]
Labels = NDArray[np.str_] | NDArray[np.integer]
Negatives = Callable[[int, np.random.Generator, Images, Labels], Images]

FROM_BORDER = 40  # levels; a pixel differing more from the border's median colour may be hand
SWAP_SHARE = (0.25, 0.40)  # of the hand's box: the fingers, without the palm that they belong to
PER_FOLD = 200  # signs of each fold that negatives are made from: enough for all label pairs met
POLYGONS = 12  # at most; more make patches too small to be seen as polygons
MOST_FLAT = 0.8  # of a picture in one colour, and
LEAST_SD = 20.0  # levels: a plainer picture would be of the kind of the test set "blank"


def negatives_of_fold(
    folds_N: NDArray[np.int64],
    labels_N: NDArray[np.int64],
    fold: int,
    most: int,
    seed: int,
    read: Callable[[NDArray[np.int64]], Images],
) -> dict[str, Images]:
    """Negatives made from PER_FOLD of a fold's images, drawn, by kind; none if these have but one
    label.

    Args:
        folds_N: Fold of each image.
        labels_N: Its label.
        fold: The fold.
        most: Negatives of each kind.
        seed: Of this fold.
        read: Images (B, H, W, 3) of the rows given.
    """
    chosen = signs_of_fold(folds_N, fold, seed)
    signs, labels = read(chosen), labels_N[chosen]
    return negative_images(most, seed, signs, labels) if len(np.unique(labels)) > 1 else {}


def signs_of_fold(folds_N: NDArray[np.int64], fold: int, seed: int) -> NDArray[np.int64]:
    """At most PER_FOLD of a fold's rows, drawn, sorted."""
    drawn: NDArray[np.int64] = np.random.default_rng(seed).permutation(
        np.flatnonzero(folds_N == fold)
    )
    return np.sort(drawn[:PER_FOLD])


def pairs(n: int, rng: np.random.Generator, labels_N: Labels) -> Iterator[tuple[int, int]]:
    """Draw n pairs of rows whose labels differ; each row comes first once before any comes again.

    Raises:
        ValueError: there is only one label.
    """
    if len(np.unique(labels_N)) < 2:
        raise ValueError("one label only: this kind of negative joins signs of two")
    order = rng.permutation(len(labels_N))
    for i in range(n):
        first = int(order[i % len(order)])
        yield first, int(rng.choice(np.flatnonzero(labels_N != labels_N[first])))


def hand_box(image_HW3: Images) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right) between which the hand lies, roughly.

    The hand is what differs from the border's median colour; its outermost 2 % are left out, and
    where nothing differs the box is the whole image.
    """
    border = np.concatenate(
        [image_HW3[[0, -1]].reshape(-1, 3), image_HW3[:, [0, -1]].reshape(-1, 3)]
    )
    middle_3 = np.median(border, 0)
    low, high = np.ceil(middle_3 - FROM_BORDER), np.floor(middle_3 + FROM_BORDER)
    ground_HW = opencv().inRange(image_HW3, low.clip(0, 255), high.clip(0, 255)) > 0
    side = len(image_HW3)
    if ground_HW.size - ground_HW.sum() < side:  # less than one pixel per row: specks, no hand
        return 0, side, 0, side
    (top, bottom), (left, right) = (extent(side - ground_HW.sum(axis)) for axis in (1, 0))
    return top, bottom, left, right


def extent(counts_S: NDArray[np.int64]) -> tuple[int, int]:
    """Between which places all but 2 % at either end of so many pixels lie, the second not among
    them.
    """
    first, last = np.quantile(np.repeat(np.arange(len(counts_S)), counts_S), (0.02, 0.98))
    return int(first), int(last) + 1


def halves(n: int, rng: np.random.Generator, signs_NHW3: Images, labels_N: Labels) -> Images:
    """One side of a sign joined to the other side of a sign with another label.

    The cut is upright, level or along a diagonal, through the middle of the first one's hand.
    """
    images = np.empty((n, *signs_NHW3.shape[1:]), np.uint8)
    y, x = np.indices(signs_NHW3.shape[1:3])
    for i, (first, second) in enumerate(pairs(n, rng, labels_N)):
        top, bottom, left, right = hand_box(signs_NHW3[first])
        down, along = y - (top + bottom - 1) / 2, x - (left + right - 1) / 2
        cut = (along, down, along - down, along + down)[rng.integers(4)]
        beyond = np.asarray(cut > 0 if rng.random() < 0.5 else cut < 0)
        images[i] = np.where(beyond[:, :, None], signs_NHW3[second], signs_NHW3[first])
    return images


def blends(n: int, rng: np.random.Generator, signs_NHW3: Images, labels_N: Labels) -> Images:
    """Two signs with different labels seen through each other, 40 to 60 % of each."""
    images = np.empty((n, *signs_NHW3.shape[1:]), np.uint8)
    for i, (first, second) in enumerate(pairs(n, rng, labels_N)):
        share = rng.uniform(0.4, 0.6)
        images[i] = np.rint(share * signs_NHW3[first] + (1 - share) * signs_NHW3[second])
    return images


def shuffled(n: int, rng: np.random.Generator, signs_NHW3: Images, labels_N: Labels) -> Images:
    """A sign cut into 3 x 3 to 6 x 6 patches that change places.

    Where the side is no multiple of the cells, the right and lower rest stays as it is.
    """
    order = rng.permutation(len(signs_NHW3))
    images = signs_NHW3[order[np.arange(n) % len(order)]]
    for image_HW3 in images:
        across = int(rng.integers(3, 7))
        p = len(image_HW3) // across
        inner = image_HW3[: across * p, : across * p]
        patches = inner.reshape(across, p, across, p, 3).transpose(0, 2, 1, 3, 4)
        mixed = rng.permutation(patches.reshape(across * across, p, p, 3)).reshape(patches.shape)
        inner[:] = mixed.transpose(0, 2, 1, 3, 4).reshape(inner.shape)
    return images


def swaps(n: int, rng: np.random.Generator, signs_NHW3: Images, labels_N: Labels) -> Images:
    """A sign with the region around its fingers replaced by that of another label.

    The region is a rectangle of 25 to 40 % of the hand's box, as wide as the box or less, at its
    top; what replaces it is a rectangle of the same size at the top of the other hand's box.
    """
    side = signs_NHW3.shape[1]
    images = np.empty((n, *signs_NHW3.shape[1:]), np.uint8)
    for i, (first, second) in enumerate(pairs(n, rng, labels_N)):
        top, bottom, left, right = hand_box(signs_NHW3[first])
        other_top, _, other_left, other_right = hand_box(signs_NHW3[second])
        wide = rng.uniform(0.7, 1.0)
        height = round((bottom - top) * rng.uniform(*SWAP_SHARE) / wide)
        width = round((right - left) * wide)
        x = left + int(rng.integers(0, right - left - width + 1))
        # the same place relative to the other hand's middle, kept inside the picture
        other_x = min(max(x + (other_left + other_right - left - right) // 2, 0), side - width)
        other_y = min(other_top, side - height)
        images[i] = signs_NHW3[first]
        images[i, top : top + height, x : x + width] = signs_NHW3[
            second, other_y : other_y + height, other_x : other_x + width
        ]
    return images


def phases(n: int, rng: np.random.Generator, signs_NHW3: Images, labels_N: Labels) -> Images:
    """A sign whose Fourier phases are turned by random angles, so that only its spectrum is left.

    The three channels are turned alike, which keeps how they go together (the colour of skin), and
    the mean stays. Amplitudes stay too, but for rounding and clipping to 0..255.
    """
    side = signs_NHW3.shape[1]
    order = rng.permutation(len(signs_NHW3))
    images = np.empty((n, *signs_NHW3.shape[1:]), np.uint8)
    for i in range(n):
        # The phases of real white noise are uniform and have the symmetry that keeps images real.
        turn = np.fft.rfft2(rng.normal(size=(side, side)))
        turn /= np.abs(turn)
        turn[0, 0] = 1
        spectrum = np.fft.rfft2(signs_NHW3[order[i % len(order)]], axes=(0, 1))
        values = np.fft.irfft2(spectrum * turn[:, :, None], (side, side), axes=(0, 1))
        images[i] = np.clip(np.rint(values), 0, 255)
    return images


def polygons(n: int, rng: np.random.Generator, signs_NHW3: Images, labels_N: Labels) -> Images:
    """One large to twelve small flat polygons on a flat ground, colours and corners at random.

    Pictures that are almost of one colour are drawn again.
    """
    side = signs_NHW3.shape[1]
    images = np.empty((n, side, side, 3), np.uint8)
    for i in range(n):
        flat = 1.0
        while flat > MOST_FLAT or images[i].std((0, 1)).max() < LEAST_SD:
            which_HW = polygon_map(side, rng)
            flat = np.bincount(which_HW.ravel()).max() / which_HW.size
            images[i] = rng.integers(0, 256, (1 + POLYGONS, 3), dtype=np.uint8)[which_HW]
    return images


def polygon_map(side: int, rng: np.random.Generator) -> Images:
    """Which polygon each pixel shows, (side, side): 1 to POLYGONS, or 0 for the ground."""
    count = round(float(np.exp(rng.uniform(0, np.log(POLYGONS)))))
    canvas = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(canvas)
    for k in range(count):
        corners = int(rng.integers(3, 8))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = rng.uniform(0.25, 0.7, corners) / np.sqrt(count) + 0.05
        x, y = rng.uniform(0.2, 0.8, 2)
        xs, ys = x + radii * np.cos(angles), y + radii * np.sin(angles)
        outline = [(float(a), float(b)) for a, b in zip(side * xs, side * ys, strict=True)]
        draw.polygon(outline, fill=k + 1)
    return np.asarray(canvas)


NEGATIVES: dict[str, Negatives] = {
    "halves": halves,
    "blends": blends,
    "shuffled": shuffled,
    "swaps": swaps,
    "phases": phases,
    "polygons": polygons,
}


NO_HAND = ("shuffled", "phases", "polygons")  # of them; the others are joined from two hands


def negative_images(n: int, seed: int, signs_NHW3: Images, labels_N: Labels) -> dict[str, Images]:
    """Make n negatives of each kind.

    Args:
        n: How many of each; fewer are the start of more, the same signs given.
        seed: With the kind's name, decides every draw.
        signs_NHW3: uint8 sign images of training signers.
        labels_N: Their labels, at least two different ones.

    Returns:
        Kind to uint8 images (n, H, W, 3).

    Raises:
        ValueError: there is only one label.
    """
    images = {}
    for name, make in NEGATIVES.items():
        rng = np.random.default_rng(list(f"{seed}:{name}".encode()))
        images[name] = make(n, rng, signs_NHW3, labels_N)
    return images

"""Backgrounds for augmented copies: colours, gradients, textures, heaps of discs, photographs.

They are not those of any test: the evaluation's photographs and textures are others.

Source of the discs: the dead-leaves model, whose pictures have the edges and contrasts of
photographs; Lee, Mumford and Huang 2001, "Occlusion Models for Natural Images".

Letters: H and W rows and columns.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sign_ensemble.core.opencv_module import opencv

Pixels = NDArray[np.uint8]
PHOTOGRAPHS = ("china.jpg", "flower.jpg")  # in scikit-learn's wheel
CELLS = (4, 8, 16, 40, 80)  # cells along the side of a texture's layers
DISCS = 120  # of a heap
RADII = (0.03, 0.35)  # share of the side; log-uniform
LEAST_CROP = 0.3  # share of a photograph's shorter side


def plain(side: int, rng: np.random.Generator) -> Pixels:
    """One colour: as often grey, from black to white, as any."""
    level = rng.integers(0, 256, 1 if rng.random() < 0.5 else 3)
    return np.broadcast_to(level.astype(np.uint8), (side, side, 3)).copy()


def gradient(side: int, rng: np.random.Generator) -> Pixels:
    """Colours that change smoothly: a grid of 2 × 2 or 3 × 3, enlarged."""
    across = int(rng.integers(2, 4))
    cells = rng.integers(0, 256, (across, across, 3)).astype(np.uint8)
    return opencv().resize(cells, (side, side), interpolation=opencv().INTER_CUBIC)


def texture(side: int, rng: np.random.Generator) -> Pixels:
    """Random cells of several sizes over each other, of one colour's shades or of any."""
    cv2, channels = opencv(), 1 if rng.random() < 0.6 else 3
    levels_HW3 = np.zeros((side, side, 3), np.float32)
    for cells in CELLS:
        high, wide = (max(1, round(cells * stretch)) for stretch in rng.uniform(0.3, 1.5, 2))
        layer = rng.normal(0, 1, (high, wide, channels)).astype(np.float32)
        layer = cv2.resize(layer, (side, side), interpolation=cv2.INTER_LINEAR)
        levels_HW3 += layer.reshape(side, side, channels) * np.float32(rng.uniform(0, 35))
    levels_HW3 += rng.uniform(30, 225, 3).astype(np.float32)
    return np.clip(levels_HW3, 0, 255).astype(np.uint8)


def discs(side: int, rng: np.random.Generator) -> Pixels:
    """A heap of discs of any colours, the small ones as many as the large ones are few."""
    cv2, picture = opencv(), plain(side, rng)
    centres = rng.uniform(-0.1, 1.1, (DISCS, 2)) * side
    low, high = np.log(RADII)
    radii = np.exp(rng.uniform(low, high, DISCS)) * side
    tint, colours = rng.uniform(0, 255, 3), rng.uniform(0, 255, (DISCS, 3))
    likeness = rng.uniform(0, 0.8)  # how alike the colours of the heap are
    for centre, radius, colour in zip(centres, radii, colours, strict=True):
        shade = likeness * tint + (1 - likeness) * colour
        at = (int(centre[0]), int(centre[1]))
        cv2.circle(picture, at, max(1, int(radius)), shade.tolist(), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 3)))


@lru_cache(maxsize=len(PHOTOGRAPHS))
def photograph_of(name: str) -> Pixels:
    """A photograph of scikit-learn's wheel, (H, W, 3)."""
    found = files("sklearn.datasets").joinpath("images", name)
    with found.open("rb") as opened, Image.open(opened) as image:
        return np.asarray(image.convert("RGB"))


def photograph(side: int, rng: np.random.Generator) -> Pixels:
    """A square crop of a photograph, perhaps mirrored."""
    cv2, pixels = opencv(), photograph_of(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
    height, width = pixels.shape[:2]
    edge = int(rng.uniform(LEAST_CROP, 1) * min(height, width))
    top, left = int(rng.integers(0, height - edge + 1)), int(rng.integers(0, width - edge + 1))
    crop = pixels[top : top + edge, left : left + edge]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    how = cv2.INTER_AREA if edge > side else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(crop), (side, side), interpolation=how)


MAKERS = (plain, plain, gradient, texture, discs, discs, photograph)  # as often as they stand here


def background(side: int, rng: np.random.Generator) -> Pixels:
    """A background (side, side, 3) of a kind that is drawn."""
    return MAKERS[rng.integers(len(MAKERS))](side, rng)

"""Removal of the hand from an image.

The background is known best at the image's border, where a hand covers least. It may be black and
clean (segmented images) or pale and unevenly lit (photographs), so it is followed inwards block by
block while it changes slowly. The hand is what differs from the surface through these blocks.

Letters: H and W rows and columns, E blocks along an edge, X pixels along a block's edge.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import factorized

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

BLOCKS = 28  # along a side: small enough to see between fingers, large enough for a median
CLEAR = 8.0  # levels; JPEG's artefacts are smaller
NOISES = 5.0  # standard deviations; a larger difference is no noise
STEP = 10.0  # most levels between neighbouring blocks of an unevenly lit background
SPREAD = 40.0  # most levels between border blocks of an unevenly lit background
MARGIN = 1.5  # blocks around the hand removed with it: soft edges, bright rims of sharpening
TINT = 12.0  # most levels by which light changes a channel's distance from grey
PLAIN = 0.9  # least share of a block's pixels that equal its median but for noise
BORDER_SHARE = 0.4  # least share of the border in one colour; a hand covers up to half of it


def tiles(image_HW3: Array) -> Array:
    """View of the image as blocks (E, E, X, X, 3); the side is a multiple of BLOCKS."""
    size = len(image_HW3) // BLOCKS
    return image_HW3.reshape(BLOCKS, size, BLOCKS, size, 3).transpose(0, 2, 1, 3, 4)


@lru_cache(maxsize=1)
def neighbours() -> sparse.csr_array:
    """Graph Laplacian of the grid of blocks, (E E, E E): degree minus adjacency."""
    path = sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(BLOCKS, BLOCKS))
    one = sparse.eye_array(BLOCKS)
    adjacent = sparse.kron(path, one) + sparse.kron(one, path)
    return sparse.csr_array(sparse.diags_array(adjacent.sum(1)) - adjacent)


def surface(colours_EE3: Array, known_EE: Mask, side: int) -> Array:
    """Smooth surface (side, side, 3) through the known blocks: every other block is the mean of its
    neighbours, so no colour lies beyond those given.
    """
    known = known_EE.ravel()
    cells = colours_EE3.reshape(-1, 3).copy()
    if not known.all():
        rows = neighbours()[~known]
        solve = factorized(sparse.csc_array(rows[:, ~known]))
        pull = -(rows[:, known] @ cells[known])
        cells[~known] = np.stack([solve(pull[:, c]) for c in range(3)], 1)
    # Linear between block centres, first down the columns, then along the rows.
    places = np.clip((np.arange(side) + 0.5) * BLOCKS / side - 0.5, 0, BLOCKS - 1)
    above = np.minimum(places.astype(int), BLOCKS - 2)
    share = (places - above)[:, None, None]
    down = cells.reshape(BLOCKS, BLOCKS, 3)
    down = (down[above] * (1 - share) + down[above + 1] * share).transpose(1, 0, 2)
    both = down[above] * (1 - share) + down[above + 1] * share
    return np.ascontiguousarray(both.transpose(1, 0, 2))


def border_background(colours_EE3: Array) -> tuple[Mask, Mask]:
    """Masks of the border's blocks and of those within SPREAD of its most common colour."""
    border_EE = np.ones((BLOCKS, BLOCKS), bool)
    border_EE[1:-1, 1:-1] = False
    colours = colours_EE3[border_EE]
    near = np.abs(colours[:, None] - colours).max(-1) < SPREAD
    same_EE = np.zeros_like(border_EE)
    same_EE[border_EE] = near[near.sum(1).argmax()]
    return border_EE, same_EE


def grown(known_EE: Mask, colours_EE3: Array, plain_EE: Mask) -> Mask:
    """Known blocks, and plain blocks reached from them by steps of at most STEP levels."""
    down_EE = np.abs(np.diff(colours_EE3, axis=0)).max(-1) <= STEP
    along_EE = np.abs(np.diff(colours_EE3, axis=1)).max(-1) <= STEP
    while True:
        more_EE = known_EE.copy()
        more_EE[1:] |= known_EE[:-1] & down_EE
        more_EE[:-1] |= known_EE[1:] & down_EE
        more_EE[:, 1:] |= known_EE[:, :-1] & along_EE
        more_EE[:, :-1] |= known_EE[:, 1:] & along_EE
        more_EE &= plain_EE | known_EE
        if (more_EE == known_EE).all():
            return known_EE
        known_EE = more_EE


def noise_like(residuals: Array, rng: np.random.Generator) -> Array:
    """Noise for the whole image (H, W, 3): blocks drawn from residuals, each of mean 0.

    Residuals (blocks, X, X, 3) are background minus its surface. Only the half with the least
    deviation is used: folds and shadows in the others would show as a pattern.
    """
    noise = residuals - residuals.mean((1, 2), keepdims=True)
    order = noise.std((1, 2, 3)).argsort(kind="stable")
    chosen = rng.integers(0, -(-len(order) // 2), (BLOCKS, BLOCKS))
    drawn_EEXX3 = noise[order[chosen]]
    side = BLOCKS * drawn_EEXX3.shape[2]
    return drawn_EEXX3.transpose(0, 2, 1, 3, 4).reshape(side, side, 3)


def hand_mask(image_HW3: Array, background_HW3: Array, limit: float) -> Mask:
    """Pixels more than ``limit`` levels from the background, what they enclose, and a margin."""
    size = len(image_HW3) // BLOCKS
    hand = np.abs(image_HW3 - background_HW3).max(-1) > limit
    hand = ndimage.binary_fill_holes(ndimage.binary_closing(hand, iterations=max(1, size // 2)))
    return np.asarray(ndimage.binary_dilation(hand, iterations=round(MARGIN * size)), bool)


def without_hand(image_HW3: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image, uint8 (H, W, 3), with its hand replaced by background: the surface through clear
    blocks plus noise taken from them.

    Where less than BORDER_SHARE of the border is one plain colour, or the hand leaves no block
    clear, the background is unknown: the whole image becomes a surface through its border's blocks.
    """
    original = len(image_HW3)
    size = -(-original // BLOCKS)
    side = size * BLOCKS
    padding = (0, side - original)
    image = np.pad(image_HW3, (padding, padding, (0, 0)), "edge").astype(float)
    colours_EE3 = np.median(tiles(image), (2, 3))
    border_EE, same_EE = border_background(colours_EE3)
    deviation_EEXX = np.abs(tiles(image) - colours_EE3[:, :, None, None]).max(-1)
    limit = max(CLEAR, NOISES * 1.4826 * float(np.median(deviation_EEXX[same_EE])))
    tint_EE3 = colours_EE3 - colours_EE3.mean(-1, keepdims=True)
    tinted_EE = np.abs(tint_EE3 - np.median(tint_EE3[same_EE], 0)).max(-1) > TINT
    plain_EE = ((deviation_EEXX < limit).mean((2, 3)) > PLAIN) & ~tinted_EE
    clear_EE = np.zeros_like(same_EE)
    if (same_EE & plain_EE).sum() >= BORDER_SHARE * border_EE.sum():
        known_EE = grown(same_EE & plain_EE, colours_EE3, plain_EE)
        hand = hand_mask(image, surface(colours_EE3, known_EE, side), limit)
        clear_EE = np.logical_not(hand.reshape(BLOCKS, size, BLOCKS, size).any((1, 3)))
    if not clear_EE.any():
        filled = surface(colours_EE3, border_EE, side)
    else:
        background = surface(colours_EE3, clear_EE, side)
        noise = noise_like(tiles(image - background)[clear_EE], rng)
        # Three standard deviations of this blur fit into the margin: no hand shines through.
        cover = ndimage.gaussian_filter(hand.astype(float), MARGIN * size / 3)[:, :, None]
        filled = cover * (background + noise) + (1 - cover) * image
    return np.clip(np.rint(filled[:original, :original]), 0, 255).astype(np.uint8)

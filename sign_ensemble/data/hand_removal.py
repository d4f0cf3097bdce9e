"""What an image would show without its hand.

The background is known best at the image's border, where a hand covers least. It may be black and
clean (segmented images) or pale and unevenly lit (photographs), so it is followed inwards block by
block as long as it changes slowly; the hand is whatever leaves the surface through those blocks.

Letters: H and W rows and columns, B blocks along a side, C chosen blocks, p pixels along a block's side.
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
CLEAR = 8.0  # levels; a smaller difference cannot be told from JPEG's traces
NOISES = 5.0  # noise deviations; a larger difference is no noise
STEP = 10.0  # levels between neighbouring blocks of one background, lit unevenly
SPREAD = 40.0  # levels that the border of one background differs by, lit unevenly
MARGIN = 1.5  # blocks around the hand that go with it: soft edges, bright rims of sharpening
TINT = 12.0  # levels that a channel's distance from grey may change by: light changes it less
PLAIN = 0.9  # share of a block's pixels that are its median but for noise: no edge crosses it
TOLD = 0.4  # share of the border that has to be one background: a hand covers up to half of it


def tiles(image_HW3: Array) -> Array:
    """A view of the image as blocks (B, B, p, p, 3); the side is a multiple of BLOCKS."""
    p = len(image_HW3) // BLOCKS
    return image_HW3.reshape(BLOCKS, p, BLOCKS, p, 3).transpose(0, 2, 1, 3, 4)


def untiled(tiles_BBpp3: Array) -> Array:
    """Blocks back to an image (H, W, 3)."""
    side = BLOCKS * tiles_BBpp3.shape[2]
    return tiles_BBpp3.transpose(0, 2, 1, 3, 4).reshape(side, side, 3)


@lru_cache(maxsize=1)
def neighbours() -> sparse.csr_array:
    """The graph Laplacian of the block grid, (B * B, B * B): degree minus adjacency."""
    path = sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(BLOCKS, BLOCKS))
    one = sparse.eye_array(BLOCKS)
    adjacent = sparse.kron(path, one) + sparse.kron(one, path)
    return sparse.csr_array(sparse.diags_array(adjacent.sum(1)) - adjacent)


def surface(colours_BB3: Array, known_BB: Mask, side: int) -> Array:
    """The membrane through the known blocks: every other block is the mean of its neighbours.

    Returns:
        (side, side, 3), never beyond the colours given.
    """
    known = known_BB.ravel()
    cells = colours_BB3.reshape(-1, 3).copy()
    if not known.all():
        rows = neighbours()[~known]
        solve = factorized(sparse.csc_array(rows[:, ~known]))
        pull = -(rows[:, known] @ cells[known])
        cells[~known] = np.stack([solve(pull[:, c]) for c in range(3)], 1)
    # Between block centres linearly, first down the columns, then along the rows.
    places = np.clip((np.arange(side) + 0.5) * BLOCKS / side - 0.5, 0, BLOCKS - 1)
    above = np.minimum(places.astype(int), BLOCKS - 2)
    share = (places - above)[:, None, None]
    down = cells.reshape(BLOCKS, BLOCKS, 3)
    down = (down[above] * (1 - share) + down[above + 1] * share).transpose(1, 0, 2)
    both = down[above] * (1 - share) + down[above + 1] * share
    return np.ascontiguousarray(both.transpose(1, 0, 2))


def border_background(colours_BB3: Array) -> tuple[Mask, Mask]:
    """The border's blocks, and those of them that share its most common colour within SPREAD."""
    border_BB = np.ones((BLOCKS, BLOCKS), bool)
    border_BB[1:-1, 1:-1] = False
    colours_C3 = colours_BB3[border_BB]
    near_CC = np.abs(colours_C3[:, None] - colours_C3).max(-1) < SPREAD
    same_BB = np.zeros_like(border_BB)
    same_BB[border_BB] = near_CC[near_CC.sum(1).argmax()]
    return border_BB, same_BB


def grown(known_BB: Mask, colours_BB3: Array, plain_BB: Mask) -> Mask:
    """Known blocks and every plain block that is reached from them in steps of at most STEP."""
    down_BB = np.abs(np.diff(colours_BB3, axis=0)).max(-1) <= STEP
    along_BB = np.abs(np.diff(colours_BB3, axis=1)).max(-1) <= STEP
    while True:
        more_BB = known_BB.copy()
        more_BB[1:] |= known_BB[:-1] & down_BB
        more_BB[:-1] |= known_BB[1:] & down_BB
        more_BB[:, 1:] |= known_BB[:, :-1] & along_BB
        more_BB[:, :-1] |= known_BB[:, 1:] & along_BB
        more_BB &= plain_BB | known_BB
        if (more_BB == known_BB).all():
            return known_BB
        known_BB = more_BB


def noise_like(left_Cpp3: Array, rng: np.random.Generator) -> Array:
    """Noise for the whole image: the plainer half of the blocks' deviations, laid at random.

    The plainer half, because folds and shadows in the others would be seen as a pattern.

    Returns:
        (H, W, 3), each block with mean 0.
    """
    noise_Cpp3 = left_Cpp3 - left_Cpp3.mean((1, 2), keepdims=True)
    order = noise_Cpp3.std((1, 2, 3)).argsort(kind="stable")
    chosen = rng.integers(0, -(-len(order) // 2), (BLOCKS, BLOCKS))
    return untiled(noise_Cpp3[order[chosen]])


def hand_mask(image_HW3: Array, ground_HW3: Array, limit: float) -> Mask:
    """Pixels that leave the ground by more than limit, what they enclose and a margin."""
    p = len(image_HW3) // BLOCKS
    hand = np.abs(image_HW3 - ground_HW3).max(-1) > limit
    hand = ndimage.binary_fill_holes(ndimage.binary_closing(hand, iterations=max(1, p // 2)))
    return np.asarray(ndimage.binary_dilation(hand, iterations=round(MARGIN * p)), bool)


def without_hand(image_HW3: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image with its hand replaced by background.

    The hand is what differs from the background's surface by more than 8 levels and five noise
    deviations, with what it encloses and a margin of 1.5 blocks. It is filled with the surface plus
    noise taken from whole blocks of true background. Where less than 0.4 of the border is one
    plain colour, or the hand leaves no block clear, the background cannot be told: then the whole
    image becomes a surface through its border's blocks.

    Args:
        image_HW3: uint8 (H, W, 3).
        rng: Draws the noise.

    Returns:
        uint8 (H, W, 3).
    """
    original = len(image_HW3)
    p = -(-original // BLOCKS)
    side = p * BLOCKS
    short = side - original
    image = np.pad(image_HW3, ((0, short), (0, short), (0, 0)), "edge").astype(float)
    colours_BB3 = np.median(tiles(image), (2, 3))
    border_BB, same_BB = border_background(colours_BB3)
    own_BBpp = np.abs(tiles(image) - colours_BB3[:, :, None, None]).max(-1)
    limit = max(CLEAR, NOISES * 1.4826 * float(np.median(own_BBpp[same_BB])))
    tint_BB3 = colours_BB3 - colours_BB3.mean(-1, keepdims=True)
    tinted_BB = np.abs(tint_BB3 - np.median(tint_BB3[same_BB], 0)).max(-1) > TINT
    plain_BB = ((own_BBpp < limit).mean((2, 3)) > PLAIN) & ~tinted_BB
    clear_BB = np.zeros_like(same_BB)
    if (same_BB & plain_BB).sum() >= TOLD * border_BB.sum():
        known_BB = grown(same_BB & plain_BB, colours_BB3, plain_BB)
        hand = hand_mask(image, surface(colours_BB3, known_BB, side), limit)
        clear_BB = np.logical_not(hand.reshape(BLOCKS, p, BLOCKS, p).any((1, 3)))
    if not clear_BB.any():
        filled = surface(colours_BB3, border_BB, side)
    else:
        ground = surface(colours_BB3, clear_BB, side)
        noise = noise_like(tiles(image - ground)[clear_BB], rng)
        # Three deviations of this blur lie within the margin: nothing of the hand shines through.
        cover = ndimage.gaussian_filter(hand.astype(float), MARGIN * p / 3)[:, :, None]
        filled = cover * (ground + noise) + (1 - cover) * image
    return np.clip(np.rint(filled[:original, :original]), 0, 255).astype(np.uint8)

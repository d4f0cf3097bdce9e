"""Resizing and warping pictures by numpy alone, to the pixels of ``resampling.py``.

The exported ensemble has this file in its place. Roundings are those of OpenCV 5 and torch, since
what is not exact is a level off now and then: their fixed-point weights, their order of float32
sums, and the one rounding of a fused multiply-add, here a float64 rounded to float32.

Letters: H and W rows and columns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Affine = NDArray[np.float64]
Floats = NDArray[np.float32]
LINEAR_UNITS = 2048  # of a weight of resize_linear
MOST_UNITS = 2**15  # a weight of resize_antialiased is a whole number of units below this
MOST_BITS = 22  # of its unit
TOGETHER = 16  # rows of a result that share a matrix product
VECTOR = 16  # columns of a warp that OpenCV computes at once; those left over it sums otherwise
LEAST_PART = 1e-3  # of a pixel: less at an end of an area is left out
SIZES = 64  # whose weights are kept


def resize_linear(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    """Bilinear interpolation, for enlarging; see ``resampling.py``."""
    low, high, weights_2H = _linear_weights(rgb_HW3.shape[1], width, True)
    rows = _turned(rgb_HW3).astype(np.int32)
    across = _sum_of_two(rows, low, high, weights_2H)
    low, high, weights_2H = _linear_weights(rgb_HW3.shape[0], height, False)
    rows = _turned(across) >> 4
    first, second = weights_2H[..., None, None]
    return ((((rows[low] * first) >> 16) + ((rows[high] * second) >> 16) + 2) >> 2).astype(np.uint8)


def resize_area(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    """Means over the area of each pixel, for shrinking; see ``resampling.py``."""
    down, across = rgb_HW3.shape[0] / height, rgb_HW3.shape[1] / width
    if down == across == 2:
        sums = rgb_HW3.reshape(height, 2, width, 2, 3).sum((1, 3), dtype=np.int32)
        return ((sums + 2) >> 2).astype(np.uint8)
    if down.is_integer() and across.is_integer():
        parts = rgb_HW3.reshape(height, int(down), width, int(across), 3)
        sums = parts.sum((1, 3), dtype=np.int32).astype(np.float32)
        return np.rint(sums * np.float32(1 / (down * across))).astype(np.uint8)
    means = _area_means(_turned(rgb_HW3), width)
    return np.rint(_area_means(_turned(means), height)).astype(np.uint8)


def resize_antialiased(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    """PIL's BILINEAR, whose triangle widens where a picture shrinks; see ``resampling.py``."""
    if width != rgb_HW3.shape[1]:
        rgb_HW3 = _turned(_triangle_means(_turned(rgb_HW3), width))
    return _triangle_means(np.ascontiguousarray(rgb_HW3), height)


def warp_affine(
    rgb_HW3: Pixels, to_source_23: Affine, side: int, colour: tuple[float, ...]
) -> Pixels:
    """A square of an affinely mapped picture, interpolated bilinearly; see ``resampling.py``."""
    height, width = rgb_HW3.shape[:2]
    framed = np.empty((3, height + 2, width + 2))
    framed[:] = np.rint(np.array(colour[:3]))[:, None, None]
    framed[:, 1:-1, 1:-1] = rgb_HW3.transpose(2, 0, 1)
    values = framed.reshape(3, -1)
    (x0, x1, part_x), (y0, y1, part_y) = (
        _neighbours(row_3, side, length)
        for row_3, length in zip(to_source_23, (width, height), strict=True)
    )
    y0, y1 = y0 * (width + 2), y1 * (width + 2)

    def at(y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float64]:
        return values.take(y + x, axis=1, mode="clip")

    above = _between(at(y0, x0), at(y0, x1), part_x)
    below = _between(at(y1, x0), at(y1, x1), part_x)
    difference = (below - above).astype(np.float64)
    found = (above + part_y * difference).astype(np.float32)
    return np.ascontiguousarray(np.rint(found).astype(np.uint8).T.reshape(side, side, 3))


def _turned(picture: NDArray) -> NDArray:
    """Rows as columns, in memory too."""
    return np.ascontiguousarray(picture.swapaxes(0, 1))


@lru_cache(SIZES)
def _linear_weights(
    size: int, to: int, ends_count_once: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """The two rows of each of ``to`` rows, and their weights in units (2, H)."""
    at = ((np.arange(to) + 0.5) * (1 / (to / size)) - 0.5).astype(np.float32)
    low = np.floor(at).astype(np.int64)
    part = at - low.astype(np.float32)
    if ends_count_once:
        part[(low < 0) | (low >= size - 1)] = 0
    weights_2H = np.rint(np.stack([1 - part, part]) * np.float32(LINEAR_UNITS)).astype(np.int32)
    return low.clip(0, size - 1), (low + 1).clip(0, size - 1), weights_2H


def _sum_of_two(
    rows: NDArray[np.int32],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    weights_2H: NDArray[np.int32],
) -> NDArray[np.int32]:
    first, second = weights_2H[..., None, None]
    return rows[low] * first + rows[high] * second


@lru_cache(SIZES)
def _area_weights(size: int, to: int) -> tuple[NDArray[np.int64], Floats]:
    """The first row of each of ``to`` rows, its weight, and those of the rows after it."""
    scale, firsts, parts = 1 / (to / size), [], []
    for row in range(to):
        start, end = row * scale, row * scale + scale
        length = min(scale, size - start)
        last = min(int(np.floor(end)), size - 1)
        first = min(int(np.ceil(start)), last)
        weights = [1.0] * (last - first)
        if first - start > LEAST_PART:
            weights, first = [first - start, *weights], first - 1
        if end - last > LEAST_PART:
            weights.append(min(end - last, 1.0, length))
        firsts.append(first)
        parts.append(np.array(weights) / length)
    weights_by_row = np.zeros((max(map(len, parts)), to), np.float32)
    for row, part in enumerate(parts):
        weights_by_row[: len(part), row] = part
    return np.array(firsts), weights_by_row


def _area_means(rows: NDArray, to: int) -> Floats:
    """``to`` rows of means over so many parts of a picture's height, added from the top."""
    firsts, weights_by_row = _area_weights(len(rows), to)
    found = np.zeros((to, *rows.shape[1:]), np.float32)
    for more, weights_H in enumerate(weights_by_row):
        of_next = rows[np.minimum(firsts + more, len(rows) - 1)]
        found += of_next * weights_H[:, None, None]
    return found


@lru_cache(SIZES)
def _triangle_weights(size: int, to: int) -> tuple[tuple[int, NDArray[np.float64]], ...]:
    """For each TOGETHER of ``to`` rows: the first row that counts, and a matrix of the weights of
    the rows from it on.
    """
    scale = size / to
    reach = max(scale, 1.0)
    middles = scale * (np.arange(to) + 0.5)
    firsts = np.maximum((middles - reach + 0.5).astype(np.int64), 0)
    ends = np.minimum((middles + reach + 0.5).astype(np.int64), size)
    each = []
    for middle, first, end in zip(middles, firsts, ends, strict=True):
        far = np.abs((np.arange(first, end) - middle + 0.5) * (1 / reach))
        weights = np.maximum(1 - far, 0)
        each.append(weights / weights.sum())
    largest, bits = max(weights.max() for weights in each), 0
    while bits < MOST_BITS and int(0.5 + largest * 2 ** (bits + 1)) < MOST_UNITS:
        bits += 1
    blocks = []
    for start in range(0, to, TOGETHER):
        rows = range(start, min(start + TOGETHER, to))
        first = int(firsts[start])
        block = np.zeros((len(rows), int(ends[rows[-1]]) - first))
        for row in rows:
            units = np.floor(each[row] * 2**bits + 0.5)
            block[row - start, firsts[row] - first : ends[row] - first] = units / 2**bits
        blocks.append((first, block))
    return tuple(blocks)


def _triangle_means(rows: Pixels, to: int) -> Pixels:
    """``to`` rows of a picture of another height. Products are exact in float64."""
    if to == len(rows):
        return rows
    flat = rows.reshape(len(rows), -1)
    found = np.empty((to, flat.shape[1]), np.uint8)
    for number, (first, block) in enumerate(_triangle_weights(len(rows), to)):
        part = flat[first : first + block.shape[1]].astype(np.float64)
        found[number * TOGETHER : (number + 1) * TOGETHER] = block @ part + 0.5
    return found.reshape(to, *rows.shape[1:])


def _neighbours(
    row_3: NDArray[np.float64], side: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of each pixel of a square: the coordinates in a framed picture between which it lies, and how
    far it is from the first one, 0 to 1.
    """
    places = np.arange(side, dtype=np.float32)
    along, across, shift = row_3.astype(np.float32)
    of_row, of_column = (places * across)[:, None], places * np.float64(along)
    rest = side - side % VECTOR
    of_vectors = (of_column[:rest] + (of_row + shift)).astype(np.float32)
    one_by_one = (of_column[rest:] + of_row).astype(np.float32) + shift
    at = np.concatenate([of_vectors, one_by_one], 1).ravel()
    low = np.floor(at)
    first = low.clip(-1, length).astype(np.int64) + 1
    second = (low + 1).clip(-1, length).astype(np.int64) + 1
    return first, second, (at - low).astype(np.float64)


def _between(
    first: NDArray[np.float64], second: NDArray[np.float64], part: NDArray[np.float64]
) -> Floats:
    return (first + part * (second - first)).astype(np.float32)

"""The square around a hand that AlexNet sees, upright as in the picture.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.resampling import resize_area, warp_affine
from sign_ensemble.hands.hand_region import POINTS
from sign_ensemble.hands.network_inputs import border_colour

MARGIN = 0.18  # share of the points' longer extent, on each side: skin beyond the points
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def box_of(points_42: Floats) -> tuple[float, float, float]:
    """Middle (x, y) and longer extent of the points, pixels."""
    points = points_42.reshape(POINTS, 2)
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    return float(x), float(y), max(1.0, float((high - low).max()))


def box_in(points_42: Floats | None, side: int) -> tuple[float, float, float]:
    """:func:`box_of` the hand in a square picture; of the whole picture where none was found."""
    return (side / 2, side / 2, float(side)) if points_42 is None else box_of(points_42)


def hand_crop(rgb_HW3: Pixels, points_42: Floats, side: int, mirrored: bool = False) -> Pixels:
    """The square around the points as (side, side, 3), perhaps mirrored; beyond the picture in its
    border's median colour.
    """
    x, y, size = box_of(points_42)
    edge = size * (1 + 2 * MARGIN)
    scale = edge / side  # pixels of the picture per pixel of the crop
    source = rgb_HW3
    if scale > 1.5:  # bilinear sampling alone would leave pixels out
        high, wide = (max(1, round(length / scale)) for length in rgb_HW3.shape[:2])
        source = resize_area(rgb_HW3, high, wide)
    across, down = source.shape[1] / rgb_HW3.shape[1], source.shape[0] / rgb_HW3.shape[0]
    sign = -1.0 if mirrored else 1.0
    step_x, step_y = scale * across, scale * down
    middle = side / 2 - 0.5
    to_source = np.array([
        [sign * step_x, 0, x * across - 0.5 - sign * step_x * middle],
        [0, step_y, y * down - 0.5 - step_y * middle],
    ])  # fmt: skip
    return warp_affine(source, to_source, side, border_colour(rgb_HW3))

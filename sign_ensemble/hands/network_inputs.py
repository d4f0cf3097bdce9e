"""Pictures → what MediaPipe's two networks read of them.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.resampling import resize_area, resize_linear, warp_affine
from sign_ensemble.hands import hand_region, palm_detection
from sign_ensemble.hands.hand_region import Region

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
PAINTED = 0.15  # share of a hand's size around it that is painted over with it


def border_colour(rgb_HW3: Pixels) -> tuple[float, float, float]:
    """Median colour of the outermost rows and columns."""
    parts = [rgb_HW3[0], rgb_HW3[-1], rgb_HW3[1:-1, 0], rgb_HW3[1:-1, -1]]
    red, green, blue = np.median(np.concatenate(parts), axis=0)
    return float(red), float(green), float(blue)


def square_with_margin(rgb_HW3: Pixels, margin: float) -> tuple[float, float, float]:
    """Side, left and top edge, in pixels, of the square around a picture and its margin."""
    height, width = rgb_HW3.shape[:2]
    side = max(height, width) * (1 + 2 * margin)
    return side, (width - side) / 2, (height - side) / 2


def palm_input(rgb_HW3: Pixels, margin: float, colour: tuple[float, ...]) -> Floats:
    """The detector's view (192, 192, 3) of the square around a picture, levels 0 to 1."""
    side = palm_detection.SIDE
    height, width = rgb_HW3.shape[:2]
    square, _, _ = square_with_margin(rgb_HW3, margin)
    wide, high = (max(1, round(edge * side / square)) for edge in (width, height))
    resize = resize_area if wide < width else resize_linear
    left, top = (side - wide) // 2, (side - high) // 2
    view = np.empty((side, side, 3), np.float32)
    view[:] = np.array(colour, np.float32) / 255
    inside = view[top : top + high, left : left + wide]
    np.multiply(resize(rgb_HW3, high, wide), np.float32(1 / 255), out=inside)
    return view


def region_input(rgb_HW3: Pixels, region: Region, colour: tuple[float, ...]) -> Floats:
    """The landmark network's view (224, 224, 3) of a region, levels 0 to 1."""
    side = hand_region.SIDE
    affine = hand_region.to_picture(region)
    # pixel of the view → its centre's share of the side → picture → pixel of the picture
    to_pixel = affine.copy()
    to_pixel[:, :2] /= side
    to_pixel[:, 2] += to_pixel[:, :2].sum(1) / 2 - 0.5
    view = warp_affine(rgb_HW3, to_pixel, side, colour)
    return view.astype(np.float32) * np.float32(1 / 255)


def painted_over(rgb_HW3: Pixels, box_4: Floats, colour: tuple[float, ...]) -> Pixels:
    """The picture with a hand's box and a margin painted over."""
    margin = PAINTED * float((box_4[2:] - box_4[:2]).max())
    left, top = np.maximum(box_4[:2] - margin, 0).astype(int)
    right, bottom = np.maximum(box_4[2:] + margin, 0).astype(int)
    painted = rgb_HW3.copy()
    painted[top:bottom, left:right] = np.array(colour)
    return painted

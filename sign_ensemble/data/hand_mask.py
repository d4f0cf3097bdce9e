"""Which pixels of a picture are hand: told by a plain background, else by the hand's points.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.opencv_module import opencv

Pixels = NDArray[np.uint8]
PLAIN_SHARE = 0.55  # least share of the border within LIKE of its median: a hand covers the rest
LIKE = 26.0  # levels: uneven light, noise and JPEG's artefacts are smaller
CLEAR = 22.0  # levels from the background, from which a pixel is hand
PALM_WIDTH = 0.16  # share of the hand's size: how far skin reaches beyond the points
LEAST, MOST = 0.04, 0.9  # share of the picture that a mask by its background may cover


def border_of(levels_HW3: NDArray[np.int16]) -> NDArray[np.int16]:
    """The outermost two rows and columns as a list of colours."""
    edges = (levels_HW3[:2], levels_HW3[-2:], levels_HW3[:, :2], levels_HW3[:, -2:])
    return np.concatenate([edge.reshape(-1, 3) for edge in edges])


def mask_by_background(rgb_HW3: Pixels) -> Pixels | None:
    """255 where a pixel differs from the border's median colour, else 0, (H, W); None where the
    background is not plain.
    """
    cv2, levels = opencv(), rgb_HW3.astype(np.int16)
    border = border_of(levels)
    colour = np.median(border, 0).astype(np.int16)
    if (np.abs(border - colour).max(1) <= LIKE).mean() < PLAIN_SHARE:
        return None
    differs = (np.abs(levels - colour).max(-1) > CLEAR).astype(np.uint8) * 255
    mask_HW: Pixels = cv2.medianBlur(differs, 5)
    return mask_HW if LEAST < mask_HW.mean() / 255 < MOST else None


def mask_by_points(points_42: NDArray[np.float32], height: int, width: int) -> Pixels:
    """255 within the hull of the 21 points and a margin around it, else 0, (H, W)."""
    cv2, mask_HW = opencv(), np.zeros((height, width), np.uint8)
    points = points_42.reshape(-1, 2)
    hull = cv2.convexHull(points.round().astype(np.int32))
    cv2.fillConvexPoly(mask_HW, hull, 255)
    reach = max(1, round(PALM_WIDTH * float(np.ptp(points, axis=0).max())))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask_HW, kernel)


def hand_mask_of(rgb_HW3: Pixels, points_42: NDArray[np.float32] | None) -> Pixels | None:
    """The hand's mask (H, W): what differs from a plain background and lies near the points; by
    either alone where there is no more; None without both.
    """
    by_background_HW = mask_by_background(rgb_HW3)
    if points_42 is None:
        return by_background_HW
    near_HW = mask_by_points(points_42, *rgb_HW3.shape[:2])
    return near_HW if by_background_HW is None else near_HW & by_background_HW

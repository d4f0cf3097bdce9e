"""Resizing and warping pictures, by OpenCV and torch.

``numpy_resampling.py`` has the same functions with the same pixels for where neither is installed:
the exported ensemble.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.opencv_module import opencv

Pixels = NDArray[np.uint8]
Affine = NDArray[np.float64]


def resize_linear(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    """Bilinear interpolation, for enlarging."""
    cv2 = opencv()
    return cv2.resize(rgb_HW3, (width, height), interpolation=cv2.INTER_LINEAR)


def resize_area(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    """Means over the area of each pixel, for shrinking."""
    cv2 = opencv()
    return cv2.resize(rgb_HW3, (width, height), interpolation=cv2.INTER_AREA)


def resize_antialiased(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    """PIL's BILINEAR, whose triangle widens where a picture shrinks."""
    import torch
    from torch.nn.functional import interpolate

    rgb_13HW = torch.from_numpy(np.require(rgb_HW3, requirements=["C", "W"])).permute(2, 0, 1)[None]
    resized_13HW = interpolate(rgb_13HW, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized_13HW[0].permute(1, 2, 0).numpy())


def warp_affine(
    rgb_HW3: Pixels, to_source_23: Affine, side: int, colour: tuple[float, ...]
) -> Pixels:
    """The square (side, side, 3) whose pixel (x, y) is that of the picture at
    ``to_source_23 @ (x, y, 1)``, interpolated bilinearly; beyond the picture in a colour.
    """
    cv2 = opencv()
    return cv2.warpAffine(
        rgb_HW3, to_source_23, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=colour,
    )  # fmt: skip

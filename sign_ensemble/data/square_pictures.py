"""Upright pixels → the square picture that the networks look at, and the way back for points.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.resampling import resize_antialiased, resize_linear

RESIZING = 2  # raise when a resized image's pixels change, so that caches are computed again
REDUCED = 1.4  # least size, in sides of the square, at which a JPEG is decoded below its own size
PICTURE = 2  # side of a picture in which the hand is looked for, in sides of the network's input
Fit = Literal["pad", "squash", "crop"]
Pixels = NDArray[np.uint8]


class PictureSettings(Protocol):
    """How pictures are read: what ``DataConfig`` says of it."""

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def crop(self) -> str: ...  # noqa: D102
    @property
    def fit(self) -> Fit: ...  # noqa: D102
    @property
    def handedness(self) -> str: ...  # noqa: D102
    @property
    def max_pixels(self) -> int: ...  # noqa: D102
    @property
    def min_side(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the square that keeps all of it (fit ``pad``)."""

    left: int  # pixels of the square
    top: int
    width: int
    height: int
    across: float  # pixels of the picture per pixel of the square
    down: float

    def in_picture(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points of the square, x and y, as points of the picture."""
        scale = np.array([self.across, self.down], np.float32)
        return (points - np.array([self.left, self.top], np.float32)) * scale


def placement(height: int, width: int, side: int) -> Placement:
    """Where a picture of this size lies in the square of this side."""
    longer = max(height, width)
    high, wide = (max(1, round(edge * side / longer)) for edge in (height, width))
    left, top = (side - wide) // 2, (side - high) // 2
    return Placement(left, top, wide, high, width / wide, height / high)


def fit_square(rgb_HW3: Pixels, size: int, fit: Fit) -> Pixels:
    """Resize an image to writable pixels (size, size, 3).

    The filter is PIL's BILINEAR with antialiasing, as for the ImageNet weights. It is computed by
    torch and, where nothing shrinks, by OpenCV: faster, and within a level of PIL (a test).
    ``pad`` keeps everything and its proportions, filling with the median colour of the image's
    border; ``squash`` stretches; ``crop`` takes the middle square.
    """
    height, width = rgb_HW3.shape[:2]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resize(rgb_HW3[top : top + side, left : left + side], size, size)
    if fit == "squash" or height == width:
        return _resize(rgb_HW3, size, size)
    at = placement(height, width, size)
    square = np.empty((size, size, 3), np.uint8)
    square[:] = _border_colour(rgb_HW3)
    fitted = _resize(rgb_HW3, at.height, at.width)
    square[at.top : at.top + at.height, at.left : at.left + at.width] = fitted
    return square


def picture_side(data: PictureSettings) -> int:
    """Side in pixels of the square pictures that are read: where the hand is looked for, twice the
    network's input, so that a small hand still has pixels.
    """
    return PICTURE * data.size if data.crop == "hand" else data.size


def picture_fit(data: PictureSettings) -> Fit:
    """How a picture becomes a square: where the hand is looked for, all of it is kept."""
    return "pad" if data.crop == "hand" else data.fit


def geometry(data: PictureSettings) -> dict[str, object]:
    """What a resized image's pixels depend on besides its file."""
    about = {"size": data.size, "picture": picture_side(data), "fit": picture_fit(data)}
    return {**about, "reduced": REDUCED, "resizing": RESIZING}


def _resize(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    enlarged = height >= rgb_HW3.shape[0] and width >= rgb_HW3.shape[1]
    return (resize_linear if enlarged else resize_antialiased)(rgb_HW3, height, width)


def _border_colour(rgb_HW3: Pixels) -> Pixels:
    """Median colour (3) of the outermost rows and columns; a corner counts once."""
    border_N3 = np.concatenate([rgb_HW3[0], rgb_HW3[-1], rgb_HW3[1:-1, 0], rgb_HW3[1:-1, -1]])
    return np.median(border_N3, axis=0).round().astype(np.uint8)

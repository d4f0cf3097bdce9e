"""Pictures of rendered hands in which MediaPipe's networks find the hand."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sign_ensemble.synthetic.picture_set import Picture, Recipe, rendered

Pixels = NDArray[np.uint8]
SIDE = 320  # pixels
FOUND = ("b", "v", "y", "l", "o", "i")  # upright right hands, and each is found


@lru_cache
def rendered_hand(label: str, number: int = 1) -> Pixels:
    """The first signer's sign of this label, a right hand before a pale wall; read only."""
    (content,) = rendered([Picture("sign", label, 1, number)], Recipe(width=SIDE, height=SIDE))
    pixels = np.array(Image.open(BytesIO(content)).convert("RGB"))
    pixels.flags.writeable = False
    return pixels


def flipped(picture: Pixels) -> Pixels:
    """The picture as a mirror shows it."""
    return np.ascontiguousarray(picture[:, ::-1])


def box(points_42: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Least and greatest x and y of the points."""
    points = points_42.reshape(21, 2)
    return points.min(0), points.max(0)


def size_of(points_42: NDArray[np.floating]) -> float:
    """Longer extent of the points."""
    low, high = box(points_42)
    return float((high - low).max())


def gap(first_42: NDArray[np.floating], second_42: NDArray[np.floating]) -> float:
    """Mean distance of the points of two hands, as a share of the hand's size."""
    differ = (first_42 - second_42).reshape(21, 2)
    return float(np.linalg.norm(differ, axis=1).mean()) / size_of(first_42)

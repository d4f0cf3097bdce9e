"""Images as Python users give them → square pictures.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sign_ensemble.core.errors import UserError
from sign_ensemble.data.images import SetAside, check_size, decode_rgb, read_file, upright_rgb
from sign_ensemble.data.square_pictures import (
    PictureSettings,
    Pixels,
    Placement,
    fit_square,
    picture_fit,
    picture_side,
    placement,
)

GivenImage = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
GivenImages = GivenImage | Sequence[GivenImage]


@dataclass(frozen=True)
class SquarePicture:
    """A picture as ``read_image`` gives it."""

    square_HW3: Pixels
    at: Placement  # where the picture lies in it (crop ``hand``)


def several(given: GivenImages) -> list[GivenImage]:
    """One image, or each of a sequence or an array (N, H, W, 3).

    Raises:
        UserError: it is neither.
    """
    if isinstance(given, str | bytes | os.PathLike | Image.Image):
        return [given]
    if isinstance(given, np.ndarray):
        return list(given) if given.ndim == 4 else [given]
    if isinstance(given, Iterable):
        return list(given)
    raise UserError(
        f"images: {type(given).__name__} is no path, PIL image, array (H, W, 3) of uint8, bytes of "
        "an image file, or sequence of these"
    )


def square_picture(given: GivenImage, settings: PictureSettings) -> SquarePicture:
    """One image as a square picture.

    Raises:
        SetAside: it cannot be read.
        UserError: it is nothing that could be an image.
    """
    side, fit = picture_side(settings), picture_fit(settings)
    if isinstance(given, str | os.PathLike | bytes):
        name = "" if isinstance(given, bytes) else os.fspath(given)
        content = given if isinstance(given, bytes) else read_file(Path(given).expanduser())[0]
        rgb_HW3, (width, height) = decode_rgb(
            content, max_pixels=settings.max_pixels, min_side=settings.min_side,
            square=(side, fit), name=name,
        )  # fmt: skip
    else:
        rgb_HW3 = pixels_of(given, settings)
        height, width = rgb_HW3.shape[:2]
    return SquarePicture(fit_square(rgb_HW3, side, fit), placement(height, width, side))


def pixels_of(given: object, settings: PictureSettings) -> Pixels:
    """Upright pixels (H, W, 3) of a PIL image or an array.

    Raises:
        SetAside: it is too large or too small, or cannot be decoded.
        UserError: it is neither, or no array (H, W, 3) of uint8.
    """
    if isinstance(given, Image.Image):
        check_size(*given.size, settings.max_pixels, settings.min_side)
        try:
            return upright_rgb(given)[0]
        except OSError as fault:
            raise SetAside(f"cannot be decoded: {fault}") from fault
    if not isinstance(given, np.ndarray):
        raise UserError(
            f"images: {type(given).__name__} is no path, PIL image, array or bytes of an image file"
        )
    if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8:
        raise UserError(
            f"images: the array is {given.dtype} of shape {given.shape}; it must be uint8 of shape "
            "(H, W, 3), red, green, blue"
        )
    check_size(given.shape[1], given.shape[0], settings.max_pixels, settings.min_side)
    return np.ascontiguousarray(given)

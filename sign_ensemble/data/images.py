"""One image: bytes → upright RGB → the square that the network sees.

Caching, predict and serve all come through here, so a picture looks the same to the network
wherever it was sent. Letters in shapes: H height, W width, C the three channels red, green, blue.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sign_ensemble.core.config import DataConfig

RESIZING = 2  # raise when a resized image's pixels change; part of how images became features
REDUCED = 1.4  # times the square's side that a JPEG decoded at less than its size has at least
Fit = Literal["pad", "squash", "crop"]
Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)

# Readers for these alone are tried: PIL also knows formats that start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_ORIENTATION = 0x0112  # EXIF tag; its values 2 to 8 say what brings the image upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = frozenset(_UPRIGHT[value] for value in (5, 6, 7, 8))
_PIL_MODULES = re.compile(r"PIL\.")
_FILTER_LOCK = threading.Lock()


class SetAside(Exception):
    """Why one image is not used; the reason is the message, in one line."""


def decode_rgb(
    content: bytes, *, max_pixels: int, min_side: int, square: tuple[int, Fit] | None = None
) -> Pixels:
    """Decode one image file, upright, with transparent parts on white.

    16-bit grey is scaled by 1/257, so that black and white stay black and white. CMYK JPEGs are
    read as Adobe writes them (inverted), as other decoders do; colour profiles are not applied.

    Args:
        content: The whole file.
        max_pixels: Most pixels; compared with the file's header before any pixel is decoded.
            Above twice ``PIL.Image.MAX_IMAGE_PIXELS`` (179 million) no image is read.
        min_side: Fewest pixels of the shorter side.
        square: Side and fit of the square that is all the caller wants. A JPEG far larger than it
            is then decoded at a half, a quarter or an eighth of its size (REDUCED), which its
            format allows for and which takes a fraction of the time.

    Returns:
        Pixels (H, W, 3), writable.

    Raises:
        SetAside: the file is empty, no image, broken, animated, too large, too small, or holds
            numbers that are no grey values.
    """
    return _decoded(content, max_pixels, min_side, square)[0]


def upright_size(content: bytes, *, max_pixels: int, min_side: int) -> tuple[int, int]:
    """Width and height of an image file, upright, once it has been found to decode to its end.

    Args:
        content: The whole file.
        max_pixels: See :func:`decode_rgb`.
        min_side: See :func:`decode_rgb`.

    Raises:
        SetAside: see :func:`decode_rgb`.
    """
    return _decoded(content, max_pixels, min_side, (1, "pad"))[1]


def _decoded(
    content: bytes, max_pixels: int, min_side: int, square: tuple[int, Fit] | None
) -> tuple[Pixels, tuple[int, int]]:
    """What :func:`decode_rgb` gives, and the width and height of the file's image, upright."""
    if not content:
        raise SetAside("empty file (0 bytes)")
    _silence_pil()
    try:
        with Image.open(BytesIO(content), formats=_FORMATS) as image:
            _check_header(image, max_pixels, min_side)
            size = image.size
            if square:
                _reduce(image, *square)
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            rgb = _to_rgb(image)
            size = size[::-1] if turn in _ON_ITS_SIDE else size
            return np.array(rgb if turn is None else rgb.transpose(turn)), size
    except SetAside:
        raise
    except UnidentifiedImageError as error:
        raise SetAside("not an image of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SetAside(f"more than {max_pixels} pixels: {_one_line(error)}") from error
    except Exception as error:  # PIL's readers raise anything on broken files, even IndexError
        raise SetAside(f"cannot be decoded: {_one_line(error)}") from error


def fit_square(rgb_HWC: Pixels, size: int, fit: Fit) -> Pixels:
    """Resize an image to a square.

    The filter is what PIL calls BILINEAR: it widens with the reduction, so nothing aliases, and it
    is the one that the ImageNet weights were trained behind. Computed by torch, which takes a third
    of PIL's time for the same bytes, and where nothing is reduced by OpenCV, which takes a tenth;
    either is within a level of PIL (a test).

    Args:
        rgb_HWC: Pixels (H, W, 3).
        size: Side of the square in pixels.
        fit: ``pad`` keeps everything and its proportions, filling with the median colour of the
            image's border; ``squash`` stretches; ``crop`` takes the middle square.

    Returns:
        Pixels (size, size, 3), writable.
    """
    height, width = rgb_HWC.shape[:2]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resize(rgb_HWC[top : top + side, left : left + side], size, size)
    if fit == "squash" or height == width:
        return _resize(rgb_HWC, size, size)
    longer = max(height, width)
    new_height, new_width = (max(1, round(side * size / longer)) for side in (height, width))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square = np.empty((size, size, 3), np.uint8)
    square[:] = _border_colour(rgb_HWC)
    square[top : top + new_height, left : left + new_width] = _resize(
        rgb_HWC, new_height, new_width
    )
    return square


def decode_image(path: Path, *, size: int, fit: Fit, max_pixels: int, min_side: int) -> Pixels:
    """Read, decode and resize one file: (size, size, 3).

    Raises:
        SetAside: the file cannot be read, or :func:`decode_rgb` refuses it.
    """
    content, _ = read_file(path)
    rgb_HWC = decode_rgb(content, max_pixels=max_pixels, min_side=min_side, square=(size, fit))
    return fit_square(rgb_HWC, size, fit)


def geometry(data: DataConfig) -> dict[str, object]:
    """What a square's pixels depend on, beside its file."""
    return {"size": data.size, "fit": data.fit, "reduced": REDUCED, "resizing": RESIZING}


def read_image(path: Path, data: DataConfig) -> Pixels:
    """:func:`decode_image` as a run's settings say."""
    return decode_image(
        path,
        size=data.size,
        fit=data.fit,
        max_pixels=data.max_pixels,
        min_side=data.min_side,
    )


def read_file(path: Path) -> tuple[bytes, int]:
    """A file's bytes and its time of change in nanoseconds.

    Raises:
        SetAside: it is gone, not permitted, or no regular file (a pipe would block).
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise SetAside("not a regular file")
        return path.read_bytes(), status.st_mtime_ns
    except OSError as error:
        raise SetAside(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL character in a table's path
        raise SetAside(f"cannot be read: {error}") from error


def _check_header(image: Image.Image, max_pixels: int, min_side: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise SetAside(f"{width} x {height} is more than {max_pixels} pixels")
    if min(width, height) < min_side:
        raise SetAside(f"{width} x {height}: the shorter side is below {min_side} pixels")
    # MPO is a phone's JPEG with further views (depth, other eye) behind it; the first is the photo.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise SetAside("animated, or several pages in one file")


def _reduce(image: Image.Image, size: int, fit: Fit) -> None:
    """Have a JPEG decoded at its smallest size that is REDUCED times as large as the square."""
    width, height = image.size
    across = max(image.size) if fit == "pad" else min(image.size)
    if image.format in ("JPEG", "MPO"):
        for part in (8, 4, 2):
            if across // part >= REDUCED * size:
                image.draft(None, (width // part, height // part))
                return


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise SetAside("floating-point pixels: which value is white is not known")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_scaled_grey(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _scaled_grey(image: Image.Image) -> Pixels:
    """Grey of 16 bits (H, W) → 8 bits: v / 257, rounded."""
    grey_HW = np.asarray(image).astype(np.int64)
    if grey_HW.min() < 0 or grey_HW.max() > 65535:
        raise SetAside("32-bit grey outside 0 to 65535: which value is white is not known")
    scaled_HW = ((grey_HW + 128) // 257).astype(np.uint8)
    clear: Any = image.info.get("transparency")
    if isinstance(clear, int):
        scaled_HW[grey_HW == clear] = 255
    return scaled_HW


def _resize(rgb_HWC: Pixels, height: int, width: int) -> Pixels:
    if height >= rgb_HWC.shape[0] and width >= rgb_HWC.shape[1]:
        from sign_ensemble.core.opencv_module import opencv

        cv2 = opencv()
        larger_HWC: Pixels = cv2.resize(rgb_HWC, (width, height), interpolation=cv2.INTER_LINEAR)
        return larger_HWC
    import torch
    from torch.nn.functional import interpolate

    whole_1CHW = torch.from_numpy(np.ascontiguousarray(rgb_HWC)).permute(2, 0, 1)[None]
    resized_1CHW = interpolate(whole_1CHW, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized_1CHW[0].permute(1, 2, 0).numpy())


def _border_colour(rgb_HWC: Pixels) -> Pixels:
    """Median colour (C) of the outermost rows and columns; a corner counts once."""
    border_NC = np.concatenate(
        [rgb_HWC[0], rgb_HWC[-1], rgb_HWC[1:-1, 0], rgb_HWC[1:-1, -1]], axis=0
    )
    median_C: Pixels = np.median(border_NC, axis=0).round().astype(np.uint8)
    return median_C


def _silence_pil() -> None:
    """Ignore warnings from inside PIL, once and for the process.

    PIL warns of oddities (broken EXIF, many pixels) that are decided here. ``catch_warnings``
    cannot be used: it is not safe in threads, and images are decoded in many.
    """
    with _FILTER_LOCK:
        if not any(kept[3] == _PIL_MODULES for kept in warnings.filters):
            warnings.filterwarnings("ignore", module=_PIL_MODULES.pattern)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""One image: bytes → upright RGB → the square image that the network reads.

Training, predict and serve all use these functions, so an image gives the same pixels everywhere.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import warnings
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sign_ensemble.data.file_kinds import RAW, kind_of
from sign_ensemble.data.square_pictures import (
    REDUCED,
    Fit,
    PictureSettings,
    Pixels,
    fit_square,
    picture_fit,
    picture_side,
)

# Only these readers are tried: some of PIL's others start programs (EPS). Older versions of Pillow
# lack AVIF; HEIF is pillow-heif's.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "AVIF", "HEIF")
_RAW_TAG, _MAKER_TAG, _MORE_TAG = 50706, 271, 330  # of TIFF: DNGVersion, Make, SubIFDs
_ORIENTATION = 0x0112  # EXIF tag; values 2 to 8 need a transposition
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
    """An image that cannot be used; the message is the reason, in one line."""


@lru_cache
def readable_formats() -> tuple[str, ...]:
    """The formats that are read here: HEIC where pillow-heif is installed, AVIF by a new Pillow."""
    Image.init()
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def decode_rgb(
    content: bytes,
    *,
    max_pixels: int,
    min_side: int,
    square: tuple[int, Fit] | None = None,
    name: str = "",
) -> tuple[Pixels, tuple[int, int]]:
    """Decode one image file: writable pixels (H, W, 3), upright, transparent parts on white, and
    width and height of the whole image, upright.

    16-bit grey is scaled by 1/257. CMYK JPEGs are read as Adobe writes them (inverted); colour
    profiles are not applied.

    The most pixels and the fewest of the shorter side are checked in the header before any pixel is
    decoded; above twice ``PIL.Image.MAX_IMAGE_PIXELS`` (179 million) no image is read. Where the
    caller needs a ``square`` of this side and fit, a far larger JPEG is decoded at 1/2, 1/4 or 1/8
    of its size, at least REDUCED sides large, which is faster. By the file's ``name`` is said what
    it is, where it cannot be read and its bytes do not tell.

    Raises:
        SetAside: the file is empty, no image, broken, animated, too large, too small, or holds
            numbers that are no grey values.
    """
    if not content:
        raise SetAside("empty file (0 bytes)")
    _silence_pil()
    kind = kind_of(content, name)
    try:
        if kind is RAW:
            raise SetAside(RAW.words)
        with Image.open(BytesIO(content), formats=readable_formats()) as image:
            _check_header(image, max_pixels, min_side)
            size = image.size
            if square:
                _reduce(image, *square)
            pixels_HW3, turned = upright_rgb(image)
            return pixels_HW3, size[::-1] if turned else size
    except SetAside:
        raise
    except UnidentifiedImageError as error:
        raise SetAside(kind.words if kind else "not an image of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SetAside(f"more than {max_pixels} pixels: {_one_line(error)}") from error
    except Exception as error:  # PIL's readers raise anything on broken files, even IndexError
        raise SetAside(f"cannot be decoded: {_one_line(error)}") from error


def upright_rgb(image: Image.Image) -> tuple[Pixels, bool]:
    """An opened image's writable pixels (H, W, 3), upright by its EXIF tag, transparent parts on
    white, and whether it lay on its side.

    Raises:
        SetAside: it holds numbers that are no grey values.
    """
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    rgb = _to_rgb(image)
    return np.array(rgb if turn is None else rgb.transpose(turn)), turn in _ON_ITS_SIDE


def read_image(path: Path, data: PictureSettings) -> Pixels:
    """Read, decode and resize one file: (H, W, 3), square, see :func:`picture_side`.

    Raises:
        SetAside: the file cannot be read, or :func:`decode_rgb` refuses it.
    """
    limits = {"max_pixels": data.max_pixels, "min_side": data.min_side}
    side, fit = picture_side(data), picture_fit(data)
    rgb_HW3, _ = decode_rgb(read_file(path)[0], square=(side, fit), name=path.name, **limits)
    return fit_square(rgb_HW3, side, fit)


def read_file(path: Path) -> tuple[bytes, int]:
    """A file's bytes and modification time in nanoseconds.

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


def check_size(width: int, height: int, max_pixels: int, min_side: int) -> None:
    """Refuse pictures with too many pixels, or too short a side.

    Raises:
        SetAside: it is such a picture.
    """
    if width * height > max_pixels:
        raise SetAside(f"{width} x {height} is more than {max_pixels} pixels")
    if min(width, height) < min_side:
        raise SetAside(f"{width} x {height}: the shorter side is below {min_side} pixels")


def _check_header(image: Image.Image, max_pixels: int, min_side: int) -> None:
    check_size(*image.size, max_pixels, min_side)
    tags = getattr(image, "tag_v2", {})  # of TIFF
    if _RAW_TAG in tags or (_MAKER_TAG in tags and _MORE_TAG in tags):  # its picture is a small one
        raise SetAside(RAW.words)
    # MPO is a phone's JPEG followed by other frames (depth, second lens); the first is the photo.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise SetAside("animated, or several pages in one file")


def _reduce(image: Image.Image, size: int, fit: Fit) -> None:
    """Let a JPEG be decoded at the least size that is REDUCED times as large as the square."""
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
    except Exception:  # Pillow raises many kinds on damaged EXIF; the picture itself may be whole
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


def _silence_pil() -> None:
    """Ignore PIL's warnings in this process: broken EXIF and many pixels are handled here.

    ``catch_warnings`` is not thread-safe, and images are decoded in many threads.
    """
    with _FILTER_LOCK:
        if not any(kept[3] == _PIL_MODULES for kept in warnings.filters):
            warnings.filterwarnings("ignore", module=_PIL_MODULES.pattern)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.opencv_module import opencv
from sign_ensemble.data.file_kinds import RAW, kind_of

RESIZING = 2  # raise when a resized image's pixels change, so that caches are computed again
REDUCED = 1.4  # least size, in sides of the square, at which a JPEG is decoded below its own size
PICTURE = 2  # side of a picture in which the hand is looked for, in sides of the network's input
Fit = Literal["pad", "squash", "crop"]
Pixels = NDArray[np.uint8]

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
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            rgb = _to_rgb(image)
            size = size[::-1] if turn in _ON_ITS_SIDE else size
            return np.array(rgb if turn is None else rgb.transpose(turn)), size
    except SetAside:
        raise
    except UnidentifiedImageError as error:
        raise SetAside(kind.words if kind else "not an image of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SetAside(f"more than {max_pixels} pixels: {_one_line(error)}") from error
    except Exception as error:  # PIL's readers raise anything on broken files, even IndexError
        raise SetAside(f"cannot be decoded: {_one_line(error)}") from error


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
    longer = max(height, width)
    new_height, new_width = (max(1, round(side * size / longer)) for side in (height, width))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square = np.empty((size, size, 3), np.uint8)
    square[:] = _border_colour(rgb_HW3)
    fitted = _resize(rgb_HW3, new_height, new_width)
    square[top : top + new_height, left : left + new_width] = fitted
    return square


def picture_side(data: DataConfig) -> int:
    """Side in pixels of the square pictures that are read: where the hand is looked for, twice the
    network's input, so that a small hand still has pixels.
    """
    return PICTURE * data.size if data.crop == "hand" else data.size


def picture_fit(data: DataConfig) -> Fit:
    """How a picture becomes a square: where the hand is looked for, all of it is kept."""
    return "pad" if data.crop == "hand" else data.fit


def geometry(data: DataConfig) -> dict[str, object]:
    """What a resized image's pixels depend on besides its file."""
    about = {"size": data.size, "picture": picture_side(data), "fit": picture_fit(data)}
    return {**about, "reduced": REDUCED, "resizing": RESIZING}


def read_image(path: Path, data: DataConfig) -> Pixels:
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


def _check_header(image: Image.Image, max_pixels: int, min_side: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise SetAside(f"{width} x {height} is more than {max_pixels} pixels")
    if min(width, height) < min_side:
        raise SetAside(f"{width} x {height}: the shorter side is below {min_side} pixels")
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


def _resize(rgb_HW3: Pixels, height: int, width: int) -> Pixels:
    if height >= rgb_HW3.shape[0] and width >= rgb_HW3.shape[1]:
        cv2 = opencv()
        return cv2.resize(rgb_HW3, (width, height), interpolation=cv2.INTER_LINEAR)
    import torch
    from torch.nn.functional import interpolate

    rgb_13HW = torch.from_numpy(np.ascontiguousarray(rgb_HW3)).permute(2, 0, 1)[None]
    resized_13HW = interpolate(rgb_13HW, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized_13HW[0].permute(1, 2, 0).numpy())


def _border_colour(rgb_HW3: Pixels) -> Pixels:
    """Median colour (3) of the outermost rows and columns; a corner counts once."""
    border_N3 = np.concatenate([rgb_HW3[0], rgb_HW3[-1], rgb_HW3[1:-1, 0], rgb_HW3[1:-1, -1]])
    return np.median(border_N3, axis=0).round().astype(np.uint8)


def _silence_pil() -> None:
    """Ignore PIL's warnings in this process: broken EXIF and many pixels are handled here.

    ``catch_warnings`` is not thread-safe, and images are decoded in many threads.
    """
    with _FILTER_LOCK:
        if not any(kept[3] == _PIL_MODULES for kept in warnings.filters):
            warnings.filterwarnings("ignore", module=_PIL_MODULES.pattern)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

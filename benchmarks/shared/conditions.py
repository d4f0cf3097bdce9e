"""Protocol F: the same picture of a hand, taken otherwise.

Pictures of Massey University's set have a black background, which is what makes the hand's mask.
Nothing here is used in training: ``sign_ensemble/data/picture_conditions.py`` makes its pictures in
other ways, with other backgrounds.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sign_ensemble.data.far_ood import PHOTOGRAPHS, picture

Pixels = NDArray[np.uint8]
DARK = 25  # brightest channel up to which a pixel is background
COLOURS = {"white": (245, 245, 245), "grey": (128, 128, 128), "green": (60, 140, 70)}


def hand_share(rgb_HW3: Pixels) -> NDArray[np.float32]:
    """How much of each pixel is hand, 0 to 1, (H, W, 1): not dark, median-filtered, edge soft."""
    mask = (rgb_HW3.max(-1) > DARK).astype(np.uint8) * 255
    soft = cv2.GaussianBlur(cv2.medianBlur(mask, 5), (0, 0), 1.0)
    return soft.astype(np.float32)[:, :, None] / 255


def to_pixels(levels: NDArray[np.floating]) -> Pixels:
    """Levels rounded and clipped to uint8."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def on_background(rgb_HW3: Pixels, background: NDArray[np.floating]) -> Pixels:
    """The hand before another background (H, W, 3), or one colour (3)."""
    share = hand_share(rgb_HW3)
    return to_pixels(share * rgb_HW3 + (1 - share) * background)


def on_photograph(rgb_HW3: Pixels, rng: np.random.Generator) -> Pixels:
    """The hand before a crop of a photograph."""
    photo = picture(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
    height, width = rgb_HW3.shape[:2]
    side = int(rng.uniform(0.4, 1.0) * min(photo.shape[:2]))
    top, left = (int(rng.integers(0, edge - side + 1)) for edge in photo.shape[:2])
    crop = photo[top : top + side, left : left + side]
    resized = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    return on_background(rgb_HW3, resized.astype(np.float64))


def smaller(rgb_HW3: Pixels, times: int, rng: np.random.Generator) -> Pixels:
    """The picture somewhere in a frame this many times as large, in which the hand is smaller."""
    height, width = rgb_HW3.shape[:2]
    frame = np.zeros((times * height, times * width, 3), np.uint8)
    top, left = (int(rng.integers(0, (times - 1) * edge + 1)) for edge in (height, width))
    frame[top : top + height, left : left + width] = rgb_HW3
    return frame


def cut_at_wrist(rgb_HW3: Pixels) -> Pixels:
    """The frame moved so that the lowest eighth of the hand is outside it."""
    rows = np.flatnonzero(hand_share(rgb_HW3).max((1, 2)) > 0.5)
    gone = round((rows[-1] - rows[0] + 1) / 8) if len(rows) else 0
    end = rows[-1] + 1 - gone if len(rows) else len(rgb_HW3)
    moved = np.zeros_like(rgb_HW3)
    moved[len(moved) - end :] = rgb_HW3[:end]
    return moved


def rotated(rgb_HW3: Pixels, degrees: float) -> Pixels:
    """Turned about its middle, the frame large enough to hold it."""
    height, width = rgb_HW3.shape[:2]
    margin = round(0.2 * max(height, width))
    wide = np.pad(rgb_HW3, ((margin, margin), (margin, margin), (0, 0)))
    middle = (wide.shape[1] / 2 - 0.5, wide.shape[0] / 2 - 0.5)
    turn = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    moved = cv2.warpAffine(wide, turn, wide.shape[1::-1], flags=cv2.INTER_LINEAR)
    return moved.astype(np.uint8, copy=False)


def jpeg(rgb_HW3: Pixels, quality: int) -> Pixels:
    """Compressed and decoded."""
    with io.BytesIO() as buffer:
        Image.fromarray(rgb_HW3).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"))


def lit_from_side(rgb_HW3: Pixels, rng: np.random.Generator) -> Pixels:
    """Times a ramp from 0.4 to 1.2 across the picture, from either side."""
    ramp = np.linspace(0.4, 1.2, rgb_HW3.shape[1])[:: 1 if rng.random() < 0.5 else -1]
    return to_pixels(rgb_HW3 * ramp[None, :, None])


def blurred(rgb_HW3: Pixels) -> Pixels:
    """Gaussian blur, σ 1.5 % of the side."""
    soft = cv2.GaussianBlur(rgb_HW3, (0, 0), 0.015 * max(rgb_HW3.shape[:2]))
    return soft.astype(np.uint8, copy=False)


CONDITIONS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "plain": lambda rgb, rng: rgb,
    "white": lambda rgb, rng: on_background(rgb, np.array(COLOURS["white"], float)),
    "grey": lambda rgb, rng: on_background(rgb, np.array(COLOURS["grey"], float)),
    "green": lambda rgb, rng: on_background(rgb, np.array(COLOURS["green"], float)),
    "photo": on_photograph,
    "half": lambda rgb, rng: smaller(rgb, 2, rng),
    "third": lambda rgb, rng: smaller(rgb, 3, rng),
    "cut": lambda rgb, rng: cut_at_wrist(rgb),
    "turned": lambda rgb, rng: rotated(rgb, 20.0 if rng.random() < 0.5 else -20.0),
    "mirrored": lambda rgb, rng: np.ascontiguousarray(rgb[:, ::-1]),
    "dim": lambda rgb, rng: to_pixels(rgb * 0.5),
    "side-lit": lit_from_side,
    "warm": lambda rgb, rng: to_pixels(rgb * np.array([1.15, 1.0, 0.8])),
    "blurred": lambda rgb, rng: blurred(rgb),
    "noisy": lambda rgb, rng: to_pixels(rgb + rng.normal(0, 12, rgb.shape)),
    "jpeg": lambda rgb, rng: jpeg(rgb, 20),
}


def under(condition: str, pictures: Sequence[Pixels], seed: int) -> list[Pixels]:
    """The pictures as they would be under a condition; name and seed decide every draw."""
    rng = np.random.default_rng(list(f"{seed}:{condition}".encode()))
    return [CONDITIONS[condition](each, rng) for each in pictures]

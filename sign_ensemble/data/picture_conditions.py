"""Augmented copies of a picture: the same hand in the same sign, taken otherwise.

A copy is a square picture in which the hand has another size, place and turn, perhaps before
another background, in other light and of worse quality. Each of :data:`CONDITIONS` is drawn for
itself; without any a copy still differs a little. Image, key and number decide every draw.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import cos, log, radians, sin
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.config import Condition
from sign_ensemble.core.opencv_module import opencv
from sign_ensemble.data.backgrounds import background
from sign_ensemble.hands.network_inputs import border_colour

VERSION = 1  # raise when copies change, so that cached features are computed again
SIDE = 320  # pixels of a copy
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
PROBABILITY = 0.35  # of each condition
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

# How far copies differ: (without the condition, with it). Sizes are the hand's share of the copy's
# side, log-uniform; shares of the hand's size are written so.
TURN = (6.0, 25.0)  # degrees to either side: H and U differ by a quarter turn
SIZE = ((0.62, 0.92), (0.28, 0.92))
OUTSIDE = (0.0, 0.14)  # share of the hand's size that may be outside the copy
CORNERS = 0.05  # share of the hand's size by which each corner may move: perspective
TONES = (1.12, 1.6)  # highest ratio of brightness, contrast and gamma
DARKEST = 0.45  # brightness ratio of the condition, at least
RAMP = (0.0, 0.55)  # share of light that one side may lack
GAINS = (1.06, 1.22)  # highest ratio of a channel's gain
BLUR = 0.02  # σ, share of the hand's size
NOISE = 16.0  # σ, levels
QUALITY = (15, 70)  # of JPEG
RESOLUTION = (0.3, 0.8)  # ratio
EDGE = 1.0  # pixels, σ of the edge between hand and background


@dataclass(frozen=True)
class Copy:
    """An augmented copy."""

    picture_HW3: Pixels  # (SIDE, SIDE, 3)
    # homography (3, 3) from points of the image to points of the copy, pixels, the centre of the
    # first pixel at one half
    to_copy: Floats


def condition_settings() -> dict[str, object]:
    """What decides an augmented copy besides image, key and number; part of the cache's key."""
    return {"version": VERSION, "side": SIDE, "conditions": CONDITIONS, "share": PROBABILITY}


def drawn_conditions(key: str, number: int) -> tuple[str, ...]:
    """The conditions that copy ``number`` of the image with this key is taken under; without a
    known hand or background, "background" changes nothing.
    """
    drawn = generator(key, number).random(len(CONDITIONS)) < PROBABILITY
    return tuple(name for name, is_drawn in zip(CONDITIONS, drawn, strict=True) if is_drawn)


def moved_points(points_42: NDArray[np.float32], to_copy: Floats) -> Floats:
    """Points of an image (x and y in turn) in its copy, (42,)."""
    points = points_42.reshape(1, -1, 2).astype(np.float64)
    return opencv().perspectiveTransform(points, to_copy).reshape(-1)


def generator(key: str, number: int) -> np.random.Generator:
    """Draws for copy ``number`` of the image with this key."""
    digest = hashlib.sha256(f"{key}:{number}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between low and high, its logarithm uniform."""
    return float(np.exp(rng.uniform(log(low), log(high))))


def ratio(rng: np.random.Generator, highest: float) -> float:
    """A ratio from 1 / highest to highest, log-uniform."""
    return log_uniform(rng, 1 / highest, highest)


def placement(
    rng: np.random.Generator, active: set[str], box: tuple[float, float, float], mirror: bool
) -> tuple[Floats, float]:
    """Homography from pixel numbers of the image to those of a copy, and the hand's size there.

    ``box`` is the hand's: the x and y of its middle, and its size, in pixels of the image.
    """
    angle = radians(rng.uniform(-1, 1) * TURN["turn" in active])
    size = SIDE * log_uniform(rng, *SIZE["size" in active])
    outside = OUTSIDE[1] * rng.uniform(0.5, 1) if "cut" in active else OUTSIDE[0]
    reach = (SIDE - size) / 2
    shift = rng.uniform(-1, 1, 2) * reach
    if outside:  # over one edge
        axis = int(rng.integers(2))
        shift[axis] = (reach + outside * size) * (1 if rng.random() < 0.5 else -1)
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    moved = square + CORNERS * rng.uniform(-1, 1, (4, 2))
    flip = -1.0 if mirror and rng.random() < 0.5 else 1.0
    turn = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
    target = (moved * [flip, 1]) @ turn.T * size + SIDE / 2 + shift
    source = square * box[2] + [box[0], box[1]]
    matrix = opencv().getPerspectiveTransform(
        (source - 0.5).astype(np.float32), (target - 0.5).astype(np.float32)
    )
    return matrix, size


def lit(picture_HW3: Pixels, rng: np.random.Generator, active: set[str]) -> Pixels:
    """Tone curve, gains of the channels and a ramp of light across the picture."""
    cv2, changed = opencv(), "light" in active
    highest = TONES[changed]
    contrast, gamma = ratio(rng, highest), ratio(rng, highest)
    brightness = log_uniform(rng, DARKEST if changed else 1 / highest, highest)
    gains = [ratio(rng, GAINS["colour" in active]) for _ in range(3)]
    mean = float(np.mean(cv2.mean(picture_HW3)[:3])) / 255
    levels = np.clip(mean + contrast * (np.arange(256) / 255 - mean), 0, 1) ** gamma
    table = np.clip(255 * brightness * levels[:, None] * gains, 0, 255)
    found: Pixels = cv2.LUT(picture_HW3, np.rint(table).astype(np.uint8)[None])
    lack, angle = rng.uniform(0, RAMP[changed]), rng.uniform(0, 2 * np.pi)
    if lack <= 0:
        return found
    line = np.linspace(-0.5, 0.5, len(found), dtype=np.float32)
    ramp_HW = 0.5 + np.float32(cos(angle)) * line[None] + np.float32(sin(angle)) * line[:, None]
    light_HW = 1 - np.float32(lack) * np.clip(ramp_HW, 0, 1)
    return (found * light_HW[:, :, None]).astype(np.uint8)


@lru_cache(maxsize=1)
def noise_tile() -> NDArray[np.float32]:
    """Normal noise that pictures take pieces of: drawing it anew takes longer than all the rest."""
    tile: NDArray[np.float32] = np.random.default_rng(0).standard_normal((960, 960, 3), np.float32)
    return tile


def noise_of(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """A piece (side, side, 3) of the tile, perhaps upside down or with red and blue swapped."""
    top, left = (int(start) for start in rng.integers(0, len(noise_tile()) - side + 1, 2))
    down, channels = rng.choice([-1, 1], 2)
    return noise_tile()[top : top + side, left : left + side][::down, :, ::channels]


def degraded(
    picture_HW3: Pixels, rng: np.random.Generator, active: set[str], size: float
) -> Pixels:
    """Blurred, of fewer pixels, noisy and compressed, by whichever conditions are active."""
    cv2, side = opencv(), len(picture_HW3)
    if "blur" in active:
        picture_HW3 = cv2.GaussianBlur(picture_HW3, (0, 0), max(0.3, BLUR * size * rng.uniform()))
    if "resolution" in active:
        fewer = max(8, round(side * rng.uniform(*RESOLUTION)))
        small = cv2.resize(picture_HW3, (fewer, fewer), interpolation=cv2.INTER_AREA)
        picture_HW3 = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
    if "noise" in active:
        noisy = picture_HW3 + np.float32(rng.uniform(2, NOISE)) * noise_of(rng, side)
        picture_HW3 = np.clip(noisy, 0, 255).astype(np.uint8)
    if "compression" in active:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(QUALITY[0], QUALITY[1] + 1))]
        picture_HW3 = cv2.imdecode(cv2.imencode(".jpg", picture_HW3, quality)[1], 1)
    return picture_HW3


def copy_of(
    image_HW3: Pixels,
    box: tuple[float, float, float],
    hand_HW: Pixels | None,
    key: str,
    number: int,
    mirror: bool = False,
    conditions: Sequence[str] | None = None,
) -> Copy:
    """One augmented copy.

    Args:
        image_HW3: The picture.
        box: Middle (x, y) and size of the hand, pixels.
        hand_HW: How much of each pixel is hand, 0 to 255; None keeps every background.
        key: Of the image.
        number: Of the copy.
        mirror: Whether it may be mirrored.
        conditions: What it is taken under; None draws them.
    """
    cv2, rng = opencv(), generator(key, number)
    drawn = rng.random(len(CONDITIONS)) < PROBABILITY
    active: set[str] = {name for name, one in zip(CONDITIONS, drawn, strict=True) if one}
    active = active if conditions is None else set(conditions)
    if hand_HW is None:
        active -= {"background"}
    matrix, size = placement(rng, active, box, mirror)
    shrink = size / box[2]
    source, to_source = image_HW3, np.eye(3)
    if shrink < 0.6:  # bilinear sampling alone would leave pixels out
        high, wide = (max(1, round(edge * shrink * 1.2)) for edge in image_HW3.shape[:2])
        source = cv2.resize(image_HW3, (wide, high), interpolation=cv2.INTER_AREA)
        scale = np.array([wide / image_HW3.shape[1], high / image_HW3.shape[0]])
        to_source = np.diag([*scale, 1.0])
        to_source[:2, 2] = (scale - 1) / 2
    warp = matrix @ np.linalg.inv(to_source)
    picture = cv2.warpPerspective(
        source, warp, (SIDE, SIDE), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=border_colour(image_HW3),
    )  # fmt: skip
    if "background" in active and hand_HW is not None:
        share = cv2.warpPerspective(hand_HW, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        share_HW1 = cv2.GaussianBlur(share, (0, 0), EDGE)[:, :, None] / np.float32(255)
        behind = background(SIDE, rng)
        picture = (share_HW1 * picture + (1 - share_HW1) * behind + 0.5).astype(np.uint8)
    picture = degraded(lit(picture, rng, active), rng, active, size)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return Copy(picture, half @ matrix @ np.linalg.inv(half))

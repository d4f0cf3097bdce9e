"""The turned square around a hand that the landmark network reads, and the way back.

Coordinates are pixels, x to the right and y downwards; a pixel's centre has whole coordinates plus
one half.

Source: MediaPipe's graphs palm_detection_detection_to_roi and hand_landmark (Apache-2.0), read, not
copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.hands.palm_detection import MIDDLE_KNUCKLE, WRIST, Palm

SIDE = 224  # pixels of the landmark network's input
PALM_SCALE, PALM_SHIFT = 2.6, -0.5  # of the hand's square against the palm's box, along the fingers
HAND_SCALE, HAND_SHIFT = 2.0, -0.1  # the same against the box of known points
OF_PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)  # of the 21 points: those of the palm
POINTS = 21
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """A square in a picture."""

    x: float  # its centre
    y: float
    side: float
    angle: float  # radians by which it is turned: its own x axis points there; clockwise as seen


def turned(angle: float) -> float:
    """The same angle from −π to below π."""
    return (angle + pi) % (2 * pi) - pi


def upright_angle(start: Floats, end: Floats) -> float:
    """The angle of a square in which ``end`` lies straight above ``start``."""
    x, y = end - start
    return turned(pi / 2 - atan2(-y, x))


def region_of_palm(palm: Palm, side: float, left: float, top: float) -> Region:
    """The hand's square by its palm; the detector's square has this side, left and top edge."""
    points = palm.points.astype(np.float64)
    angle = upright_angle(points[WRIST], points[MIDDLE_KNUCKLE])
    x0, y0, x1, y1 = palm.box
    width, height = side * (x1 - x0), side * (y1 - y0)
    shift = PALM_SHIFT * height
    x = left + side * (x0 + x1) / 2 - shift * sin(angle)
    y = top + side * (y0 + y1) / 2 + shift * cos(angle)
    return Region(x, y, PALM_SCALE * max(width, height), angle)


def region_of_points(points_42: Floats) -> Region:
    """The hand's square by its 21 points (x and y in turn), as in a film's next frame."""
    points = points_42.reshape(POINTS, 2)
    of_palm = points[list(OF_PALM)]
    knuckles = (points[5] + points[13]) / 2  # index and ring finger
    angle = upright_angle(points[0], (knuckles + points[9]) / 2)
    axes = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
    within = of_palm @ axes.T
    low, high = within.min(0), within.max(0)
    size, centre = high - low, (low + high) / 2
    x, y = (centre + np.array([0, HAND_SHIFT * size[1]])) @ axes
    return Region(float(x), float(y), float(HAND_SCALE * size.max()), angle)


def to_picture(region: Region) -> Floats:
    """The affine map (2, 3) from shares of the square to pixels of the picture."""
    c, s = region.side * cos(region.angle), region.side * sin(region.angle)
    return np.array([
        [c, -s, region.x - (c - s) / 2],
        [s, c, region.y - (s + c) / 2],
    ])  # fmt: skip


def points_in_picture(points_42: Floats, region: Region) -> Floats:
    """Points in shares of the square → pixels of the picture, (42,)."""
    affine = to_picture(region)
    found: Floats = (points_42.reshape(POINTS, 2) @ affine[:, :2].T + affine[:, 2]).ravel()
    return found


def world_upright(world_63: Floats, region: Region) -> Floats:
    """World points (x, y and z in turn) turned as the hand is turned in the picture, (63,)."""
    c, s = cos(region.angle), sin(region.angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    found: Floats = (world_63.reshape(POINTS, 3) @ turn.T).ravel()
    return found

"""Which pixels are hand: drawn ellipses before known backgrounds.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
import pytest
from rendered_hands import FOUND, SIDE, rendered_hand

from sign_ensemble.core.opencv_module import opencv
from sign_ensemble.data.hand_mask import (
    PALM_WIDTH,
    hand_mask_of,
    mask_by_background,
    mask_by_points,
)
from sign_ensemble.hands.finder import find_hands

SKIN = (190, 140, 110)
Ellipse = tuple[int, int, int, int]  # middle (x, y), half of each axis
HAND: Ellipse = (100, 90, 40, 60)


def inside(of: Ellipse, height: int = 200, width: int = 220) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    middle_x, middle_y, across, down = of
    return ((x - middle_x) / across) ** 2 + ((y - middle_y) / down) ** 2 < 1


def drawn(background: np.ndarray | tuple[int, int, int], of: Ellipse = HAND) -> np.ndarray:
    rgb = np.empty((200, 220, 3), np.uint8)
    rgb[:] = background
    rgb[inside(of)] = SKIN
    return rgb


def noise(sd: float) -> np.ndarray:
    drawn_at = np.random.default_rng(0).normal(128, sd, (200, 220, 3))
    return drawn_at.clip(0, 255).astype(np.uint8)


def points_in(of: Ellipse) -> np.ndarray:
    """21 points on an ellipse of four fifths of the size."""
    x, y, across, down = of
    turns = np.linspace(0, 2 * np.pi, 21)
    points = np.stack([x + 0.8 * across * np.cos(turns), y + 0.8 * down * np.sin(turns)], 1)
    return points.ravel().astype(np.float32)


def agree(mask_HW: np.ndarray, truth_HW: np.ndarray) -> float:
    """Intersection over union."""
    assert mask_HW.dtype == np.uint8 and set(np.unique(mask_HW)) <= {0, 255}
    mask = mask_HW > 0
    return float((mask & truth_HW).sum() / (mask | truth_HW).sum())


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (60, 140, 70), (128, 128, 128)])
def test_a_hand_before_one_colour(colour: tuple[int, int, int]) -> None:
    mask = mask_by_background(drawn(colour))
    assert mask is not None
    assert agree(mask, inside(HAND)) > 0.99


def test_noise_of_a_sensor_is_plain_and_a_pattern_is_not() -> None:
    mask = mask_by_background(drawn(noise(6)))
    assert mask is not None
    assert agree(mask, inside(HAND)) > 0.98
    assert mask_by_background(drawn(noise(60))) is None


def test_a_hand_may_reach_over_the_border() -> None:
    over = (100, 190, 60, 100)
    mask = mask_by_background(drawn((0, 0, 0), over))
    assert mask is not None
    assert agree(mask, inside(over)) > 0.99


def test_nearly_nothing_and_nearly_all_are_no_mask() -> None:
    assert mask_by_background(drawn((0, 0, 0), (100, 90, 20, 20))) is None  # 3 % of the picture
    assert mask_by_background(drawn((0, 0, 0), (100, 90, 25, 25))) is not None  # 4.5 %
    framed = np.full((200, 220, 3), SKIN, np.uint8)
    framed[:3] = framed[-3:] = framed[:, :3] = framed[:, -3:] = 0  # 94 % are hand
    assert mask_by_background(framed) is None


def test_the_points_hull_and_a_margin_around_it() -> None:
    points = np.tile([60.0, 70.0], (21, 1))
    points[1], points[2], points[3] = (140, 70), (140, 120), (60, 120)  # a rectangle of 80 x 50
    mask = mask_by_points(points.ravel().astype(np.float32), 200, 220)
    reach = round(PALM_WIDTH * 80)
    assert mask.shape == (200, 220)
    assert (mask[70:121, 60:141] == 255).all()
    y, x = np.mgrid[:200, :220]
    away = np.hypot(np.maximum(abs(x - 100) - 40, 0), np.maximum(abs(y - 95) - 25, 0))
    assert (mask[away < reach - 1.5] == 255).all()
    assert (mask[away > reach + 1.5] == 0).all()


def test_points_beyond_the_picture() -> None:
    points = points_in(HAND) + np.float32(130)
    mask = mask_by_points(points, 200, 220)
    assert mask[199, 219] == 255 and mask[0, 0] == 0
    assert not mask_by_points(points + np.float32(900), 200, 220).any()


def test_both_together_leave_out_what_is_far_from_the_points() -> None:
    rgb = drawn((0, 0, 0))
    rgb[10:60, 160:210] = SKIN  # another thing
    alone = hand_mask_of(rgb, None)
    together = hand_mask_of(rgb, points_in(HAND))
    assert alone is not None and together is not None
    assert (alone[15:55, 165:205] == 255).all()
    assert agree(together, inside(HAND)) > 0.98


def test_either_alone_serves() -> None:
    patterned = drawn(noise(60))
    by_points = hand_mask_of(patterned, points_in(HAND))
    assert by_points is not None
    assert np.array_equal(by_points, mask_by_points(points_in(HAND), 200, 220))
    assert agree(by_points, inside(HAND)) > 0.7
    assert hand_mask_of(patterned, None) is None


def test_a_rendered_hand_before_its_wall() -> None:
    found = find_hands([rendered_hand(label) for label in FOUND])
    for label, points_42 in zip(FOUND, found.points_N42, strict=True):
        rgb = rendered_hand(label)
        mask = hand_mask_of(rgb, points_42)
        assert mask is not None
        skin = (rgb.max(-1).astype(int) - rgb.min(-1) > 40).astype(np.uint8)  # the wall is grey
        near = mask_by_points(points_42, SIDE, SIDE) > 0
        truth = (opencv().medianBlur(skin * 255, 5) > 0) & near
        assert (mask[truth] > 0).mean() > 0.97  # shadows on the wall may be in it too
        assert 0.05 < (mask > 0).mean() < 0.5

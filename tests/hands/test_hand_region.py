"""The hand's square by hand, and from the square to the picture and back."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np
import pytest

from sign_ensemble.hands.hand_region import (
    OF_PALM,
    Region,
    points_in_picture,
    region_of_palm,
    region_of_points,
    to_picture,
    turned,
    upright_angle,
    world_upright,
)
from sign_ensemble.hands.palm_detection import Palm

CLOCKWISE = np.array([[0.0, 1.0], [-1.0, 0.0]])  # rows of points times it: a quarter turn as seen


def palm(
    box: tuple[float, float, float, float],
    wrist: tuple[float, float],
    knuckle: tuple[float, float],
) -> Palm:
    points = np.full((7, 2), 0.9, np.float32)  # the others never count
    points[0], points[2] = wrist, knuckle
    return Palm(0.8, box, points)


def hand() -> np.ndarray:
    """21 points of an upright hand whose palm is 60 pixels wide and 80 high; its other points lie
    anywhere.
    """
    points = np.full((21, 2), 1000.0)
    points[list(OF_PALM)] = [
        (50, 100), (40, 90), (30, 80), (20, 70), (30, 40), (30, 20), (50, 40), (50, 20),
        (70, 40), (70, 20), (80, 50), (80, 30),
    ]  # fmt: skip
    return points


@pytest.mark.parametrize(
    "end, degrees", [((0, -5), 0), ((5, 0), 90), ((-5, 0), -90), ((5, -5), 45), ((0, 5), -180)]
)
def test_the_angle_of_a_hand(end: tuple[int, int], degrees: float) -> None:
    start = np.array([3.0, 7.0])
    assert np.degrees(upright_angle(start, start + end)) == pytest.approx(degrees)


def test_a_turn_of_more_than_half_is_one_the_other_way() -> None:
    for angle in np.linspace(-9, 9, 37):
        found = turned(angle)
        assert -pi <= found < pi
        assert (cos(found), sin(found)) == pytest.approx((cos(angle), sin(angle)))


# --- by the palm ----------------------------------------------------------------------------------


def test_the_square_of_an_upright_palm() -> None:
    # a square of 400 pixels whose corner lies at (-50, -20); the box is 80 pixels wide and high,
    # its middle at (150, 220); the square is 2.6 times as large and half a box higher
    found = region_of_palm(palm((0.4, 0.5, 0.6, 0.7), (0.5, 0.7), (0.5, 0.5)), 400, -50, -20)
    assert found.angle == pytest.approx(0)
    assert (found.x, found.y, found.side) == pytest.approx((150, 180, 208))


def test_the_square_of_a_palm_that_points_right() -> None:
    found = region_of_palm(palm((0.4, 0.5, 0.6, 0.7), (0.4, 0.6), (0.6, 0.6)), 400, -50, -20)
    assert np.degrees(found.angle) == pytest.approx(90, abs=1e-4)
    assert (found.x, found.y, found.side) == pytest.approx((190, 220, 208))


def test_the_longer_edge_of_the_box_counts() -> None:
    found = region_of_palm(palm((0.4, 0.5, 0.6, 0.6), (0.5, 0.7), (0.5, 0.5)), 100, 0, 0)
    assert (found.x, found.y, found.side) == pytest.approx((50, 50, 52))


# --- by the points --------------------------------------------------------------------------------


def test_the_square_of_upright_points() -> None:
    # the palm's points reach from (20, 20) to (80, 100): twice 80, and a tenth of 80 higher
    found = region_of_points(hand().ravel())
    assert (found.x, found.y, found.side, found.angle) == pytest.approx((50, 52, 160, 0))


def test_fingertips_do_not_count() -> None:
    other = hand()
    other[[4, 7, 8, 11, 12, 15, 16, 19, 20]] = -70
    assert region_of_points(other.ravel()) == region_of_points(hand().ravel())


def test_the_square_turns_with_the_points() -> None:
    found = region_of_points((hand() @ CLOCKWISE).ravel())
    assert (found.x, found.y, found.side) == pytest.approx((-52, 50, 160))
    assert np.degrees(found.angle) == pytest.approx(90)
    for angle in np.radians([17, 133, -101]):
        turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
        found = region_of_points((hand() @ turn * 3 + [5, 9]).ravel())
        x, y = np.array([50, 52]) @ turn * 3 + [5, 9]
        assert (found.x, found.y, found.side) == pytest.approx((x, y, 480))
        assert found.angle == pytest.approx(angle)


# --- there and back -------------------------------------------------------------------------------


def shown(region: Region, *points: tuple[float, float]) -> np.ndarray:
    """Points of the square, in shares of it, as points of the picture."""
    every = np.zeros((21, 2))
    every[: len(points)] = points
    return points_in_picture(every.ravel(), region).reshape(21, 2)[: len(points)]


def test_points_of_an_upright_square() -> None:
    found = shown(Region(100, 60, 40, 0.0), (0, 0), (1, 1), (0.5, 0.5), (1, 0), (0.25, 0.75))
    assert found == pytest.approx(np.array([[80, 40], [120, 80], [100, 60], [120, 40], [90, 70]]))


def test_above_in_a_square_turned_to_the_right_is_right_in_the_picture() -> None:
    found = shown(Region(100, 60, 40, pi / 2), (0.5, 0), (1, 0.5), (0.5, 0.5))
    assert found == pytest.approx(np.array([[120, 60], [100, 80], [100, 60]]))


def test_the_way_there_and_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.uniform(-50, 400, 2)
        region = Region(x, y, rng.uniform(20, 500), rng.uniform(-pi, pi))
        shares = rng.uniform(-0.2, 1.2, (21, 2))
        there = points_in_picture(shares.ravel(), region).reshape(21, 2)
        affine = to_picture(region)
        back = (there - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
        assert back == pytest.approx(shares)
        lengths = np.linalg.norm(there[1:] - there[:-1], axis=1)  # turned, not stretched
        assert lengths == pytest.approx(
            region.side * np.linalg.norm(shares[1:] - shares[:-1], axis=1)
        )


def test_the_square_of_a_square_is_itself() -> None:
    """Points that lie in their own square as they should lie there again at the second reading."""
    region = region_of_points((hand() @ CLOCKWISE).ravel())
    affine = to_picture(region)
    shares = (hand() @ CLOCKWISE - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    upright = region_of_points(shares.ravel())
    assert (upright.x, upright.y, upright.side, upright.angle) == pytest.approx((0.5, 0.5, 1, 0))


def test_world_points_turn_with_the_hand() -> None:
    world = np.zeros((21, 3))
    world[8], world[4] = (0.0, -0.1, 0.02), (0.05, 0.0, -0.01)  # above and right in the square
    found = world_upright(world.ravel(), Region(9, 9, 100, pi / 2)).reshape(21, 3)
    assert found[8] == pytest.approx([0.1, 0.0, 0.02])  # right and below in the picture
    assert found[4] == pytest.approx([0.0, 0.05, -0.01])
    same = world_upright(world.ravel(), Region(9, 9, 100, 0.0))
    assert same == pytest.approx(world.ravel())

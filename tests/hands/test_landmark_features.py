"""Features of 21 points by hand; neither place nor size of the hand changes them.

Letters: N images, D features.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from sign_ensemble.data.backbone import OF_LANDMARKS
from sign_ensemble.hands.finder import Hands
from sign_ensemble.hands.landmark_features import FEATURES, landmark_features

IMAGE, WORLD = slice(0, 40), slice(40, 100)  # the rest are distances
N = 5


def hands(seed: int = 0, count: int = 1) -> Hands:
    """Hands with whole numbers as points, so that sums of them are exact."""
    rng = np.random.default_rng(seed)
    return Hands(
        np.full(N, count),
        np.full(N, 0.9, np.float32),
        np.full(N, 0.9, np.float32),
        rng.integers(0, 200, (N, 42)).astype(np.float32),
        rng.integers(-90, 90, (N, 63)).astype(np.float32),
    )


def features_of(of: Hands, mirrored: bool = False) -> np.ndarray:
    return landmark_features(of, np.full(N, mirrored))


def moved(of: Hands, scale: float, image: list[float], world: list[float]) -> Hands:
    """The hands enlarged and shifted."""
    return replace(
        of,
        points_N42=scale * of.points_N42 + np.tile(image, 21).astype(np.float32),
        world_N63=scale * of.world_N63 + np.tile(world, 21).astype(np.float32),
    )


def test_there_are_310_features() -> None:
    found = features_of(hands())
    assert FEATURES == OF_LANDMARKS == 310
    assert found.shape == (N, 310) and found.dtype == np.float16
    assert np.isfinite(found).all()


def test_features_by_hand() -> None:
    of = hands()
    image, world = np.zeros((21, 2), np.float32), np.zeros((21, 3), np.float32)
    image[:] = 10, 20  # the wrist, and every other point on it
    image[[5, 9, 13, 17]] = (13, 16), (10, 10), (10, 14), (10, 16)  # 5, 10, 6 and 4 from it
    image[8] = 10, -5  # four hand's sizes above the wrist
    world[[5, 9, 13, 17]] = (2, 0, 0), (0, 2, 0), (0, 0, 2), (0, -2, 0)  # each 2
    world[20] = 0, 3, -4
    of.points_N42[0], of.world_N63[0] = image.ravel(), world.ravel()
    found = features_of(of)[0].astype(np.float64)
    by_point = found[IMAGE].reshape(20, 2)  # 25 / 4 is the mean of 5, 10, 6 and 4
    assert by_point[8 - 1] == pytest.approx([0, -25 / 6.25], abs=1e-3)
    assert by_point[5 - 1] == pytest.approx([3 / 6.25, -4 / 6.25], abs=1e-3)
    assert by_point[1 - 1] == pytest.approx([0, 0])
    in_space = found[WORLD].reshape(20, 3)
    assert in_space[20 - 1] == pytest.approx([0, 1.5, -2])
    distances = dict(zip(combinations(range(21), 2), found[100:], strict=True))
    assert len(distances) == 210
    assert distances[0, 20] == pytest.approx(2.5)
    assert distances[5, 9] == pytest.approx(2**0.5, abs=1e-3)
    assert distances[9, 17] == pytest.approx(2)
    assert distances[1, 2] == 0


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_neither_place_nor_size_counts(scale: float) -> None:
    of = hands()
    other = moved(of, scale, [64, -32], [8, 16, -4])
    assert np.array_equal(features_of(other), features_of(of))


def test_size_in_the_picture_and_size_in_metres_are_two() -> None:
    of = hands()
    other = replace(of, points_N42=2 * of.points_N42, world_N63=of.world_N63 / np.float32(4))
    assert np.array_equal(features_of(other), features_of(of))


def test_the_turn_of_a_hand_counts() -> None:
    of = hands()
    image = of.points_N42.reshape(N, 21, 2)[:, :, ::-1] * [1, -1]  # a quarter turn
    other = replace(of, points_N42=image.reshape(N, 42).astype(np.float32))
    difference = np.abs(features_of(other) - features_of(of)).max(0)
    assert difference[IMAGE].min() > 0.1 and not difference[40:].any()


def test_mirrored_is_as_of_the_mirrored_points() -> None:
    of = hands()
    image = of.points_N42.reshape(N, 21, 2) * [-1, 1] + [200, 0]
    world = of.world_N63.reshape(N, 21, 3) * [-1, 1, 1]
    other = replace(
        of,
        points_N42=image.reshape(N, 42).astype(np.float32),
        world_N63=world.reshape(N, 63).astype(np.float32),
    )
    assert np.array_equal(features_of(of, mirrored=True), features_of(other))
    assert np.array_equal(features_of(other, mirrored=True), features_of(of))
    assert not np.array_equal(features_of(other), features_of(of))
    assert np.array_equal(features_of(other)[:, 100:], features_of(of)[:, 100:])  # distances


def test_each_image_is_mirrored_for_itself() -> None:
    of, some = hands(), np.array([True, False, False, True, False])
    found = landmark_features(of, some)
    assert np.array_equal(found[some], features_of(of, mirrored=True)[some])
    assert np.array_equal(found[~some], features_of(of)[~some])


def test_without_a_hand_there_are_zeros() -> None:
    of = hands()
    of.count_N[[1, 3]] = 0
    found = features_of(of)
    assert not found[[1, 3]].any()
    assert np.array_equal(found[[0, 2, 4]], features_of(hands())[[0, 2, 4]])
    nothing = replace(hands(count=0), points_N42=0 * of.points_N42, world_N63=0 * of.world_N63)
    assert not features_of(nothing).any()


def test_points_on_one_spot_are_no_reason_to_fail() -> None:
    spot = replace(hands(), points_N42=np.full((N, 42), 7, np.float32))
    found = features_of(spot)
    assert not found[:, IMAGE].any() and np.isfinite(found).all()
    spot.points_N42[:, 8] = 1000  # far from knuckles that lie on the wrist
    assert np.abs(features_of(spot)).max() == 100

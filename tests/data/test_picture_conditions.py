"""Augmented copies: decided by image, key and number alone, and where the hand is in them.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from rendered_hands import Pixels, flipped, rendered_hand, size_of

from sign_ensemble.data.hand_mask import hand_mask_of
from sign_ensemble.data.picture_conditions import (
    CONDITIONS,
    PROBABILITY,
    SIDE,
    SIZE,
    TURN,
    Copy,
    condition_settings,
    copy_of,
    degraded,
    drawn_conditions,
    generator,
    lit,
    moved_points,
)
from sign_ensemble.hands.finder import Hands, find_hands
from sign_ensemble.hands.hand_crop import box_of
from sign_ensemble.hands.network_inputs import border_colour

NUMBERS = range(1, 201)
BOX = (130.0, 110.0, 120.0)  # of a hand in a picture of 300 x 240 pixels


@lru_cache(maxsize=1)
def hand() -> Hands:
    return find_hands([rendered_hand("v")])


def copy(number: int, key: str = "key", masked: bool = True, mirror: bool = False) -> Copy:
    """Of a rendered hand."""
    rgb, points_42 = rendered_hand("v"), hand().points_N42[0]
    mask = hand_mask_of(rgb, points_42) if masked else None
    return copy_of(rgb, box_of(points_42), mask, key, number, mirror)


def numbers_with(present: Iterable[str] = (), absent: Iterable[str] = ()) -> Iterator[int]:
    """Numbers of copies under some conditions and without others."""
    for number in NUMBERS:
        drawn = set(drawn_conditions("key", number))
        if drawn >= set(present) and not drawn & set(absent):
            yield number


def some(numbers: Iterable[int], most: int = 3) -> list[int]:
    found = [number for number, _ in zip(numbers, range(most), strict=False)]
    assert len(found) == most
    return found


# --- what decides a copy --------------------------------------------------------------------------


def test_image_key_and_number_decide_every_byte() -> None:
    first = [copy(number).picture_HW3 for number in range(1, 9)]
    again = [copy(number).picture_HW3 for number in range(8, 0, -1)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(picture.shape == (SIDE, SIDE, 3) for picture in first)
    assert all(picture.dtype == np.uint8 for picture in first)
    others = [copy(number, "other").picture_HW3 for number in range(1, 9)]
    assert len({picture.tobytes() for picture in first + others}) == 16


def test_a_number_is_not_part_of_the_key() -> None:
    draws = {generator(key, number).random() for key, number in [("a", 11), ("a1", 1), ("a", 1)]}
    assert len(draws) == 3


def test_the_picture_stays_as_it_is() -> None:
    before = rendered_hand("v").copy()
    copy(1)
    assert np.array_equal(rendered_hand("v"), before)


def test_conditions_are_drawn_each_for_itself() -> None:
    drawn = [set(drawn_conditions(f"{i}", 1)) for i in range(2000)]
    for name in CONDITIONS:
        assert np.mean([name in each for each in drawn]) == pytest.approx(PROBABILITY, abs=0.04)
    for first, second in pairwise(CONDITIONS):
        both = np.mean([{first, second} <= each for each in drawn])
        assert both == pytest.approx(PROBABILITY**2, abs=0.03)


def test_the_generator_draws_the_conditions_first() -> None:
    for number in range(1, 30):
        below = generator("key", number).random(len(CONDITIONS)) < PROBABILITY
        assert drawn_conditions("key", number) == tuple(np.array(CONDITIONS)[below])
    assert drawn_conditions("key", 1) == drawn_conditions("key", 1)
    assert len({drawn_conditions("key", number) for number in NUMBERS}) > 100


def test_settings_can_be_written_as_json() -> None:
    about = json.loads(json.dumps(condition_settings()))
    assert about["side"] == SIDE and about["conditions"] == list(CONDITIONS)


# --- the conditions drawn are those that are seen -------------------------------------------------


def test_another_background_only_where_it_is_drawn() -> None:
    for number in some(numbers_with(absent=["background"])):
        assert np.array_equal(copy(number).picture_HW3, copy(number, masked=False).picture_HW3)
    for number in some(numbers_with(["background"])):
        with_mask, without = copy(number), copy(number, masked=False)
        assert np.array_equal(with_mask.to_copy, without.to_copy)
        differ = np.abs(with_mask.picture_HW3.astype(int) - without.picture_HW3).max(-1)
        assert (differ > 10).mean() > 0.3


def test_the_hand_stays_where_the_background_changes() -> None:
    quiet = ["light", "colour", "blur", "noise", "compression", "resolution"]
    rgb, box = np.full((240, 300, 3), 40, np.uint8), BOX
    mask = np.zeros((240, 300), np.uint8)
    rgb[60:160, 80:180], mask[60:160, 80:180] = (200, 150, 120), 255
    for number in some(numbers_with(["background"], quiet), 2):
        made = copy_of(rgb, box, mask, "key", number)
        plain = copy_of(rgb, box, None, "key", number)
        x, y = moved_points(np.array([130.0, 110.0], np.float32), made.to_copy).astype(int)
        here, there = (each.picture_HW3[y - 9 : y + 9, x - 9 : x + 9] for each in (made, plain))
        # without conditions tones and gains differ by a tenth or so, and by other draws
        ratio = here.mean((0, 1)) / there.mean((0, 1))
        assert ratio == pytest.approx(np.ones(3), abs=0.45)
        assert here.std((0, 1)).max() < 6


def turn_and_size(to_copy: np.ndarray) -> tuple[float, float]:
    """Degrees and the hand's size in the copy, over the middle of BOX."""
    x, y, size = BOX
    ends = [x - size / 2, y, x + size / 2, y, x, y - size / 2, x, y + size / 2]
    left, right, top, bottom = moved_points(np.array(ends, np.float32), to_copy).reshape(4, 2)
    across, down = right - left, bottom - top
    # the turn of both axes together, which perspective changes little
    degrees = np.degrees(np.arctan2(across[1] - down[0], across[0] + down[1]))
    return float(degrees), float((np.linalg.norm(across) + np.linalg.norm(down)) / 2)


def test_turn_and_size_are_as_drawn() -> None:
    rgb = np.zeros((240, 300, 3), np.uint8)
    seen: dict[tuple[bool, bool], list[tuple[float, float]]] = {}
    for number in NUMBERS:
        drawn = drawn_conditions("key", number)
        pair = turn_and_size(copy_of(rgb, BOX, None, "key", number).to_copy)
        seen.setdefault(("turn" in drawn, "size" in drawn), []).append(pair)
    for (turned, sized), pairs in seen.items():
        degrees, sizes = np.array(pairs).T
        low, high = np.array(SIZE[sized]) * SIDE
        assert np.abs(degrees).max() < TURN[turned] + 4  # perspective turns a little
        assert low * 0.93 < sizes.min() and sizes.max() < high * 1.07
        if turned:
            assert np.abs(degrees).max() > 15
        if sized:
            assert sizes.min() < 0.4 * SIDE


def outside(number: int) -> float:
    """How far points reach out of a copy, in sizes of the hand."""
    points = moved_points(hand().points_N42[0], copy(number, masked=False).to_copy)
    beyond = max(0.0, -points.min(), points.max() - SIDE)
    return beyond / size_of(points.astype(np.float32))


def test_the_hand_stays_in_the_frame_unless_it_is_cut() -> None:
    kept = [outside(number) for number in some(numbers_with(absent=["cut"]), 60)]
    cut = [outside(number) for number in some(numbers_with(["cut"]), 40)]
    assert max(kept) <= 0.06  # the corners of its box may move by a twentieth
    assert np.mean(np.array(kept) == 0) > 0.8
    assert max(cut) > 0.1 and max(cut) <= 0.25
    assert np.mean(np.array(cut) > 0.02) > 0.35  # across the fingers, or of a narrow hand nothing


def test_only_a_copy_that_may_be_mirrored_is() -> None:
    kept = [np.linalg.det(copy(number, masked=False).to_copy) > 0 for number in range(1, 25)]
    assert all(kept)
    either = [
        np.linalg.det(copy(number, masked=False, mirror=True).to_copy) > 0
        for number in range(1, 41)
    ]
    assert 8 < sum(either) < 32


def test_compression_keeps_each_channel() -> None:
    red = np.zeros((SIDE, SIDE, 3), np.uint8)
    red[:, :, 0] = 200
    found = degraded(red, np.random.default_rng(0), {"compression"}, 200)
    assert np.abs(found.astype(int) - red).max() < 12


@pytest.mark.parametrize("name", ["blur", "resolution", "noise", "compression"])
def test_quality_suffers(name: str) -> None:
    rgb = rendered_hand("v")
    found = degraded(rgb, np.random.default_rng(0), {name}, 200)
    assert found.shape == rgb.shape and found.dtype == np.uint8
    differ = np.abs(found.astype(int) - rgb)
    assert 0 < differ.mean() < 15
    edges = [np.abs(np.diff(each.astype(int), axis=1)).mean() for each in (rgb, found)]
    if name == "noise":
        assert edges[1] > edges[0]
    else:
        assert edges[1] < edges[0]
    assert np.array_equal(degraded(rgb, np.random.default_rng(0), set(), 200), rgb)


def test_light_keeps_the_picture_but_for_tones() -> None:
    rgb = rendered_hand("v")
    calm = [lit(rgb, np.random.default_rng(seed), set()).astype(float) for seed in range(20)]
    changed = [lit(rgb, np.random.default_rng(seed), {"light"}).astype(float) for seed in range(20)]
    means = [each.mean() / rgb.mean() for each in calm]
    assert min(means) > 0.6 and max(means) < 1.4
    assert np.std([each.mean() for each in changed]) > np.std([each.mean() for each in calm])
    for each in calm:  # no ramp: one pixel's level decides
        levels = {level: each[rgb[:, :, 0] == level, 0] for level in (60, 120, 220)}
        assert all(np.ptp(values) == 0 for values in levels.values() if len(values))
    hue = [lit(rgb, np.random.default_rng(seed), {"colour"}).mean((0, 1)) for seed in range(20)]
    cast = [np.log(each / rgb.mean((0, 1))) for each in hue]
    assert np.ptp(cast, axis=1).max() > 0.1


# --- points ---------------------------------------------------------------------------------------


def dots(at: np.ndarray) -> Pixels:
    rgb = np.zeros((240, 300, 3), np.uint8)
    for x, y in at.astype(int):
        rgb[y - 2 : y + 3, x - 2 : x + 3] = 255
    return rgb


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [40.0, 120.0, 600.0])
def test_points_move_with_the_picture(size: float, mirror: bool) -> None:
    """A bright dot is where its point was moved to; a pixel's middle is at one half."""
    quiet = ["light", "blur", "noise", "compression", "resolution"]
    point = np.array([131.5, 108.5])
    for number in some(numbers_with(absent=quiet), 6):
        made = copy_of(dots(point[None]), (*BOX[:2], size), None, "key", number, mirror)
        x, y = moved_points(np.tile(point, 21).astype(np.float32), made.to_copy)[:2]
        if not (10 < x < SIDE - 10 and 10 < y < SIDE - 10):
            continue
        level = made.picture_HW3[:, :, 0].astype(float)
        middle = np.arange(SIDE) + 0.5
        seen = [(level.sum(axis) * middle).sum() / level.sum() for axis in (0, 1)]
        assert (x, y) == pytest.approx(seen, abs=0.3)


def test_points_follow_the_homography() -> None:
    to_copy = np.array([[0.0, -2.0, 100.0], [2.0, 0.0, 30.0], [0.001, 0.0, 1.0]])
    points = np.array([[10.0, 20.0], [100.0, 5.0]])
    found = moved_points(points.ravel().astype(np.float32), to_copy)
    by_hand = [(100 - 40) / 1.01, (30 + 20) / 1.01, (100 - 10) / 1.1, (30 + 200) / 1.1]
    assert found == pytest.approx(by_hand)


def test_beyond_the_picture_is_its_border() -> None:
    quiet = ["light", "colour", "blur", "noise", "compression", "resolution", "background"]
    rgb = np.full((240, 300, 3), (180, 90, 30), np.uint8)
    (number,) = some(numbers_with(absent=quiet), 1)
    found = copy_of(rgb, BOX, None, "key", number).picture_HW3
    assert (found == found[0, 0]).all()
    assert found[0, 0] == pytest.approx(border_colour(rgb), rel=0.35)


def test_the_hand_is_found_again_where_its_points_moved() -> None:
    easy = ["cut", "noise", "resolution", "blur", "compression", "light", "background"]
    for number in some(numbers_with(absent=easy), 4):
        made = copy(number)
        expected = moved_points(hand().points_N42[0], made.to_copy)
        found = find_hands([made.picture_HW3])
        assert found.count_N.tolist() == [1]
        differ = (found.points_N42[0] - expected).reshape(21, 2)
        size = size_of(expected.astype(np.float32))
        assert np.linalg.norm(differ, axis=1).mean() / size < 0.06
        assert found.right_N[0] > 0.5


def test_a_flipped_picture_gives_another_copy() -> None:
    rgb = rendered_hand("v")
    box = box_of(hand().points_N42[0])
    first, second = (copy_of(each, box, None, "key", 1) for each in (rgb, flipped(rgb)))
    assert np.array_equal(first.to_copy, second.to_copy)  # the draws are the same
    assert not np.array_equal(first.picture_HW3, second.picture_HW3)

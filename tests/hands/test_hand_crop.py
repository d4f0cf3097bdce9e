"""The square around a hand, pixel by pixel.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.hands.hand_crop import MARGIN, box_of, hand_crop

WHITE = 255


def points(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """21 points that reach from one corner to the other."""
    at = np.full((21, 2), [(left + right) / 2, (top + bottom) / 2], np.float32)
    at[3], at[20] = (left, top), (right, bottom)
    return at.ravel()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def square(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    """A white square on grey."""
    rgb = np.full((height, width, 3), 50, np.uint8)
    rgb[rows, columns] = WHITE
    return rgb


def extent(crop_HW3: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edge of what is white, by how much of the pixels is."""
    share = (crop_HW3[:, :, 0].astype(float) - 50) / (WHITE - 50)
    middle_row, middle_column = share[len(share) // 2], share[:, share.shape[1] // 2]
    found = []
    for line in (middle_row, middle_column):
        centre = (line * (np.arange(len(line)) + 0.5)).sum() / line.sum()
        found += [centre - line.sum() / 2, centre + line.sum() / 2]
    left, right, top, bottom = found
    return left, top, right, bottom


def test_middle_and_longer_extent_of_the_points() -> None:
    assert box_of(points(100, 40, 140, 120)) == (120, 80, 80)
    assert box_of(points(100, 40, 190, 120)) == (145, 80, 90)
    assert box_of(points(7, 7, 7, 7)) == (7, 7, 1)  # never empty


def test_a_crop_of_as_many_pixels_is_the_picture_itself() -> None:
    rgb = noise(400, 400)
    crop = hand_crop(rgb, points(100, 50, 300, 250), 272)  # 200 and 18 % on either side
    assert MARGIN == 0.18
    assert np.array_equal(crop, rgb[14:286, 64:336])
    mirrored = hand_crop(rgb, points(100, 50, 300, 250), 272, mirrored=True)
    assert np.array_equal(mirrored, crop[:, ::-1])


@pytest.mark.parametrize("side", [68, 90, 136, 200, 272, 400, 544])
def test_a_square_lands_where_it_is_computed(side: int) -> None:
    """The crop's left top corner is (64, 14), 272 pixels are its side."""
    rgb = square(400, 400, slice(100, 200), slice(130, 250))
    crop = hand_crop(rgb, points(100, 50, 300, 250), side)
    assert crop.shape == (side, side, 3) and crop.dtype == np.uint8
    scale = side / 272
    by_hand = [(130 - 64) * scale, (100 - 14) * scale, (250 - 64) * scale, (200 - 14) * scale]
    assert extent(crop) == pytest.approx(by_hand, abs=0.3)
    mirrored = hand_crop(rgb, points(100, 50, 300, 250), side, mirrored=True)
    differ = mirrored.astype(int) - crop[:, ::-1]
    assert np.abs(differ).max() <= 2


@pytest.mark.parametrize("height, width", [(401, 299), (223, 517)])
def test_pictures_of_odd_sizes(height: int, width: int) -> None:
    """Both sides become whole numbers of pixels when the picture is reduced."""
    rgb = square(height, width, slice(60, 160), slice(80, 200))
    left, top, size = 40, 20, 200
    crop = hand_crop(rgb, points(left, top, left + size, top + size), 61)
    scale, corner = 61 / 272, np.array([left, top]) - 36
    first, last = (np.array([80, 60]) - corner) * scale, (np.array([200, 160]) - corner) * scale
    assert extent(crop) == pytest.approx([*first, *last], abs=0.3)


def test_the_shorter_extent_is_filled_up() -> None:
    rgb = noise(400, 400)
    tall = hand_crop(rgb, points(190, 50, 210, 250), 272)
    assert np.array_equal(tall, rgb[14:286, 64:336])


@pytest.mark.parametrize("side", [136, 272])
def test_beyond_the_picture_is_the_median_colour_of_its_border(side: int) -> None:
    rgb = np.full((300, 300, 3), 90, np.uint8)
    rgb[[0, -1]] = rgb[:, [0, -1]] = (10, 200, 30)
    rgb[0, :40] = 0  # a few pixels of the border are others
    crop = hand_crop(rgb, points(-100, 50, 100, 250), side)  # its left half is outside
    half = side // 2
    assert (crop[:, : half - 2] == (10, 200, 30)).all()
    assert (crop[half // 2 : -half // 2, half + 2 :] == 90).all()
    mirrored = hand_crop(rgb, points(-100, 50, 100, 250), side, mirrored=True)
    assert (mirrored[:, half + 2 :] == (10, 200, 30)).all()


def test_a_hand_outside_the_picture_shows_its_border() -> None:
    rgb = np.full((50, 60, 3), (1, 2, 3), np.uint8)
    assert (hand_crop(rgb, points(500, 500, 600, 600), 64) == (1, 2, 3)).all()


def test_the_picture_stays_as_it_is() -> None:
    rgb = noise(90, 90)
    rgb.flags.writeable = False
    before = rgb.copy()
    crop = hand_crop(rgb, points(10, 10, 80, 80), 32)
    assert np.array_equal(rgb, before) and crop.flags.writeable

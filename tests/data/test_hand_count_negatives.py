"""Pictures of no sign, one and two: whose pixels they show, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sign_ensemble.data.hand_count_negatives import (
    SIGNS,
    SIGNS_PER_FOLD,
    no_sign,
    one_sign,
    pictures_of_fold,
    placed,
    signs_of_fold,
    two_signs,
)

RED, BLUE = (200, 10, 10), (10, 10, 200)
FLAT = np.stack([np.full((40, 40, 3), colour, np.uint8) for colour in (RED, BLUE)])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_picture_is_made_smaller_about_its_middle_and_moved() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 200
    smaller = placed(image, 0.5, 0.0, 0.0)
    assert (smaller[16:24, 16:24] == 200).all() and (smaller[:14] == 0).all()
    moved = placed(image, 0.5, 0.25, -0.1)  # ten pixels to the right, four up
    assert (moved[12:20, 26:34] == 200).all() and (moved[:, :24] == 0).all()


def test_beyond_its_border_a_picture_repeats() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, -1] = 200
    assert (placed(image, 0.5, -0.25, 0.0)[:, 25:] == 200).all()


def test_two_signs_lie_on_two_sides_and_the_seam_is_between() -> None:
    mixed = 0
    for picture in two_signs(40, rng(), FLAT):
        red = picture[:, :, 0] > picture[:, :, 2]
        pure = (np.abs(picture.astype(int) - RED).max(-1) < 3) | (
            np.abs(picture.astype(int) - BLUE).max(-1) < 3
        )
        assert pure.mean() > 0.4  # the softest seam is wide
        if 0 < red.mean() < 1:  # two signs drawn, one of each colour
            mixed += 1
            assert 0.4 < red.mean() < 0.6
            sides = np.array([red[:, :4].mean(), red[:, -4:].mean()])
            ends = np.array([red[:4].mean(), red[-4:].mean()])
            assert abs(np.diff(sides)[0]) > 0.9 or abs(np.diff(ends)[0]) > 0.9
    assert 10 < mixed < 30


def test_one_sign_is_of_one_picture_alone() -> None:
    for picture in one_sign(20, rng(), FLAT):
        assert (picture == picture[0, 0]).all()


def test_where_there_is_no_sign_it_was_moved_out_of_the_picture() -> None:
    image = np.full((1, 40, 40, 3), 90, np.uint8)
    image[:, 12:28, 12:28] = 200  # a hand of two fifths of the side
    image[:, 28:, 18:22] = 150  # its arm, which reaches the border below
    left, arms, hand = [], 0, (image[0] == 200).all(-1).mean()
    for picture in no_sign(60, rng(), image):
        left.append((picture[:, :, 0] > 190).mean())
        below = picture[-1, :, 0]  # the arm goes on where the picture ended
        arms += bool((below == 150).sum() >= 2 and (below > 190).sum() == 0)
    assert np.mean(np.array(left) == 0) > 0.4
    assert max(left) < 0.6 * hand
    assert arms > 15


def test_pictures_of_a_fold_come_again_the_same_in_the_order_of_signs() -> None:
    pictures = pictures_of_fold(6, 3, FLAT)
    assert SIGNS == (1, 2, 0)
    assert pictures.shape == (18, 40, 40, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, pictures_of_fold(6, 3, FLAT))
    assert not np.array_equal(pictures, pictures_of_fold(6, 4, FLAT))
    assert all((picture == picture[0, 0]).all() for picture in pictures[:6])
    assert not all((picture == picture[0, 0]).all() for picture in pictures[6:12])
    assert all((picture == picture[0, 0]).all() for picture in pictures[12:])


@pytest.mark.parametrize("make", [no_sign, one_sign, two_signs])
def test_signs_are_left_as_they_are(make: Callable[..., Any]) -> None:
    signs = rng().integers(0, 256, (3, 40, 40, 3), np.uint8)
    before = signs.copy()
    make(8, rng(), signs)
    assert np.array_equal(signs, before)


def test_signs_of_a_fold_are_drawn_from_it_alone() -> None:
    folds = np.arange(900) % 3
    few, many = signs_of_fold(folds[:30], 1, 5), signs_of_fold(folds, 1, 5)
    assert few.tolist() == list(range(1, 30, 3))
    assert len(set(many.tolist())) == SIGNS_PER_FOLD
    assert (folds[many] == 1).all() and (np.diff(many) > 0).all()
    assert np.array_equal(many, signs_of_fold(folds, 1, 5))
    assert not np.array_equal(many, signs_of_fold(folds, 1, 6))

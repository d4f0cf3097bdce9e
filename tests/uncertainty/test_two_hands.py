"""Two signs at once: learned by hand, and told by a guard from signs of people not seen.

Letters: P pictures made, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sign_ensemble import metrics
from sign_ensemble.data.backbone import load
from sign_ensemble.data.two_hands import pictures_of_fold
from sign_ensemble.uncertainty.two_hands import RIDGE, Hands, TwoHands, fit_two_hands

ONE, TWO = np.array([[9.0, 0.0]], np.float16), np.array([[0.0, 4.0]], np.float16)
CLOSE: dict[str, Any] = {"abs": 1e-6, "rel": 0}


def hands() -> Hands:
    """One picture of one sign, one of two."""
    both = np.concatenate([ONE, TWO])
    return Hands(both, np.array([False, True]), np.array([0, 1]))


def test_learned_by_hand() -> None:
    # rooted to (1, 0) and (0, 1), of mean (0.5, 0.5): along (-1, 1) / √2 every image lies 1/√2 from
    # the mean, so the variance is 0.5, of which a third, times RIDGE, is the ridge
    found = fit_two_hands(ONE, hands())
    by_hand = 0.5 / (0.5 + RIDGE * 0.5 / 3)
    assert found.mean_D == pytest.approx([0.5, 0.5], **CLOSE)
    assert found.scores(TWO) == pytest.approx([by_hand], **CLOSE)
    assert found.scores(ONE) == pytest.approx([-by_hand], **CLOSE)
    assert found.scores(np.zeros((1, 2), np.float16)) == pytest.approx([0.0], **CLOSE)
    assert found.scores(np.zeros((0, 2), np.float16)).shape == (0,)


def test_both_sides_weigh_the_same_however_many_signs_there_are() -> None:
    many = fit_two_hands(np.repeat(ONE, 50, 0), hands())
    assert many.mean_D == pytest.approx([0.5, 0.5], **CLOSE)
    assert many.scores(TWO)[0] == pytest.approx(-many.scores(ONE)[0], abs=1e-6)


def test_refusals() -> None:
    one_alone = hands().rows(np.array([True, False]))
    with pytest.raises(ValueError, match="no picture with two"):
        fit_two_hands(ONE, one_alone)
    with pytest.raises(ValueError, match="no training images"):
        fit_two_hands(ONE[:0], hands())
    with pytest.raises(ValueError, match="finite"):
        fit_two_hands(np.array([[np.nan, 1.0]], np.float16), hands())
    with pytest.raises(ValueError, match="finite"):
        fit_two_hands(ONE, hands()).scores(np.array([[np.inf, 1.0]], np.float16))


def test_comes_back_from_its_arrays() -> None:
    found = fit_two_hands(ONE, hands())
    again = TwoHands.of_arrays(found.arrays())
    assert np.array_equal(again.weights_D, found.weights_D)
    assert np.array_equal(again.mean_D, found.mean_D)


def drawn_signs(seed: int, n: int) -> np.ndarray:
    """Bars crossing at random, one cross a picture, on this person's ground in this person's
    colour.
    """
    rng = np.random.default_rng(seed)
    ground, colour = rng.integers(150, 250, 3), rng.integers(20, 110, 3)
    images = np.empty((n, 224, 224, 3), np.uint8)
    y, x = np.indices((224, 224))
    for image in images:
        image[:] = np.clip(ground + rng.normal(0, 3, image.shape), 0, 255)
        middle = 112 + rng.integers(-12, 13, 2)
        for turn in rng.uniform(0, np.pi, 3):
            right, down = np.cos(turn), np.sin(turn)
            along = (x - middle[0]) * right + (y - middle[1]) * down
            beside = (x - middle[0]) * down - (y - middle[1]) * right
            image[(np.abs(along) < rng.integers(40, 70)) & (np.abs(beside) < 9)] = colour
    return images


def test_two_signs_of_people_not_seen_are_told_from_one() -> None:
    net = load()

    def seen(images: np.ndarray) -> np.ndarray:
        return net.of_images(images).deep_ND

    people = [drawn_signs(seed, 24) for seed in range(3)]
    made = [pictures_of_fold(24, seed, signs) for seed, signs in enumerate(people)]
    learned = Hands(
        seen(np.concatenate(made[:2])),
        np.tile(np.repeat([False, True], 24), 2),
        np.repeat([0, 1], 48),
    )
    found = fit_two_hands(seen(np.concatenate(people[:2])), learned)
    one, two = np.split(found.scores(seen(made[2])), 2)
    signs = found.scores(seen(people[2]))
    assert metrics.auroc(signs, two) > 0.98
    assert metrics.auroc(one, two) > 0.98  # a sign that is small and to a side is one sign

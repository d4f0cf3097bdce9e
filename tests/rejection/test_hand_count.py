"""The hand-count detector: fitted by hand, and on drawn signs of unseen signers.

Letters: N images, B images fitted on (signs and made pictures), D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sign_ensemble import metrics
from sign_ensemble.data.backbone import load
from sign_ensemble.data.hand_count_negatives import SIGNS, pictures_of_fold
from sign_ensemble.rejection.hand_count import (
    RIDGE,
    HandCountDetector,
    HandCountImages,
    HandCountTraining,
)
from sign_ensemble.rejection.scores import HAND_COUNT_SCORES

NONE = np.array([[0.0, 0.0, 25.0]], np.float16)
ONE, TWO = np.array([[9.0, 0.0, 0.0]], np.float16), np.array([[0.0, 4.0, 0.0]], np.float16)
CLOSE: dict[str, Any] = {"abs": 1e-6, "rel": 0}


def pictures() -> HandCountImages:
    """A picture of each kind; that without a hand is of another signer."""
    return HandCountImages(
        np.concatenate([ONE, TWO, NONE]), np.array([1, 2, 0]), np.array([0, 0, 1])
    )


def training(signs: np.ndarray = ONE, made: HandCountImages | None = None) -> HandCountTraining:
    return HandCountTraining.of(signs, np.zeros(len(signs), np.int64), made or pictures())


def test_fitted_by_hand() -> None:
    # the Hellinger features of each classifier's pictures are two unit vectors at right angles:
    # every image lies 1/√2 from their mean, so the variance is 0.5, of which a third, times RIDGE,
    # is the ridge
    found = training().fit()
    by_hand = 0.5 / (0.5 + RIDGE * 0.5 / 3)
    assert HAND_COUNT_SCORES == ("no_hand", "two_hands")
    assert found.mean_2D == pytest.approx(np.array([[0.5, 0, 0.5], [0.5, 0.5, 0]]), **CLOSE)
    assert found.scores(NONE)[0] == pytest.approx([by_hand, 0.0], **CLOSE)
    assert found.scores(TWO)[0] == pytest.approx([0.0, by_hand], **CLOSE)
    assert found.scores(ONE)[0] == pytest.approx([-by_hand, -by_hand], **CLOSE)
    assert found.scores(np.zeros((1, 3), np.float16)) == pytest.approx(np.zeros((1, 2)), **CLOSE)
    assert found.scores(np.zeros((0, 3), np.float16)).shape == (0, 2)


def test_both_classes_weigh_the_same_however_many_signs_there_are() -> None:
    many = training(np.repeat(ONE, 50, 0)).fit()
    assert many.mean_2D[1] == pytest.approx([0.5, 0.5, 0], **CLOSE)
    assert many.scores(TWO)[0, 1] == pytest.approx(-many.scores(ONE)[0, 1], abs=1e-6)


def test_a_fit_without_a_signer_is_that_to_the_others() -> None:
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 9, (30, 6)).astype(np.float16)
    groups = np.arange(30) % 3
    made = HandCountImages(
        rng.integers(0, 9, (36, 6)).astype(np.float16), np.arange(36) % 3, np.arange(36) // 12
    )
    without = HandCountTraining.of(signs, groups, made).fit(1)
    others = made.groups_B != 1
    alone = HandCountImages(made.fifth_BD[others], made.hands_B[others], made.groups_B[others])
    by_others = HandCountTraining.of(signs[groups != 1], groups[groups != 1], alone).fit()
    assert without.mean_2D == pytest.approx(by_others.mean_2D, abs=1e-6)
    assert without.weights_2D == pytest.approx(by_others.weights_2D, rel=1e-4, abs=1e-5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="pictures with 0 hands and with one"):
        training().fit(1)  # that signer's is the only one without a hand
    only_two = HandCountImages(TWO, np.array([2]), np.array([1]))
    with pytest.raises(ValueError, match="pictures with 0 hands and with one"):
        HandCountTraining.of(ONE, np.zeros(1, np.int64), pictures()).fit(0)
    with pytest.raises(ValueError, match="pictures with 0 hands and with one"):
        training(made=only_two).fit()
    with pytest.raises(ValueError, match="at least one sign"):
        training(ONE[:0])
    with pytest.raises(ValueError, match="finite"):
        training(np.array([[np.nan, 1.0, 0.0]], np.float16))
    with pytest.raises(ValueError, match="finite"):
        training().fit().scores(np.array([[np.inf, 1.0, 0.0]], np.float16))


def test_a_detector_comes_back_from_its_arrays() -> None:
    found = training().fit()
    again = HandCountDetector.of_arrays(found.arrays())
    assert np.array_equal(again.weights_2D, found.weights_2D)
    assert np.array_equal(again.mean_2D, found.mean_2D)


def drawn_signs(seed: int, n: int) -> np.ndarray:
    """Three crossing bars in each picture; background and colour are the signer's."""
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
            across = (x - middle[0]) * down - (y - middle[1]) * right
            image[(np.abs(along) < rng.integers(40, 70)) & (np.abs(across) < 9)] = colour
    return images


def test_no_hand_and_two_hands_of_an_unseen_signer_are_found() -> None:
    backbone = load()

    def fifth(images: np.ndarray) -> np.ndarray:
        return backbone.of_images(images).fifth_ND

    signers = [drawn_signs(seed, 24) for seed in range(3)]
    made = [pictures_of_fold(24, seed, signs) for seed, signs in enumerate(signers)]
    fitted_on = HandCountImages(
        fifth(np.concatenate(made[:2])), np.tile(np.repeat(SIGNS, 24), 2), np.repeat([0, 1], 72)
    )
    found = HandCountTraining.of(
        fifth(np.concatenate(signers[:2])), np.repeat([0, 1], 24), fitted_on
    ).fit()
    one, two, none = np.split(found.scores(fifth(made[2])), 3)
    signs = found.scores(fifth(signers[2]))
    for signs_N, one_N, ood_N in zip(signs.T, one.T, (none[:, 0], two[:, 1]), strict=True):
        assert metrics.auroc(signs_N, ood_N) > 0.98
        assert metrics.auroc(one_N, ood_N) > 0.98  # small and off the middle, but one sign

"""The part that fits worst: by hand, as the convolutions lay places out, and a hand of two signs.

Letters: N images asked about, B training images, C features of the third layer, K labels, J
places of L layers.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from sign_ensemble.data.backbone import (
    ALL_FEATURES,
    FIFTH_FEATURES,
    FOURTH_FEATURES,
    HEAD_FEATURES,
    THIRD_FEATURES,
    load,
)
from sign_ensemble.data.convolutions import PLACES
from sign_ensemble.metrics import auroc
from sign_ensemble.rejection.class_gaussians import (
    fit_class_gaussians,
    hellinger,
    relative_distance,
)
from sign_ensemble.rejection.regional_mahalanobis import (
    WHOLE,
    J,
    L,
    Layers,
    RegionalGaussians,
    by_region,
    fit_regional,
    regional_distance,
    worst_region,
)

PER_PLACE = 6  # features


def twice(features: np.ndarray) -> Layers:
    """The same in either layer."""
    return features, features


def hands(fingers: list[list[int]], each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many images of each row of fingers: what each of the nine places shows, 0 to 2, noisily.

    A person's light (seed) is in all of them.
    """
    rng = np.random.default_rng(seed)
    shown = np.repeat(np.array(fingers), each, 0)
    values = np.zeros((len(shown), PER_PLACE, J))
    for image, at in product(range(len(shown)), range(J)):
        values[image, shown[image, at], at] = 4.0
    light = rng.uniform(0, 2, (PER_PLACE, J))
    values += light + rng.uniform(0, 3, values.shape)
    labels = np.repeat(np.arange(len(fingers)), each)
    return values.reshape(len(shown), -1).astype(np.float16), labels


SIGNS = [[0] * 9, [1] * 9, [2] * 9, [0, 1, 2] * 3]
WRONG = [[0] * 8 + [2], [1] * 8 + [0], [2, 0] + [2] * 7]  # a sign each but for one place


def several_people() -> tuple[np.ndarray, np.ndarray]:
    """Ten images of each sign by each of six people."""
    parts = [hands(SIGNS, 10, seed) for seed in range(6)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


# --- by hand --------------------------------------------------------------------------------------


def test_the_worst_part_of_the_nearest_label() -> None:
    # two of the places of either layer, three images, two labels; the other places say nothing
    third = np.array([[[1.0, 2.0], [9.0, 1.0], [3.0, 3.0]], [[4.0, 2.0], [0.0, 7.0], [5.0, 5]]])
    all_third = np.array([[1.0, 4.0, 1.0], [3.0, 0.5, 6.0]])
    fourth = np.array([[[0.0, 0.0], [0.0, 3.0], [1.0, 1.0]], [[0.0, 9.0], [0.0, 0.0], [2.0, 1.0]]])
    all_fourth = np.array([[-2.0, 1.0, 0.5], [-7.0, -4.0, 0.0]])
    silent, of_all = np.zeros((J - 2, 3, 2)), np.full((J - 2, 3), 99.0)
    to_labels = np.concatenate([third, silent, fourth, silent])
    to_all = np.concatenate([all_third, of_all, all_fourth, of_all])
    # sums of image 0: 5 and 13, so label 0: third 1 - 1, 4 - 3, fourth 0 + 2, 0 + 7; of image 1: 9
    # and 11, label 0: 9 - 4, 0 - 0.5, 0 - 1, 0 + 4; of image 2: 11 and 10, label 1: 3 - 1, 5 - 6,
    # 1 - 0.5, 1 - 0
    assert worst_region(to_labels, to_all) == pytest.approx([(1 + 7) / 2, (5 + 4) / 2, (2 + 1) / 2])


def test_one_label_is_the_nearest() -> None:
    to_labels = np.repeat([3.0, 1.0], J).reshape(L * J, 1, 1)
    assert worst_region(to_labels, np.repeat([1.0, 0.5], J)[:, None]).tolist() == [(2.0 + 0.5) / 2]


def test_a_little_of_the_whole_counts() -> None:
    features, labels = several_people()
    parts = fit_regional(twice(features), labels)
    alone = regional_distance(twice(features), parts, np.zeros(len(features)))
    both = regional_distance(twice(features), parts, np.full(len(features), 8.0))
    assert both == pytest.approx(alone + 8 * WHOLE)
    assert WHOLE == 0.25


# --- places ---------------------------------------------------------------------------------------


def test_places_are_those_of_the_convolutions() -> None:
    # the highest values of each map in each of nine windows, as convolved here without them
    backbone = load()
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    pixels = (torch.from_numpy(image).permute(0, 3, 1, 2) / 255).float()
    with torch.inference_mode():
        third = backbone.layers.features[:8](pixels)[0]
        fourth = backbone.layers.features[:10](pixels)[0]
        heads_read, every = backbone.layers(pixels), backbone.layers.every(pixels)
    assert every.shape == (1, ALL_FEATURES)
    assert torch.equal(heads_read, every[:, :HEAD_FEATURES])
    assert (len(third) * J, len(fourth) * J) == (THIRD_FEATURES, FOURTH_FEATURES)
    side = third.shape[1]
    for maps, found in (
        (third, every[:, FIFTH_FEATURES:HEAD_FEATURES]),
        (fourth, every[:, HEAD_FEATURES:]),
    ):
        for number, (row, column) in enumerate(product(range(PLACES), repeat=2)):
            rows, columns = (
                slice(at * side // PLACES, -(-(at + 1) * side // PLACES)) for at in (row, column)
            )
            assert torch.equal(by_region(found)[number, 0], maps[:, rows, columns].amax((1, 2)))


def test_every_place_is_rooted_with_the_whole() -> None:
    features, labels = several_people()
    whole = hellinger(features)
    fitted = fit_regional(twice(features), labels)
    for number, clouds in enumerate(fitted.places):
        mean = whole.reshape(len(whole), PER_PLACE, J)[:, :, number % J].mean(0)
        assert clouds.centre_D == pytest.approx(mean.numpy(), abs=1e-6)


# --- wrong gestures -------------------------------------------------------------------------------


def test_a_sign_but_for_one_place_is_stranger_than_a_strangers_sign() -> None:
    features, labels = several_people()
    parts, clouds = fit_regional(twice(features), labels), fit_class_gaussians(features, labels)
    signs = np.concatenate([hands(SIGNS, 25, seed)[0] for seed in range(50, 54)])
    wrong = np.concatenate([hands(WRONG, 25, seed)[0] for seed in range(50, 54)])
    whole = [relative_distance(each, clouds) for each in (signs, wrong)]
    of_signs, of_wrong = (
        regional_distance(twice(each), parts, of_whole)
        for each, of_whole in zip((signs, wrong), whole, strict=True)
    )
    assert auroc(of_signs, of_wrong) > 0.98
    assert auroc(whole[0], whole[1]) < 0.9


# --- files and refusals ---------------------------------------------------------------------------


def test_arrays_are_the_parts() -> None:
    features, labels = several_people()
    fitted = fit_regional(twice(features), labels)
    again = RegionalGaussians.of_arrays(fitted.arrays())
    assert len(again.places) == L * J
    whole = np.zeros(len(features))
    assert np.array_equal(
        regional_distance(twice(features), again, whole),
        regional_distance(twice(features), fitted, whole),
    )
    short = {name: v for name, v in fitted.arrays().items() if name != "17.mean_P"}
    with pytest.raises(KeyError, match=r"17\.mean_P"):
        RegionalGaussians.of_arrays(short)


def test_many_few_and_no_images() -> None:
    features, labels = several_people()
    fitted = fit_regional(twice(features), labels)
    once = regional_distance(twice(features), fitted, np.zeros(len(features)))
    many = regional_distance(twice(np.tile(features, (5, 1))), fitted, np.zeros(5 * len(features)))
    assert many == pytest.approx(np.tile(once, 5), rel=1e-4, abs=1e-4)
    assert regional_distance(twice(features[:0]), fitted, np.zeros(0)).shape == (0,)


def test_a_zero_vector_and_one_label_are_measured() -> None:
    features, labels = several_people()
    black = np.zeros((1, features.shape[1]), np.float16)
    for known in (labels, np.zeros_like(labels)):
        found = regional_distance(twice(black), fit_regional(twice(features), known), np.zeros(1))
        assert np.isfinite(found).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    features, labels = several_people()
    fitted = fit_regional(twice(features), labels)
    features[3, 5] = bad
    with pytest.raises(ValueError, match="finite"):
        regional_distance(twice(features), fitted, np.zeros(len(features)))
    with pytest.raises(ValueError, match="finite"):
        fit_regional(twice(features), labels)
    with pytest.raises(ValueError, match="no training images"):
        fit_regional(twice(features[:0]), labels[:0])

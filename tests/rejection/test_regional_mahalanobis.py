"""Regional Mahalanobis distance: by hand, the layout of regions, and images wrong in one region.

Letters: N images, B images fitted on, D features of a layer, K labels, J regions of both layers.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from sign_ensemble.data.backbone import (
    FIFTH_FEATURES,
    FOURTH_FEATURES,
    HEAD_FEATURES,
    OF_IMAGE,
    THIRD_FEATURES,
    load,
)
from sign_ensemble.data.convolutions import GRID_SIDE
from sign_ensemble.metrics import auroc
from sign_ensemble.rejection.class_gaussians import (
    fit_class_gaussians,
    hellinger,
    label_distances,
    relative_distance,
)
from sign_ensemble.rejection.regional_mahalanobis import (
    LAYERS,
    REGIONS,
    WHOLE_IMAGE,
    Layers,
    RegionalGaussians,
    by_region,
    fit_regional,
    regional_distance,
    worst_region,
)

PER_REGION = 6  # features


def twice(features: np.ndarray) -> Layers:
    """The same in both layers."""
    return features, features


def hands(fingers: list[list[int]], each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many images of each row of fingers: what each of the nine regions shows, 0 to 2, noisily.

    All have the light of one signer (seed).
    """
    rng = np.random.default_rng(seed)
    shown = np.repeat(np.array(fingers), each, 0)
    values = np.zeros((len(shown), PER_REGION, REGIONS))
    for image, at in product(range(len(shown)), range(REGIONS)):
        values[image, shown[image, at], at] = 4.0
    light = rng.uniform(0, 2, (PER_REGION, REGIONS))
    values += light + rng.uniform(0, 3, values.shape)
    labels = np.repeat(np.arange(len(fingers)), each)
    return values.reshape(len(shown), -1).astype(np.float16), labels


SIGNS = [[0] * 9, [1] * 9, [2] * 9, [0, 1, 2] * 3]
WRONG = [[0] * 8 + [2], [1] * 8 + [0], [2, 0] + [2] * 7]  # each a sign but for one region


def several_signers() -> tuple[np.ndarray, np.ndarray]:
    """Ten images of each sign by each of six signers."""
    parts = [hands(SIGNS, 10, seed) for seed in range(6)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


# --- by hand --------------------------------------------------------------------------------------


def test_the_worst_region_of_the_nearest_label() -> None:
    # two regions of each layer, three images, two labels; the other regions never count
    third = np.array([[[1.0, 2.0], [9.0, 1.0], [3.0, 3.0]], [[4.0, 2.0], [0.0, 7.0], [5.0, 5]]])
    all_third = np.array([[1.0, 4.0, 1.0], [3.0, 0.5, 6.0]])
    fourth = np.array([[[0.0, 0.0], [0.0, 3.0], [1.0, 1.0]], [[0.0, 9.0], [0.0, 0.0], [2.0, 1.0]]])
    all_fourth = np.array([[-2.0, 1.0, 0.5], [-7.0, -4.0, 0.0]])
    silent, of_all = np.zeros((REGIONS - 2, 3, 2)), np.full((REGIONS - 2, 3), 99.0)
    to_labels = np.concatenate([third, silent, fourth, silent])
    to_all = np.concatenate([all_third, of_all, all_fourth, of_all])
    # sums of image 0: 5 and 13, so label 0: third 1 - 1, 4 - 3, fourth 0 + 2, 0 + 7; of image 1: 9
    # and 11, label 0: 9 - 4, 0 - 0.5, 0 - 1, 0 + 4; of image 2: 11 and 10, label 1: 3 - 1, 5 - 6,
    # 1 - 0.5, 1 - 0
    assert worst_region(to_labels, to_all) == pytest.approx([(1 + 7) / 2, (5 + 4) / 2, (2 + 1) / 2])


def test_one_label_is_the_nearest() -> None:
    to_labels = np.repeat([3.0, 1.0], REGIONS).reshape(LAYERS * REGIONS, 1, 1)
    to_all = np.repeat([1.0, 0.5], REGIONS)[:, None]
    assert worst_region(to_labels, to_all).tolist() == [(2.0 + 0.5) / 2]


def test_a_quarter_of_the_distance_of_the_image_is_added() -> None:
    features, labels = several_signers()
    regional = fit_regional(twice(features), labels)
    alone = regional_distance(twice(features), regional, np.zeros(len(features)))
    both = regional_distance(twice(features), regional, np.full(len(features), 8.0))
    assert both == pytest.approx(alone + 8 * WHOLE_IMAGE)
    assert WHOLE_IMAGE == 0.25


# --- regions --------------------------------------------------------------------------------------


def test_regions_are_those_of_the_convolutions() -> None:
    # the highest values of each map in each of nine windows, as convolved here without them
    backbone = load()
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    pixels = (torch.from_numpy(image).permute(0, 3, 1, 2) / 255).float()
    with torch.inference_mode():
        third = backbone.layers.features[:8](pixels)[0]
        fourth = backbone.layers.features[:10](pixels)[0]
        heads_read, every = backbone.layers(pixels), backbone.layers.every(pixels)
    assert every.shape == (1, OF_IMAGE)
    assert torch.equal(heads_read, every[:, :HEAD_FEATURES])
    assert (len(third) * REGIONS, len(fourth) * REGIONS) == (THIRD_FEATURES, FOURTH_FEATURES)
    side = third.shape[1]
    for maps, found in (
        (third, every[:, FIFTH_FEATURES:HEAD_FEATURES]),
        (fourth, every[:, HEAD_FEATURES:]),
    ):
        for number, (row, column) in enumerate(product(range(GRID_SIDE), repeat=2)):
            rows, columns = (
                slice(at * side // GRID_SIDE, -(-(at + 1) * side // GRID_SIDE))
                for at in (row, column)
            )
            assert torch.equal(by_region(found)[number, 0], maps[:, rows, columns].amax((1, 2)))


def test_regions_are_parts_of_the_layers_hellinger_features() -> None:
    features, labels = several_signers()
    layer = hellinger(features)
    fitted = fit_regional(twice(features), labels)
    for number, gaussians in enumerate(fitted.regions):
        by_hand = layer.reshape(len(layer), PER_REGION, REGIONS)[:, :, number % REGIONS]
        mean = by_hand.mean(0)
        assert gaussians.centre_D == pytest.approx(mean.numpy(), abs=1e-6)


# --- wrong gestures -------------------------------------------------------------------------------


def test_an_image_wrong_in_one_region_is_farther_than_an_unseen_signers_sign() -> None:
    features, labels = several_signers()
    regional, third = fit_regional(twice(features), labels), fit_class_gaussians(features, labels)
    signs = np.concatenate([hands(SIGNS, 25, seed)[0] for seed in range(50, 54)])
    wrong = np.concatenate([hands(WRONG, 25, seed)[0] for seed in range(50, 54)])
    of_image = [relative_distance(*label_distances(each, third)) for each in (signs, wrong)]
    of_signs, of_wrong = (
        regional_distance(twice(each), regional, of_image_N)
        for each, of_image_N in zip((signs, wrong), of_image, strict=True)
    )
    assert auroc(of_signs, of_wrong) > 0.98
    assert auroc(of_image[0], of_image[1]) < 0.9


# --- files and refusals ---------------------------------------------------------------------------


def test_regional_gaussians_come_back_from_their_arrays() -> None:
    features, labels = several_signers()
    fitted = fit_regional(twice(features), labels)
    again = RegionalGaussians.of_arrays(fitted.arrays())
    assert len(again.regions) == LAYERS * REGIONS
    of_image = np.zeros(len(features))
    assert np.array_equal(
        regional_distance(twice(features), again, of_image),
        regional_distance(twice(features), fitted, of_image),
    )
    short = {name: v for name, v in fitted.arrays().items() if name != "17.mean_P"}
    with pytest.raises(KeyError, match=r"17\.mean_P"):
        RegionalGaussians.of_arrays(short)


def test_many_few_and_no_images() -> None:
    features, labels = several_signers()
    fitted = fit_regional(twice(features), labels)
    once = regional_distance(twice(features), fitted, np.zeros(len(features)))
    many = regional_distance(twice(np.tile(features, (5, 1))), fitted, np.zeros(5 * len(features)))
    assert many == pytest.approx(np.tile(once, 5), rel=1e-4, abs=1e-4)
    assert regional_distance(twice(features[:0]), fitted, np.zeros(0)).shape == (0,)


def test_a_zero_vector_and_a_single_label_have_finite_distances() -> None:
    features, labels = several_signers()
    black = np.zeros((1, features.shape[1]), np.float16)
    for known in (labels, np.zeros_like(labels)):
        found = regional_distance(twice(black), fit_regional(twice(features), known), np.zeros(1))
        assert np.isfinite(found).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    features, labels = several_signers()
    fitted = fit_regional(twice(features), labels)
    features[3, 5] = bad
    with pytest.raises(ValueError, match="finite"):
        regional_distance(twice(features), fitted, np.zeros(len(features)))
    with pytest.raises(ValueError, match="finite"):
        fit_regional(twice(features), labels)
    with pytest.raises(ValueError, match="at least one image"):
        fit_regional(twice(features[:0]), labels[:0])

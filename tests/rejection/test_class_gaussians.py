"""Class Gaussians of two dimensions by hand, and images between planted labels.

Letters: N images, B images fitted on, D features, P principal components, K labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    covariances,
    fit_class_gaussians,
    hellinger,
    label_distances,
    principal_axes,
    relative_distance,
    shrunk,
)

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
CLOSE: dict[str, Any] = {"abs": 1e-5, "rel": 0}
exact = pytest.mark.usefixtures("exact_products")


def half(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float16)


def by_hand() -> ClassGaussians:
    """Labels at (1, 0) and (0, 1), all images around (0.6, 0.8); nothing is rotated or moved."""
    return ClassGaussians(
        centre_D=np.zeros(2, np.float32),
        axes_DP=np.eye(2, dtype=np.float32),
        means_KP=np.eye(2, dtype=np.float32),
        precisions_KPP=np.array([np.eye(2), np.diag([2.0, 4.0])], np.float32),
        mean_P=np.array([0.6, 0.8], np.float32),
        precision_PP=10 * np.eye(2, dtype=np.float32),
    )


def relative(features_ND: np.ndarray, gaussians: ClassGaussians) -> np.ndarray:
    return relative_distance(*label_distances(features_ND, gaussians))


def drawn(seed: int, at: list[list[float]], signers: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Twelve images by each of so many signers at each of these corners of twelve dimensions."""
    rng = np.random.default_rng(seed)
    corners = np.zeros((len(at), 12))
    corners[:, :3] = at
    labels_N = np.repeat(np.arange(len(at)), 12 * signers)
    features_ND = corners[labels_N] + rng.uniform(0, 0.3, (len(labels_N), 12))
    return features_ND.astype(np.float16), labels_N


# --- Hellinger features ---------------------------------------------------------------------------


def test_hellinger_features_have_length_1() -> None:
    found = hellinger(half([9, 16], [4, 0], [-3, 5]))  # a unit below 0 counts as 0
    assert found.numpy() == pytest.approx(np.array([[0.6, 0.8], [1, 0], [0, 1]]), **CLOSE)
    assert hellinger(half([0, 0])).tolist() == [[0.0, 0.0]]


# --- covariances ----------------------------------------------------------------------------------


def test_a_covariance_is_shrunk_towards_a_sphere() -> None:
    # 0.8 of itself and 0.2 of the spherical one with the same trace
    assert shrunk(np.array([[3.0, 1.0], [1.0, 1.0]])) == pytest.approx(
        np.array([[2.8, 0.8], [0.8, 1.2]]), **EXACT
    )
    assert np.linalg.inv(shrunk(np.zeros((2, 2)))) == pytest.approx(5e9 * np.eye(2))


def test_two_labels_by_hand() -> None:
    values = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [0.0, 6.0]])
    means, each, of_all = covariances(values, np.array([3, 3, 7, 7]))
    assert means.tolist() == [[1.0, 0.0], [0.0, 5.0]]
    # pooled: diag(0.5, 0.5), spherical already; own: diag(1, 0) and diag(0, 1), 0.3 of them
    assert each == pytest.approx(np.array([np.diag([0.65, 0.35]), np.diag([0.35, 0.65])]), **EXACT)
    # all: variances 0.75 and 6.75, covariance -1.25; 0.8 of that and 0.2 of 3.75 each
    assert of_all == pytest.approx(np.array([[1.35, -1.0], [-1.0, 6.15]]), **EXACT)


def test_one_label_by_hand() -> None:
    means, each, of_all = covariances(np.array([[0.0, 0.0], [2.0, 0.0]]), np.zeros(2, np.int64))
    assert means.tolist() == [[1.0, 0.0]]
    assert of_all == pytest.approx(np.diag([0.9, 0.1]), **EXACT)
    assert each[0] == pytest.approx(np.diag([0.7 * 0.9 + 0.3, 0.7 * 0.1]), **EXACT)


# --- distances ------------------------------------------------------------------------------------


@exact
def test_relative_distance_by_hand() -> None:
    # Hellinger features: (0.6, 0.8), (1, 0), (0, 1), (0, 0)
    found = relative(half([9, 16], [4, 0], [0, 1], [0, 0]), by_hand())
    # to the labels: 0.8 and 0.88; 0 and 6; 2 and 0; 1 and 4. To all: 0; 8; 4; 10
    assert found == pytest.approx([0.8, 0 - 8, 0 - 4, 1 - 10], **CLOSE)
    assert found.dtype == np.float64


@exact
def test_the_order_of_labels_never_matters() -> None:
    gaussians = replace(by_hand(), precisions_KPP=np.array([np.eye(2)] * 2, np.float32))
    swapped = replace(gaussians, means_KP=gaussians.means_KP[::-1].copy())
    middle = half([1, 1], [9, 16])
    found = relative(middle, gaussians)
    assert np.array_equal(found, relative(middle, swapped))
    root = np.sqrt(0.5)  # as far from either label
    to_label = (1 - root) ** 2 + 0.5
    to_all = 10 * ((root - 0.6) ** 2 + (root - 0.8) ** 2)
    assert found[0] == pytest.approx(to_label - to_all, **CLOSE)


def test_more_images_than_one_product_holds() -> None:
    few = half([9, 16], [4, 0], [0, 1])
    many = relative(np.tile(few, (700, 1)), by_hand())
    assert many == pytest.approx(np.tile(relative(few, by_hand()), 700), **CLOSE)
    assert relative(few[:0], by_hand()).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        relative(half([bad, 1]), by_hand())
    with pytest.raises(ValueError, match="finite"):
        fit_class_gaussians(half([bad, 1], [1, 2]), np.array([0, 1]))


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        fit_class_gaussians(half([1, 2])[:0], np.zeros(0, np.int64))


# --- fits -----------------------------------------------------------------------------------------


def test_axes_are_the_principal_ones() -> None:
    rng = np.random.default_rng(0)
    x_BD = torch.from_numpy(rng.normal(size=(40, 20)) * np.arange(1, 21)).float()
    x_BD = x_BD - x_BD.mean(0)
    found = principal_axes(x_BD, 3).numpy()
    exact = np.linalg.svd(x_BD.numpy())[2][:3].T
    assert np.abs(found.T @ exact) == pytest.approx(np.eye(3), abs=1e-3)
    assert principal_axes(x_BD[:2], 200).shape == (20, 1)  # two images differ along one axis


def test_an_image_between_the_labels_is_farther_than_any_sign() -> None:
    corners = [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]
    features, labels = drawn(0, corners)
    gaussians = fit_class_gaussians(features, labels)
    signs = relative(drawn(1, corners)[0], gaussians)
    between = relative(drawn(1, [[5.0, 5.0, 0.0], [0.0, 5.0, 5.0]])[0], gaussians)
    assert between.min() > signs.max()
    assert np.isfinite(relative(np.zeros((1, 12), np.float16), gaussians)).all()


def test_degenerate_fits_stay_finite() -> None:
    same = np.tile(half([1, 2, 3]), (3, 1))
    for features, labels in ((same, [0, 0, 1]), (same, [5, 5, 5]), (same[:1], [0])):
        gaussians = fit_class_gaussians(features, np.array(labels))
        found = relative(half([1, 2, 3], [3, 2, 1], [0, 0, 0]), gaussians)
        assert np.isfinite(found).all()
        assert found[0] == pytest.approx(0, abs=1e-3)


def test_the_same_fit_gives_the_same_bits() -> None:
    features, labels = drawn(0, [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    first, second = (fit_class_gaussians(features, labels).arrays() for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    again = ClassGaussians.of_arrays(first)
    assert np.array_equal(relative(features, again), relative(features, again))


@exact
def test_distances_to_each_label_by_hand() -> None:
    to_labels, to_all = label_distances(half([9, 16], [4, 0], [0, 0]), by_hand())
    # from (0.6, 0.8), (1, 0) and (0, 0) to (1, 0) with weights 1, 1 and to (0, 1) with 2, 4
    by_label = [[0.16 + 0.64, 2 * 0.36 + 4 * 0.04], [0.0, 2 + 4], [1.0, 4.0]]
    assert to_labels == pytest.approx(np.array(by_label), **CLOSE)
    assert to_all == pytest.approx([0.0, 10 * (0.16 + 0.64), 10.0], **CLOSE)
    none = label_distances(half([1, 0])[:0], by_hand())
    assert (none[0].shape, none[1].shape) == ((0, 2), (0,))


def test_augmented_copies_widen_a_gaussian_and_leave_its_axes() -> None:
    features, labels = drawn(0, [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    moved = (features[:, None] + np.array([0.0, 0.0, 4.0] + 9 * [0.0])).astype(np.float16)
    plain, widened = (
        fit_class_gaussians(features, labels),
        fit_class_gaussians(features, labels, augmented_BVD=moved),
    )
    assert np.array_equal(plain.axes_DP, widened.axes_DP)
    assert np.array_equal(plain.centre_D, widened.centre_D)
    away = moved[:, 0]  # as the copies are: far from the plain Gaussian, inside the wide one
    far, near = (label_distances(away, c)[0].min(1) for c in (plain, widened))
    assert near.max() < far.min()


def test_fewer_components_where_fewer_are_wanted() -> None:
    features, labels = drawn(0, [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    assert fit_class_gaussians(features, labels, 3).axes_DP.shape == (12, 3)


@pytest.mark.usefixtures("rounded_products")
def test_rounded_factors_hardly_move_a_relative_distance() -> None:
    at = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    features_BD, labels_B = drawn(0, at)
    new_ND = np.concatenate([drawn(1, at)[0], drawn(1, [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])[0]])
    gaussians = fit_class_gaussians(features_BD, labels_B)
    exact = gaussians.axes_DP.astype(np.float64)
    values_NP = (hellinger(new_ND).double().numpy() - gaussians.centre_D) @ exact
    from_each = values_NP[:, None] - np.concatenate([gaussians.means_KP, gaussians.mean_P[None]])
    precisions = np.concatenate([gaussians.precisions_KPP, gaussians.precision_PP[None]])
    precisions = precisions.astype(float)
    squared = np.einsum("nlp,lpq,nlq->nl", from_each, precisions, from_each)
    exact_N = squared[:, :-1].min(1) - squared[:, -1]
    off_N = relative(new_ND, gaussians) - exact_N
    assert 0 < off_N.std() < 0.01 * exact_N.std()
    assert np.abs(off_N).max() < 0.03 * exact_N.std()

"""Cosine distances by hand, other signers' images alone, and how reference images are drawn.

Letters: N images, B reference images, D features.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours, draw_reference_rows

CLOSE: dict[str, Any] = {"abs": 1e-6, "rel": 0}
exact = pytest.mark.usefixtures("exact_products")


def half(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float16)


def knn_distance(
    images_ND: np.ndarray, reference_BD: np.ndarray, k: int, *groups: np.ndarray
) -> np.ndarray:
    return NearestNeighbours.of(reference_BD).distances(images_ND, k, *groups)


REFERENCE_BD = half([3, 0], [0, 2], [-5, 0], [1, 1])
IMAGES_ND = half([7, 0], [1, 1], [0, -4])  # cosines 1 0 -1 √½, √½ √½ -√½ 1, 0 -1 0 -√½


@exact
@pytest.mark.parametrize(
    ("k", "cosines"),
    [
        (1, [1, 1, 0]),
        (2, [sqrt(0.5), sqrt(0.5), 0]),
        (3, [0, sqrt(0.5), -sqrt(0.5)]),
        (4, [-1, -sqrt(0.5), -1]),
        (9, [-1, -sqrt(0.5), -1]),  # more than there are: the last
    ],
)
def test_distance_to_the_kth_neighbour(k: int, cosines: list[float]) -> None:
    found = knn_distance(IMAGES_ND, REFERENCE_BD, k)
    assert found == pytest.approx(1 - np.array(cosines), **CLOSE)
    assert found.dtype == np.float64


@exact
def test_length_never_matters() -> None:
    rng = np.random.default_rng(0)
    x_ND, reference_BD = rng.normal(size=(5, 8)), rng.normal(size=(6, 8))
    found = knn_distance(x_ND.astype(np.float16), reference_BD.astype(np.float16), 2)
    longer = knn_distance((64 * x_ND).astype(np.float16), reference_BD.astype(np.float16), 2)
    assert found == pytest.approx(longer, **CLOSE)


@exact
def test_a_zero_vector_is_at_distance_1_from_everything() -> None:
    zero = half([0, 0])
    for others in (REFERENCE_BD, zero):
        assert knn_distance(zero, others, 1) == pytest.approx([1.0], **CLOSE)


@exact
def test_the_longest_features_neither_overflow_nor_leave_0_to_2() -> None:
    longest = np.full((1, 9216), 65504, np.float16)
    # its float32 cosine with itself is 1.0000135 on one processor, 0.9999973 on another
    (same,), (opposite,) = (knn_distance(longest, x, 1) for x in (longest, -longest))
    assert 0 <= same < 1e-4
    assert 2 - 1e-4 < opposite <= 2


@exact
def test_more_images_than_one_product_holds() -> None:
    many = np.tile(IMAGES_ND, (700, 1))  # 2,100: three products
    groups_N = np.tile([0, 1, 2], 700)
    few = knn_distance(IMAGES_ND, REFERENCE_BD, 2, np.array([0, 1, 2]), np.array([0, 1, 1, 0]))
    found = knn_distance(many, REFERENCE_BD, 2, groups_N, np.array([0, 1, 1, 0]))
    assert found == pytest.approx(np.tile(few, 700), **CLOSE)


@exact
def test_reference_images_of_the_same_signer_are_left_out() -> None:
    groups_N, groups_B = np.array([0, 0, 1]), np.array([0, 1, 1, 0])
    # compared with: [0, 2] and [-5, 0] for the first two, [3, 0] and [1, 1] for the third
    nearest = knn_distance(IMAGES_ND, REFERENCE_BD, 1, groups_N, groups_B)
    assert nearest == pytest.approx([1 - 0, 1 - sqrt(0.5), 1 - 0], **CLOSE)
    second = knn_distance(IMAGES_ND, REFERENCE_BD, 2, groups_N, groups_B)
    assert second == pytest.approx([1 + 1, 1 + sqrt(0.5), 1 + sqrt(0.5)], **CLOSE)


@exact
def test_k_beyond_the_other_signers_images_takes_their_last() -> None:
    groups_N, groups_B = np.array([0, 0, 1]), np.array([0, 1, 1, 0])
    second = knn_distance(IMAGES_ND, REFERENCE_BD, 2, groups_N, groups_B)
    for k in (3, 4, 5):
        assert np.array_equal(knn_distance(IMAGES_ND, REFERENCE_BD, k, groups_N, groups_B), second)


@pytest.mark.usefixtures("rounded_products")
def test_rounded_factors_hardly_move_a_distance() -> None:
    """Of similar features, as those of hands are: cosines of .9 to 1."""
    rng = np.random.default_rng(2)
    drawn = np.maximum(0, 2 + rng.normal(size=(1, 900)) + 0.5 * rng.normal(size=(80, 900)))
    x_ND, reference_BD = drawn[:40].astype(np.float16), drawn[40:].astype(np.float16)
    unit_ND, unit_BD = (
        x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
        for x in (x_ND, reference_BD)
    )
    exact_N = np.sort(1 - unit_ND @ unit_BD.T, axis=1)[:, 2]
    off_N = knn_distance(x_ND, reference_BD, 3) - exact_N
    assert np.abs(off_N).max() < 3e-4  # rounded cosines would be .004 off
    assert knn_distance(reference_BD, reference_BD, 1) == pytest.approx(np.zeros(40), abs=3e-4)


def test_without_other_signers_the_distance_is_the_largest() -> None:
    zeros = np.zeros(4, np.int64)
    assert knn_distance(IMAGES_ND, REFERENCE_BD, 2, zeros[:3], zeros).tolist() == [2.0, 2.0, 2.0]


def test_no_images_have_no_distances() -> None:
    assert knn_distance(IMAGES_ND[:0], REFERENCE_BD, 1).shape == (0,)


# --- draws ----------------------------------------------------------------------------------------


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Labels and folds of 2 labels x 2 folds: cells of 40, 40, 40 and 3 images, shuffled."""
    found = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [40, 40, 40, 3], axis=0)
    found = np.random.default_rng(1).permutation(found)
    return found[:, 0], found[:, 1]


def counts(chosen: np.ndarray) -> list[int]:
    labels, folds = cells()
    return np.bincount(2 * labels[chosen] + folds[chosen], minlength=4).tolist()


def test_images_are_taken_from_every_cell_in_turn() -> None:
    labels, folds = cells()
    assert counts(draw_reference_rows(labels, folds, 8, seed=0)) == [2, 2, 2, 2]
    assert counts(draw_reference_rows(labels, folds, 12, seed=0)) == [3, 3, 3, 3]
    # the small cell is used up
    assert counts(draw_reference_rows(labels, folds, 33, seed=0)) == [10, 10, 10, 3]
    rest = counts(draw_reference_rows(labels, folds, 34, seed=0))
    assert (sorted(rest), rest[3]) == ([3, 10, 10, 11], 3)


def test_a_draw_is_sorted_and_without_repeats() -> None:
    labels, folds = cells()
    chosen = draw_reference_rows(labels, folds, 50, seed=3)
    assert len(np.unique(chosen)) == len(chosen) == 50
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, draw_reference_rows(labels, folds, 50, seed=3))
    assert not np.array_equal(chosen, draw_reference_rows(labels, folds, 50, seed=4))


@pytest.mark.parametrize("most", [123, 124, 4000])
def test_all_images_are_taken_where_they_are_few(most: int) -> None:
    labels, folds = cells()
    assert draw_reference_rows(labels, folds, most, seed=0).tolist() == list(range(123))

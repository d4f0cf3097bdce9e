"""Patches that a label's images lack: by hand, moved hands, and hands with a finger of another.

Letters: N images asked about, B training images, Q places, L levels of an image.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sign_ensemble.data.backbone import PATCHES, SECOND, L
from sign_ensemble.metrics import auroc
from sign_ensemble.uncertainty.patches import (
    PER_LABEL,
    SHIFTS,
    WORST,
    Patches,
    Q,
    fit_patches,
    nearest,
    some_of,
    unit,
)

DOTS = {0: [(2, 2), (2, 6), (6, 1)], 1: [(2, 4), (6, 2), (6, 6)], 2: [(4, 4), (2, 2), (6, 6)]}
MIXED = [(2, 2), (2, 6), (6, 6)]  # label 0 but for the last, which label 1 has


def hand(dots: list[tuple[int, int]], rng: np.random.Generator, by: int = 0) -> np.ndarray:
    """One image's levels (L,): a fingertip at each dot, in maps of its own, moved by so many places
    in either direction, in a person's noise.
    """
    levels = rng.integers(0, 40, (SECOND, PATCHES, PATCHES))
    for number, (row, column) in enumerate(dots):
        down, right = rng.integers(-by, by + 1, 2)
        levels[40 * number : 40 * number + 40, row + down, column + right] += 150
    return levels.astype(np.uint8).reshape(L)


def people(each: int, seed: int, by: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(DOTS), each)
    return np.stack([hand(DOTS[label], rng, by) for label in labels]), labels


# --- by hand --------------------------------------------------------------------------------------


def test_the_nearest_patch_may_lie_a_place_away() -> None:
    bank = torch.zeros(Q, 2, 1)  # two images, all patches 0 but for one of the second image
    bank[4 * PATCHES + 4, 1, 0] = 3.0
    asked = torch.full((Q, 1, 1), 3.0)
    found = nearest(asked, bank)[:, 0].reshape(PATCHES, PATCHES)
    expected = torch.full((PATCHES, PATCHES), 9.0)  # (3 − 0)²
    expected[3:6, 3:6] = 0.0
    assert torch.equal(found, expected)
    assert len(SHIFTS) == 9


def test_it_is_each_patch_with_each_in_reach() -> None:
    rng = np.random.default_rng(0)
    asked = torch.from_numpy(rng.normal(size=(Q, 3, 5))).float()
    bank = torch.from_numpy(rng.normal(size=(Q, 4, 5))).float()
    found = nearest(asked, bank)
    for q in (0, 8, 40, 77, 80):
        row, column = divmod(q, PATCHES)
        reach = [
            r * PATCHES + c
            for r in range(max(0, row - 1), min(PATCHES, row + 2))
            for c in range(max(0, column - 1), min(PATCHES, column + 2))
        ]
        away = (asked[q][:, None, None] - bank[reach][None]).square().sum(-1)  # (N, reach, B)
        assert found[q].numpy() == pytest.approx(away.amin((1, 2)).numpy(), rel=1e-4, abs=1e-4)


def test_the_strangest_places_speak() -> None:
    # directions that change nothing: an image against another, WORST places of which differ by √2
    same = np.zeros((SECOND, Q), np.uint8)
    same[0] = 255
    other = same.copy()
    other[:, ::3] = 0
    other[1, ::3] = 255
    unturned = np.eye(SECOND, dtype=np.float32)
    levels = np.stack([same.reshape(L), other.reshape(L)])
    bank = np.asarray(unit(levels[:1]), np.float16)
    patches = Patches(np.zeros(SECOND, np.float32), unturned, bank, np.zeros(1, np.int64))
    found = patches.distances(levels, np.zeros(2, np.int64))
    assert found == pytest.approx([0.0, 2 / Q], abs=1e-4)  # each patch has length 1/√Q
    few = same.copy()
    few[:, :2] = 0  # two patches are empty: 1/Q each, of WORST
    lengths = 1 / (Q - 2)  # the others are a little longer, (√(1/79) − √(1/81))² of nothing
    found = patches.distances(few.reshape(1, L), np.zeros(1, np.int64))
    assert lengths == pytest.approx(1 / Q, rel=0.03)
    assert found == pytest.approx([2 / Q / WORST], abs=1e-4)


def test_images_have_length_one_whatever_their_highest_level() -> None:
    levels, _ = people(1, 0)
    assert unit(levels).flatten(1).norm(dim=1).numpy() == pytest.approx(np.ones(3), abs=1e-5)
    assert unit(levels).shape == (3, Q, SECOND)
    assert unit(levels)[1, 5, 7] == pytest.approx(
        levels[1, 7 * Q + 5] / np.linalg.norm(levels[1].astype(float)), rel=1e-5
    )


def test_patches_vary_by_about_one_along_each_direction() -> None:
    levels, labels = people(30, 0, by=1)
    found = fit_patches(levels, labels)
    spread = found.along(levels).flatten(0, 1).var(0)
    assert spread.max() < 1.0  # the floor is added to each
    assert spread[0] == pytest.approx(1 / 1.1, rel=0.01)
    assert torch.all(spread[:-1] >= spread[1:] - 1e-4)


# --- what it is for -------------------------------------------------------------------------------


def test_a_finger_of_another_sign_is_stranger_than_one_that_moved() -> None:
    levels, labels = people(25, 0, by=1)
    patches = fit_patches(levels, labels)
    signs, of_signs = people(25, 1, by=1)
    rng = np.random.default_rng(2)
    wrong = np.stack([hand(MIXED, rng, by=1) for _ in range(50)])
    mine = of_signs == 0
    kept = patches.distances(signs[mine], of_signs[mine])
    refused = patches.distances(wrong, np.zeros(50, np.int64))
    assert auroc(kept, refused) > 0.98


def test_labels_are_compared_with_their_own_images() -> None:
    levels, labels = people(5, 0)
    patches = fit_patches(levels, labels)
    right = patches.distances(levels, labels)
    assert right == pytest.approx(np.zeros(15), abs=1e-2)  # the bank is float16
    assert patches.distances(levels, (labels + 1) % 3).min() > 10 * right.max()


# --- edges ----------------------------------------------------------------------------------------


def test_of_many_images_a_label_keeps_some() -> None:
    labels = np.r_[np.zeros(3 * PER_LABEL, np.int64), np.ones(2, np.int64)]
    rows = some_of(labels, 0)
    assert len(rows) == len(np.unique(rows)) == PER_LABEL
    assert (rows[0], rows[-1]) == (0, 3 * PER_LABEL - 1)
    assert some_of(labels, 1).tolist() == [3 * PER_LABEL, 3 * PER_LABEL + 1]
    levels = np.random.default_rng(0).integers(0, 256, (len(labels), L), np.uint8)
    found = fit_patches(levels, labels)
    assert np.bincount(found.labels_B).tolist() == [PER_LABEL, 2]


def test_arrays_are_the_patches() -> None:
    levels, labels = people(3, 0)
    fitted = fit_patches(levels, labels)
    again = Patches.of_arrays(fitted.arrays())
    assert np.array_equal(again.distances(levels, labels), fitted.distances(levels, labels))
    with pytest.raises(KeyError, match="bank_BQP"):
        Patches.of_arrays({k: v for k, v in fitted.arrays().items() if k != "bank_BQP"})


def test_black_images_one_image_and_none() -> None:
    levels, labels = people(3, 0)
    fitted = fit_patches(levels, labels)
    black = np.zeros((1, L), np.uint8)
    assert np.isfinite(fitted.distances(black, labels[:1])).all()
    assert fitted.distances(levels[:0], labels[:0]).shape == (0,)
    alone = fit_patches(levels[:1], labels[:1])
    assert alone.distances(levels[:1], labels[:1]) == pytest.approx([0.0], abs=1e-2)
    dark = fit_patches(black, labels[:1])
    assert np.isfinite(dark.distances(levels, np.zeros(9, np.int64))).all()


def test_no_training_images_and_labels_without_one_are_refused() -> None:
    levels, labels = people(3, 0)
    with pytest.raises(ValueError, match="no training images"):
        fit_patches(levels[:0], labels[:0])
    fitted = fit_patches(levels[labels != 1], labels[labels != 1])
    with pytest.raises(ValueError, match="no training image has label 1"):
        fitted.distances(levels, labels)

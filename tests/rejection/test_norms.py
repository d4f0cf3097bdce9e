"""Norms of features, standardised by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.rejection.norms import Norms, sums


def half(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float16)


def test_norms_are_sums_of_sizes() -> None:
    assert sums(half([1, -2], [0, 0], [60000, 60000])).tolist() == [3.0, 0.0, 120000.0]
    assert sums(half([1, 2])[:0]).shape == (0,)


def test_standardised_by_training_images() -> None:
    usual = Norms.of(half([1, 1], [3, 3]))  # norms 2 and 6
    assert (usual.mean, usual.spread) == (4.0, 2.0)
    assert usual.of_images(half([0, 0], [4, 0], [5, 5])).tolist() == [-2.0, 0.0, 3.0]


def test_images_of_one_norm_have_a_spread_above_0() -> None:
    found = Norms.of(half([1, 2], [2, 1])).of_images(half([2, 1], [0, 0]))
    assert found[0] == 0
    assert np.isfinite(found).all()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        sums(half([np.nan, 1]))
    with pytest.raises(ValueError, match="finite"):
        Norms.of(half([np.inf, 1]))
    with pytest.raises(ValueError, match="no training images"):
        Norms.of(half([1, 2])[:0])

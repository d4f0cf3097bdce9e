"""Clouds of members' own convolutions: which features they are of, and what members they speak for.

Letters: M members, N images, B training images, K labels.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.data.backbone import FIFTH_FEATURES, HEAD_FEATURES
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians, label_distances
from sign_ensemble.rejection.gda_predictions import GdaPredictions, fit_gda_predictions
from sign_ensemble.rejection.member_gda import (
    GdaDistances,
    MemberGda,
    fit_member_gda,
    gda_distances,
    of_members,
)

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
LABELS_B = np.repeat([0, 2], 6)  # label 1 has no training image


def features(seed: int, images: int = len(LABELS_B)) -> np.ndarray:
    """Features of two groups of images, by turns six of each."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (images, HEAD_FEATURES))
    values[np.arange(images) // 6 % 2 == 1, :50] += 2
    return values.astype(np.float16)


def test_they_are_of_the_fifth_layer_alone() -> None:
    train_BE, asked_NE = features(0), features(1)
    own = fit_member_gda(train_BE, LABELS_B)
    to_clouds, to_all = label_distances(
        asked_NE[:, :FIFTH_FEATURES], fit_class_gaussians(train_BE[:, :FIFTH_FEATURES], LABELS_B)
    )
    found = gda_distances(asked_NE, own, 4)
    assert np.array_equal(found.cloud_N, to_clouds.min(1) - to_all)
    assert np.array_equal(found.to_labels_NK[:, [0, 2]], to_clouds)
    for without in (1, 3):
        assert np.array_equal(found.to_labels_NK[:, without], to_clouds.max(1))
    train_BE[:, FIFTH_FEATURES:] = 7
    again = fit_member_gda(train_BE, LABELS_B)
    assert np.array_equal(again.clouds.means_KP, own.clouds.means_KP)


def test_they_come_back_from_arrays() -> None:
    own = fit_member_gda(features(0), LABELS_B)
    back = MemberGda.of_arrays(own.arrays())
    assert back.labels_L.tolist() == [0, 2]
    assert all(np.array_equal(v, back.arrays()[k]) for k, v in own.arrays().items())
    arrays = own.arrays()
    del arrays["mean_P"]
    with pytest.raises(KeyError, match="mean_P"):
        MemberGda.of_arrays(arrays)


def test_strangeness_is_a_mean_by_votes() -> None:
    each = [
        GdaDistances(np.array([1.0, 4.0]), np.zeros((2, 3))),
        GdaDistances(np.array([5.0, 0.0]), np.ones((2, 3))),
    ]
    own_N, to_labels_MNK = of_members(each, np.array([3.0, 1.0]))
    assert own_N.tolist() == [2.0, 3.0]
    assert to_labels_MNK[:, 0, 0].tolist() == [0.0, 1.0]


def test_own_clouds_count_as_their_member_does() -> None:
    away_MNK = np.array([[[4.0, 0.0]], [[8.0, 16.0]]])
    members_MNK = np.zeros((2, 1, 2), np.float32)
    readings = GdaPredictions((2.0,), 4.0, own=True)
    logits, votes = readings.beside(members_MNK, np.array([3.0, 1.0]), away_MNK)
    assert logits[2:].tolist() == [[[-1.0, 0.0]], [[-2.0, -4.0]]]  # one temperature for both
    assert votes.tolist() == [3.0, 1.0, 12.0, 4.0]
    assert readings.words() == "each member's own clouds read too, and count 4 times the member"


def test_own_clouds_are_tempered_together_and_weighed_as_one() -> None:
    """Two judges' clouds give three images in four to the right one of two labels, by a distance of
    2: the likelihood is highest where e^(1/T) = 3, whatever the other judge's place is.
    """
    labels_N, weights_N = np.array([0, 0, 0, 1]), np.full(4, 0.25)
    to_labels_NK = np.array([[0.0, 2.0]] * 4)
    members_RNK = np.zeros((2, 4, 2), np.float32)  # they say nothing: log 2
    found = fit_gda_predictions(
        np.stack([to_labels_NK, to_labels_NK]), members_RNK, np.ones(2), labels_N, weights_N, True
    )
    assert found is not None
    assert found.own
    # a boundary of the search is 1, and 1 / log 3 = .91 lies below it
    assert found.temperatures[0] == pytest.approx(1.0, abs=1e-3)
    wide_NK = 10 * to_labels_NK
    found = fit_gda_predictions(
        np.stack([wide_NK, wide_NK]), members_RNK, np.ones(2), labels_N, weights_N, True
    )
    assert found is not None
    assert found.temperatures[0] == pytest.approx(10 / log(3), rel=1e-3)
    assert len(found.temperatures) == 1
    # p = (1/2 + w · 3/4) / (1 + w) of the first three: more weight is never worse here
    assert found.weight == 4.0

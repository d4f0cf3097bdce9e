"""Statistics of held-out labels, signer by signer, by hand."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.rejection.held_out_statistics import (
    HeldOutScores,
    in_distribution_of,
    statistics_by_signer,
)
from sign_ensemble.rejection.p_in_distribution import fit_in_distribution

CLOSE: dict[str, Any] = {"abs": 1e-9, "rel": 0}


def two_signers() -> HeldOutScores:
    """Signers 0 and 1 with two signs each and images of held-out labels; signer 2 with those alone.

    Of the signs of signer 0 the 90 % quantiles are 1.9 and 0.19, so β is 0.1 and 0.01.
    """
    return HeldOutScores(
        {
            "regional_mahalanobis": np.array([1.0, 2, 3, 4, 5, 1.5, 1.5, 9]),
            "knn_distance": np.array([0.1, 0.2, 0.2, 0.1, 0.2, 0.2, 0.5, 0.2]),
        },
        groups_N=np.array([0, 0, 1, 1, 0, 1, 1, 2]),
        held_out_N=np.arange(8) >= 4,
    )


def test_each_signer_is_calibrated_on_the_others_signs() -> None:
    (signs_0, ood_0), (signs_1, ood_1) = statistics_by_signer(two_signers())
    # of two calibration images p is 1 and 2/3; beyond them the tail goes on
    assert signs_0 == pytest.approx([0.0, 0.0], **CLOSE)
    assert ood_0 == pytest.approx([log(3 / 2) + 1 / 0.1], **CLOSE)
    assert signs_1 == pytest.approx([log(3 / 2) + 1 / 0.1, log(3 / 2) + 2 / 0.1], **CLOSE)
    assert ood_1 == pytest.approx([log(3 / 2) / 2, 0.3 / 0.01], **CLOSE)  # the last by its veto


def test_other_signers_weigh_the_same() -> None:
    scores = {
        "regional_mahalanobis": np.array([1.0, 2, 3, 4, 2.5, 2.5]),
        "knn_distance": np.zeros(6),
    }
    groups_N, held_out_N = np.array([0, 0, 0, 1, 2, 2]), np.arange(6) == 5
    signs, ood = statistics_by_signer(HeldOutScores(scores, groups_N, held_out_N))[2]
    by_hand = -(log(13 / 15) + log(11 / 15)) / 2  # a sixth each and a half
    assert signs == pytest.approx([by_hand], **CLOSE)
    assert ood == pytest.approx([by_hand], **CLOSE)


def test_p_in_distribution_is_fitted_to_all_groups_of_labels() -> None:
    found = in_distribution_of([two_signers(), two_signers()], 0.3)
    pairs = 2 * statistics_by_signer(two_signers())
    expected = fit_in_distribution([signs for signs, _ in pairs], [ood for _, ood in pairs], 0.3)
    assert found is not None
    assert found.ood_prior == 0.3
    assert np.array_equal(found.statistics, expected.statistics)
    assert np.array_equal(found.probabilities, expected.probabilities)


def test_a_signer_without_held_out_labels_counts_with_signs_alone() -> None:
    held_out = two_signers()
    rows = np.array([0, 1, 2, 3, 5, 6])  # signer 0 has no image of a held-out label
    fewer = HeldOutScores(
        {name: values[rows] for name, values in held_out.scores.items()},
        held_out.groups_N[rows],
        held_out.held_out_N[rows],
    )
    (signs_0, none), (signs_1, ood_1) = statistics_by_signer(fewer)
    assert none.shape == (0,)
    expected = fit_in_distribution([signs_0, signs_1], [ood_1], 0.5)
    found = in_distribution_of([fewer], 0.5)
    assert found is not None
    assert np.array_equal(found.probabilities, expected.probabilities)


def test_nothing_is_known_without_held_out_labels_or_a_prior() -> None:
    assert in_distribution_of([], 0.3) is None
    assert in_distribution_of([two_signers()], 0.0) is None
    none_held_out = HeldOutScores(
        {name: values[:4] for name, values in two_signers().scores.items()},
        np.array([0, 0, 1, 1]),
        np.zeros(4, bool),
    )
    assert in_distribution_of([none_held_out], 0.3) is None

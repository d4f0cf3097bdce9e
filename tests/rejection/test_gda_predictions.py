"""GDA predictions: logits, votes, temperatures and weights by hand.

Letters: M members or layers, N images, K labels.
"""

from __future__ import annotations

import json
from math import exp, log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.rejection import gda_predictions
from sign_ensemble.rejection.gda_predictions import (
    GdaPredictions,
    ensemble_output,
    fit_gda_predictions,
    gda_predictions_of,
    loss,
)
from sign_ensemble.rejection.reference_set import Distances

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}

# --- logits and votes -----------------------------------------------------------------------------


def test_logits_are_half_the_distance_tempered() -> None:
    two = GdaPredictions((2.0, 5.0), 3.0)
    logits = two.logits(np.array([[[4.0, 0.0]], [[10.0, 20.0]]]))
    assert logits.tolist() == [[[-1.0, 0.0]], [[-1.0, -2.0]]]
    assert logits.dtype == np.float32


def test_gda_predictions_follow_the_members() -> None:
    members = np.array([[[1.0, 2.0]]], np.float32)
    logits, votes = GdaPredictions((2.0,), 0.5).joined_to(
        members, np.array([6.0]), np.array([[[4.0, 0.0]]])
    )
    assert logits.tolist() == [[[1.0, 2.0]], [[-1.0, 0.0]]]
    assert votes.tolist() == [6.0, 3.0]


def test_the_gda_of_members_counts_as_its_member_does() -> None:
    distances_MNK = np.array([[[4.0, 0.0]], [[8.0, 16.0]]])
    members_MNK = np.zeros((2, 1, 2), np.float32)
    gda = GdaPredictions((2.0,), 4.0, of_members=True)
    logits, votes = gda.joined_to(members_MNK, np.array([3.0, 1.0]), distances_MNK)
    assert logits[2:].tolist() == [[[-1.0, 0.0]], [[-2.0, -4.0]]]  # one temperature for both
    assert votes.tolist() == [3.0, 1.0, 12.0, 4.0]
    assert gda.words() == "GDA on each member's features counts 4 times the member"


def test_members_that_read_landmarks_have_no_gda_of_their_own() -> None:
    members_MNK = np.zeros((3, 1, 2), np.float32)
    to_labels_MNK = np.array([[[4.0, 0.0]], [[8.0, 16.0]]])  # of the two that read pixels
    gda, votes_M = GdaPredictions((2.0,), 4.0, of_members=True), np.array([3.0, 1.0, 2.0])
    logits, votes = gda.joined_to(members_MNK, votes_M, to_labels_MNK)
    assert logits[3:].tolist() == [[[-1.0, 0.0]], [[-2.0, -4.0]]]
    assert votes.tolist() == [3.0, 1.0, 2.0, 12.0, 4.0]


def test_the_output_holds_members_gda_predictions_and_distances() -> None:
    logits, votes = np.array([[[1.0, 2.0]]], np.float32), np.array([6.0])
    distances = Distances(np.array([0.1]), np.array([0.2]), np.array([[[4.0, 0.0]]]))
    alone = ensemble_output(logits, votes, distances, None)
    assert (alone.gda_count, alone.logits_MNK.tolist()) == (0, [[[1.0, 2.0]]])
    joined = ensemble_output(logits, votes, distances, GdaPredictions((2.0,), 0.5))
    assert joined.gda_count == 1
    assert joined.logits_MNK.tolist() == [[[1.0, 2.0]], [[-1.0, 0.0]]]
    assert joined.votes_M.tolist() == [6.0, 3.0]
    assert (alone.kinds_M, joined.kinds_M) == (("pixels",), ("pixels", "pixels"))
    for output in (alone, joined):
        assert (output.knn_N.tolist(), output.regional_N.tolist()) == ([0.1], [0.2])
        assert output.hand_count_N2 is None
        assert output.joint_N is None and output.hands_N is None


def test_they_come_back_from_json() -> None:
    found = gda_predictions_of({"temperatures": [1.5, 30.0], "weight": 0.5, "of_members": False})
    assert found == GdaPredictions((1.5, 30.0), 0.5)
    of_members = GdaPredictions((30.0,), 4.0, True)
    assert gda_predictions_of(json.loads(json.dumps(vars(of_members)))) == of_members
    assert gda_predictions_of(None) is None


def test_in_words() -> None:
    words = GdaPredictions((2.0, 5.0), 0.5).words()
    assert words == "GDA on each of 2 inputs counts 0.5 times all members together"


def test_the_loss_is_weighted_and_finite() -> None:
    probs = np.array([[0.5, 0.5], [0.0, 1.0]])
    assert loss(probs, np.array([0, 1]), np.array([1.0, 0.0])) == pytest.approx(log(2), **EXACT)
    assert loss(probs, np.array([0, 0]), np.array([0.0, 1.0])) == pytest.approx(300 * log(10))


# --- what is fitted -------------------------------------------------------------------------------


def test_a_known_temperature_is_found() -> None:
    rng = np.random.default_rng(0)
    distances = rng.gamma(2.0, 40.0, (1, 4000, 3))
    probs = np.exp(-distances[0] / 2 / 12)
    probs /= probs.sum(1, keepdims=True)
    labels = (rng.random(4000)[:, None] > probs.cumsum(1)).sum(1)
    even = np.zeros((1, 4000, 3), np.float32)
    found = fit_gda_predictions(distances, even, np.ones(1), labels, np.full(4000, 1 / 4000))
    assert found is not None
    assert found.temperatures[0] == pytest.approx(12, rel=0.1)
    assert found.weight == max(gda_predictions.WEIGHTS)  # the members know nothing


def test_where_members_are_better_alone_there_are_no_gda_predictions() -> None:
    labels = np.arange(300) % 3
    right = np.float32(9) * (np.arange(3) == labels[:, None])[None]
    distances = np.random.default_rng(0).gamma(2.0, 40.0, (2, 300, 3))
    assert fit_gda_predictions(distances, right, np.ones(1), labels, np.full(300, 1 / 300)) is None


def test_the_weight_is_that_of_the_lowest_loss() -> None:
    # of one image the member is certain and GDA is not, of the other the reverse: with weight v
    # (0.99 + v / 2) (0.45 + v) / (1 + v)² is .540, .542, .528 at 1, 2, 4
    logits = np.log(np.array([[[0.99, 0.01], [0.45, 0.55]]])).astype(np.float32)
    distances = np.array([[[10.0, 10.0], [0.0, 400.0]]])
    labels, weights = np.array([0, 0]), np.array([0.5, 0.5])
    found = fit_gda_predictions(distances, logits, np.ones(1), labels, weights)
    assert found is not None
    p = 1 / (1 + exp(-200 / found.temperatures[0]))
    likelihoods = {
        v: (0.99 + v / 2) * (0.45 + v * p) / (1 + v) ** 2 for v in gda_predictions.WEIGHTS
    }
    assert found.weight == max(likelihoods, key=lambda v: likelihoods[v])
    assert found.weight == 2.0


def test_the_gda_of_members_shares_a_temperature_and_a_weight() -> None:
    """Two members' GDA gives three images in four to the right one of two labels, by a distance of
    2: the likelihood is highest where e^(1/T) = 3.
    """
    labels_N, weights_N = np.array([0, 0, 0, 1]), np.full(4, 0.25)
    to_labels_NK = np.array([[0.0, 2.0]] * 4)
    members_MNK = np.zeros((2, 4, 2), np.float32)  # all labels equally likely: log 2
    found = fit_gda_predictions(
        np.stack([to_labels_NK, to_labels_NK]), members_MNK, np.ones(2), labels_N, weights_N, True
    )
    assert found is not None
    assert found.of_members
    # the search begins at 1, and 1 / log 3 = .91 lies below it
    assert found.temperatures[0] == pytest.approx(1.0, abs=1e-3)
    wide_NK = 10 * to_labels_NK
    found = fit_gda_predictions(
        np.stack([wide_NK, wide_NK]), members_MNK, np.ones(2), labels_N, weights_N, True
    )
    assert found is not None
    assert found.temperatures[0] == pytest.approx(10 / log(3), rel=1e-3)
    assert len(found.temperatures) == 1
    # p = (1/2 + w · 3/4) / (1 + w) of the first three: more weight is never worse here
    assert found.weight == 4.0

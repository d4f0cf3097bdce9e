"""Clouds that read: their logits and votes by hand, and strangers who stay strangers.

Letters: N images, B training images, V views, D and C features, R readings, K labels.
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
    fit_gda_predictions,
    gda_predictions_of,
    loss,
)

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
# --- logits and votes -----------------------------------------------------------------------------


def test_a_reading_is_half_the_distance_tempered() -> None:
    two = GdaPredictions((2.0, 5.0), 3.0)
    logits = two.logits(np.array([[[4.0, 0.0]], [[10.0, 20.0]]]))
    assert logits.tolist() == [[[-1.0, 0.0]], [[-1.0, -2.0]]]
    assert logits.dtype == np.float32


def test_readings_come_after_the_members() -> None:
    members = np.array([[[1.0, 2.0]]], np.float32)
    logits, votes = GdaPredictions((2.0,), 0.5).beside(
        members, np.array([6.0]), np.array([[[4.0, 0.0]]])
    )
    assert logits.tolist() == [[[1.0, 2.0]], [[-1.0, 0.0]]]
    assert votes.tolist() == [6.0, 3.0]


def test_readings_come_back_from_json() -> None:
    found = gda_predictions_of({"temperatures": [1.5, 30.0], "weight": 0.5, "own": False})
    assert found == GdaPredictions((1.5, 30.0), 0.5)
    own = GdaPredictions((30.0,), 4.0, True)
    assert gda_predictions_of(json.loads(json.dumps(vars(own)))) == own
    assert gda_predictions_of(None) is None


def test_in_words() -> None:
    said = GdaPredictions((2.0, 5.0), 0.5).words()
    assert said == "clouds read too: each of two layers counts 0.5 times all members"


def test_the_loss_is_weighted_and_finite() -> None:
    probs = np.array([[0.5, 0.5], [0.0, 1.0]])
    assert loss(probs, np.array([0, 1]), np.array([1.0, 0.0])) == pytest.approx(log(2), **EXACT)
    assert loss(probs, np.array([0, 0]), np.array([0.0, 1.0])) == pytest.approx(300 * log(10))


# --- what is chosen -------------------------------------------------------------------------------


def test_the_temperature_that_was_put_in_is_found() -> None:
    rng = np.random.default_rng(0)
    away = rng.gamma(2.0, 40.0, (1, 4000, 3))
    chance = np.exp(-away[0] / 2 / 12)
    chance /= chance.sum(1, keepdims=True)
    labels = (rng.random(4000)[:, None] > chance.cumsum(1)).sum(1)
    even = np.zeros((1, 4000, 3), np.float32)
    made = fit_gda_predictions(away, even, np.ones(1), labels, np.full(4000, 1 / 4000))
    assert made is not None
    assert made.temperatures[0] == pytest.approx(12, rel=0.1)
    assert made.weight == max(gda_predictions.WEIGHTS)  # the members know nothing


def test_where_members_are_better_alone_clouds_do_not_read() -> None:
    labels = np.arange(300) % 3
    right = np.float32(9) * (np.arange(3) == labels[:, None])[None]
    away = np.random.default_rng(0).gamma(2.0, 40.0, (2, 300, 3))
    assert fit_gda_predictions(away, right, np.ones(1), labels, np.full(300, 1 / 300)) is None


def test_the_weight_is_that_of_the_lowest_loss() -> None:
    # of one image the member is sure and the cloud is not, of the other the cloud is and the member
    # is not: with weight v (0.99 + v / 2) (0.45 + v) / (1 + v)² is .540, .542, .528 at 1, 2, 4
    logits = np.log(np.array([[[0.99, 0.01], [0.45, 0.55]]])).astype(np.float32)
    away = np.array([[[10.0, 10.0], [0.0, 400.0]]])
    labels, weights = np.array([0, 0]), np.array([0.5, 0.5])
    made = fit_gda_predictions(away, logits, np.ones(1), labels, weights)
    assert made is not None
    sure = 1 / (1 + exp(-200 / made.temperatures[0]))
    score = {v: (0.99 + v / 2) * (0.45 + v * sure) / (1 + v) ** 2 for v in gda_predictions.WEIGHTS}
    assert made.weight == max(score, key=lambda v: score[v])
    assert made.weight == 2.0

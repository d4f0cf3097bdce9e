"""Disagreement split by what members read, and the scores of hands, worked out by hand in nats."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.learning.task import KINDS, Kind
from sign_ensemble.rejection import scores
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.scores import BY_NAME, all_scores, ood_score_among, vetoes_among

CLOSE: dict[str, Any] = {"abs": 1e-6, "rel": 0}  # logits are float32
SPLIT = ("disagreement_between", "disagreement_pixels", "disagreement_landmarks")


def output(probs_MNK: Any, kinds: tuple[Kind, ...], votes: list[float]) -> EnsembleOutput:
    logits = np.log(np.array(probs_MNK)).astype(np.float32)
    zeros = np.zeros(logits.shape[1])
    return EnsembleOutput(logits, np.array(votes), zeros, zeros, kinds_M=kinds)


def h(*probs: float) -> float:
    return -sum(p * log(p) for p in probs if p)


MIXED = output(
    [[[0.9, 0.1]], [[0.5, 0.5]], [[0.2, 0.8]]], ("pixels", "pixels", "landmarks"), [1, 3, 2]
)


def test_the_split_by_hand() -> None:
    # pixels: (0.9 + 3 · 0.5) / 4 = 0.6 with 4 of 6 votes; landmarks 0.2 with 2; all: 2.8 / 6
    assert scores.total_uncertainty(MIXED) == pytest.approx([h(2.8 / 6, 3.2 / 6)], **CLOSE)
    between = h(2.8 / 6, 3.2 / 6) - (4 * h(0.6, 0.4) + 2 * h(0.2, 0.8)) / 6
    within = 4 / 6 * (h(0.6, 0.4) - (h(0.9, 0.1) + 3 * h(0.5, 0.5)) / 4)
    assert scores.disagreement_between(MIXED) == pytest.approx([between], **CLOSE)
    assert scores.disagreement_within(MIXED, "pixels") == pytest.approx([within], **CLOSE)
    assert scores.disagreement_within(MIXED, "landmarks") == pytest.approx([0], **CLOSE)
    assert scores.disagreement(MIXED) == pytest.approx([between + within], **CLOSE)


def test_the_parts_are_the_whole() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(5, 0.5), (6, 40))
    kinds: tuple[Kind, ...] = ("pixels", "landmarks") * 3  # in any order
    found = all_scores(output(probs, kinds, [1, 2, 3, 1, 1, 5]))
    parts = [found[name] for name in SPLIT]
    assert all((part >= 0).all() and part.max() > 0.01 for part in parts)
    assert np.sum(parts, 0) == pytest.approx(found["disagreement"], **CLOSE)


def test_kinds_that_agree_and_members_that_do_not() -> None:
    probs = [[[0.9, 0.1]], [[0.1, 0.9]], [[0.8, 0.2]], [[0.2, 0.8]]]
    kinds: tuple[Kind, ...] = ("pixels", "pixels", "landmarks", "landmarks")
    found = all_scores(output(probs, kinds, [1, 1, 1, 1]))
    assert found["disagreement_between"] == pytest.approx([0], **CLOSE)
    pixels, landmarks = (found[f"disagreement_{kind}"] for kind in KINDS)
    assert pixels == pytest.approx([(log(2) - h(0.9, 0.1)) / 2], **CLOSE)
    assert landmarks == pytest.approx([(log(2) - h(0.8, 0.2)) / 2], **CLOSE)


def test_members_that_agree_and_kinds_that_do_not() -> None:
    found = all_scores(output([[[0.9, 0.1]], [[0.1, 0.9]]], ("pixels", "landmarks"), [1, 1]))
    assert found["disagreement_between"] == pytest.approx([log(2) - h(0.9, 0.1)], **CLOSE)
    assert found["disagreement_between"] == pytest.approx(found["disagreement"], **CLOSE)
    assert found["disagreement_pixels"] == pytest.approx([0], **CLOSE)


def test_one_kind_has_no_split() -> None:
    one = replace(MIXED, kinds_M=("pixels",) * 3)
    assert not set(SPLIT) & set(all_scores(one))
    assert not set(SPLIT) & set(all_scores(replace(MIXED, kinds_M=())))
    assert set(SPLIT) <= set(all_scores(MIXED))
    assert scores.disagreement_within(one, "landmarks") == pytest.approx([0], **CLOSE)
    assert scores.disagreement_between(one) == pytest.approx([0], **CLOSE)


def test_hands_counted_and_the_joint_distance() -> None:
    probs = np.full((3, 4, 2), 0.5)
    plain = output(probs, ("pixels",) * 3, [1, 1, 1])
    known = replace(plain, hands_N=np.array([0, 1, 2, 3]), joint_N=np.array([2.0, -1.0, 0.5, 0.0]))
    found = all_scores(known)
    assert found["several_hands"].tolist() == [0, 0, 1, 1]
    assert found["hand_not_found"].tolist() == [1, 0, 0, 0]
    assert found["joint_distance"].tolist() == [2, -1, 0.5, 0]
    assert ood_score_among(found) == "joint_distance"
    assert vetoes_among(found) == ("knn_distance", "hand_not_found", "several_hands")
    without = all_scores(plain)
    assert ood_score_among(without) == "regional_mahalanobis"
    assert vetoes_among(without) == ("knn_distance",)
    for name in ("hand_not_found", "several_hands", "joint_distance"):
        with pytest.raises(ValueError, match=f"{name}: hands are not used"):
            BY_NAME[name].of(plain)

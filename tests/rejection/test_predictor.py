"""Answers: labels, decisions, deciding scores and reasons.

Letters: M members, N images, K labels.
"""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.config import Config, RunConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import open_run
from sign_ensemble.learning.task import Kind
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.predictor import answer, load_predictor
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.scores import SCORES
from sign_ensemble.rejection.selective_risk_control import RiskControl

LABELS = ("U", "V", "W")
CERTAIN, HALF = 0.98, 0.5
NOT_SURE = "the ensemble is not sure which label it is"
LIKE_NOTHING = "like nothing in the training images"


def probs(label: int, top: float) -> list[float]:
    """``top`` on one label, the rest spread over the two others."""
    return [top if k == label else (1 - top) / 2 for k in range(3)]


def output_of(
    labels_MN: list[list[int]],
    tops: list[float],
    votes_M: list[int],
    regional: list[float] | None = None,
    **more: Any,
) -> EnsembleOutput:
    """Member m says labels_MN[m][i] of image i, with probability tops[i]; distances of 0."""
    rows = [[probs(label, tops[i]) for i, label in enumerate(each)] for each in labels_MN]
    values: dict[str, Any] = {name: np.array(value) for name, value in more.items()}
    return EnsembleOutput(
        logits_MNK=np.log(np.array(rows)).astype(np.float32),
        votes_M=np.array(votes_M, np.float64),
        regional_N=np.array(regional or np.zeros(len(tops)), np.float64),
        **{"knn_N": np.zeros(len(tops)), **values},
    )


def rule(uncertainty_share: float = 0.0, **changed: Any) -> Rule:
    """Twenty calibration images of two signers, whose scores are all 0 to 0.19."""
    known = [score.name for score in SCORES if score.needs in ("members", "reference set")]
    calibration = {name: np.arange(20) / 100 for name in known}
    values: dict[str, Any] = {
        "target_coverage": 0.9,
        "uncertainty_share": uncertainty_share,
        "calibration": calibration,
        "groups_C": np.repeat([0, 1], 10),
        "single_C": np.arange(20) / 100,
        "temperature": 1.0,
    }
    return Rule(**{**values, **changed})


FIVE = [[0, 1], [0, 0], [1, 0], [0, 1], [1, 0]]  # image 0: 3 U, 2 V; image 1: 3 U, 2 V

# --- reasons --------------------------------------------------------------------------------------


def test_an_uncertain_image() -> None:
    found = answer(output_of(FIVE, [HALF, HALF], [1] * 5), rule(0.5))
    assert found.accepted_N.tolist() == [False, False]
    assert found.deciding_score_N.tolist() == ["total_uncertainty"] * 2
    assert found.reason(0, LABELS) == f"{NOT_SURE} (3 say U, 2 say V)"


def test_an_image_like_nothing_in_the_training_images() -> None:
    found = answer(output_of([[2], [2], [2], [2]], [CERTAIN], [1] * 4, knn_N=[0.7]), rule(0.5))
    assert found.deciding_score_N.tolist() == ["knn_distance"]
    assert found.reason(0, LABELS) == f"{LIKE_NOTHING} (4 say W)"


def test_a_hand_that_fits_no_label() -> None:
    output = output_of([[2, 2], [2, 2]], [CERTAIN, CERTAIN], [1, 1], [0.5, 0.12])
    found = answer(output, rule())
    assert found.accepted_N.tolist() == [False, True]
    assert found.deciding_score_N.tolist() == ["regional_mahalanobis"] * 2  # accepted or not
    assert found.reason(0, LABELS) == "a part of the hand fits no label (2 say W)"


def test_no_hand_and_two_hands() -> None:
    counts = {name: np.arange(20) / 100 for name in ("no_hand", "two_hands")}
    counted = rule(calibration={**rule().calibration, **counts})
    hand_count_N2 = [[0.3, 0.0], [0.0, 0.3], [0.19, 0.19]]
    output = output_of([[1, 1, 1]], [CERTAIN] * 3, [1], hand_count_N2=hand_count_N2)
    found = answer(output, counted)
    assert found.accepted_N.tolist() == [False, False, True]
    assert found.deciding_score_N[:2].tolist() == ["no_hand", "two_hands"]
    assert found.reason(0, LABELS) == "hardly any hand in the picture (1 says V)"
    assert found.reason(1, LABELS) == "two hands at once (1 says V)"


def test_an_accepted_image_has_no_reason() -> None:
    found = answer(output_of([[1], [1]], [CERTAIN], [1, 1]), rule(0.5))
    assert found.accepted_N.tolist() == [True]
    assert found.reason(0, LABELS) == ""
    assert found.votes(0, LABELS) == "2 say V"


@pytest.mark.parametrize(
    ("votes_M", "words"),
    [
        ([1, 1, 1], "1 says W, 1 says U, 1 says V"),  # ties in the order of the members
        ([1, 3, 1], "3 say U, 1 says W, 1 says V"),  # the second member counts three times
        ([2, 1, 4], "4 say V, 2 say W, 1 says U"),
    ],
)
def test_votes_are_counted_by_weight_and_named_most_first(votes_M: list[int], words: str) -> None:
    found = answer(output_of([[2], [0], [1]], [CERTAIN], votes_M, knn_N=[0.7]), rule())
    assert found.votes(0, LABELS) == words
    assert found.reason(0, LABELS) == f"{LIKE_NOTHING} ({words})"


def test_gda_predictions_are_not_counted_among_the_members() -> None:
    five = output_of([[0, 1], [0, 0], [2, 0], [1, 2], [1, 0]], [CERTAIN] * 2, [1, 1, 1, 8, 8])
    found = answer(replace(five, gda_count=2), rule())
    assert found.votes(0, LABELS) == "2 say U, 1 says W, GDA says V"
    assert found.votes(1, LABELS) == "2 say U, 1 says V, GDA says W and U"
    assert found.labels_N.tolist() == [1, 0]  # their votes count all the same
    assert found.output.rows(np.array([0])).gda_count == 2


def test_votes_are_counted_kind_by_kind() -> None:
    labels_MN = [[0, 1], [0, 0], [1, 1], [2, 2], [2, 0]]
    members: tuple[Kind, ...] = ("pixels", "pixels", "landmarks")
    output = output_of(labels_MN, [CERTAIN] * 2, [1, 1, 1, 1, 2], hands_N=[1, 0])
    both = replace(output, gda_count=2, kinds_M=(*members, "pixels", "landmarks"))
    found = answer(both, rule())
    assert found.votes(0, LABELS) == "pixels: 2 say U; landmarks: 1 says V; GDA says W"
    # without a hand, members that read landmarks say nothing, nor does GDA of fingertips and
    # landmarks
    assert found.votes(1, LABELS) == "pixels: 1 says V, 1 says U"
    alone = answer(replace(both, kinds_M=("pixels",) * 5), rule())
    assert alone.votes(0, LABELS) == "2 say U, 1 says V, GDA says W"


def test_reasons_of_the_joint_distance_and_of_several_hands() -> None:
    hands = {"joint_distance": np.arange(20) / 100, "several_hands": np.zeros(20)}
    of_hands = rule(calibration={**rule().calibration, **hands})
    output = output_of(
        [[1] * 3, [1] * 3], [CERTAIN] * 3, [1, 1], joint_N=[0.5, 0.5, 0.0], hands_N=[1, 0, 2]
    )
    found = answer(replace(output, kinds_M=("pixels", "landmarks")), of_hands)
    assert found.accepted_N.tolist() == [False] * 3
    votes = "pixels: 1 says V; landmarks: 1 says V"
    fits = "pixels and landmarks do not fit one label"
    assert found.reason(0, LABELS) == f"{fits} ({votes})"
    assert found.reason(1, LABELS) == "no hand was found (pixels: 1 says V)"
    assert found.reason(2, LABELS) == f"more than one hand ({votes})"


# --- figures --------------------------------------------------------------------------------------


def test_confidence_is_that_of_a_sign_times_that_of_its_label() -> None:
    known = InDistribution(0.5, np.array([0.0, 9.0]), np.array([0.9, 0.0]))
    base = rule()
    output = output_of([[1, 1, 1]], [CERTAIN] * 3, [1], [0.0, 0.15, 5.0])
    plain, counted = (answer(output, r) for r in (base, replace(base, in_distribution=known)))
    assert plain.confidence_N == pytest.approx(plain.probability_N)  # at temperature 1
    assert counted.probability_N == pytest.approx(CERTAIN)
    # the statistic is −log p, p = 1 (all 20 score as high), and (1 + 5) / 21 of the second
    of_sign = [0.9, 0.9 * (1 - log(21 / 6) / 9), 0.0]
    assert counted.confidence_N == pytest.approx(np.array(of_sign) * CERTAIN, abs=1e-6)
    assert counted.accepted_N.tolist() == plain.accepted_N.tolist()  # it decides nothing
    hot = replace(base, temperature=2.0)
    root = np.sqrt([CERTAIN, 0.01, 0.01])
    assert answer(output, hot).confidence_N == pytest.approx(root[0] / root.sum(), abs=1e-6)
    assert answer(output, hot).probability_N == pytest.approx(CERTAIN)


def test_figures_of_an_answer_by_hand() -> None:
    output = output_of([[0, 1], [0, 2]], [0.8, 0.6], [3, 1], [0.05, 0.5])
    found = answer(output, rule())
    # image 1: member 0 gives V 0.6 and W 0.2, member 1 V 0.2 and W 0.6, with three votes to one
    assert found.labels_N.tolist() == [0, 1]
    assert found.confidence_N == pytest.approx([0.8, (3 * 0.6 + 0.2) / 4], abs=1e-7)
    assert found.labels_MN.tolist() == [[0, 1], [0, 2]]
    # 15 of 20 calibration distances are at least 0.05; none is 0.5
    assert found.p_values_N == pytest.approx([16 / 21, 1 / 21], abs=1e-12)
    assert found.accepted_N.tolist() == [True, False]  # alpha is 0.1
    assert found.scores["regional_mahalanobis"].tolist() == [0.05, 0.5]


# --- the deciding score ---------------------------------------------------------------------------


def test_the_test_of_the_smaller_p_value_decides() -> None:
    output = output_of([[0, 0]], [HALF, CERTAIN], [1], [0.0, 0.9])
    found = answer(output, rule(0.5))
    assert found.deciding_score_N.tolist() == ["total_uncertainty", "regional_mahalanobis"]
    entropy = -(0.5 * log(0.5) + 2 * 0.25 * log(0.25))
    assert found.scores["total_uncertainty"][0] == pytest.approx(entropy, abs=1e-7)
    assert found.p_values_N == pytest.approx([2 / 21, 2 / 21], abs=1e-12)
    assert answer(output, rule(0.0)).accepted_N.tolist() == [True, False]


def test_a_veto_is_named_only_where_it_decides() -> None:
    # kNN distance 0.185 is exceeded by one of twenty, yet not beyond all; 0.9 is
    output = output_of([[0, 0]], [0.97] * 2, [1], [0.03, 0.03], knn_N=[0.185, 0.9])
    found = answer(output, rule())
    assert found.deciding_score_N.tolist() == ["regional_mahalanobis", "knn_distance"]
    assert found.accepted_N.tolist() == [True, False]


def test_risk_control_rejects_what_is_too_uncertain() -> None:
    controlled = rule(risk_control=RiskControl(0.05, 0.3, 400, 380, 9))
    output = output_of([[0, 1, 2], [0, 1, 2]], [CERTAIN, 0.6, 0.6], [1, 1], knn_N=[0.0, 0.0, 0.7])
    found = answer(output, controlled)
    uncertainty = found.scores["total_uncertainty"].tolist()
    assert uncertainty == pytest.approx([0.112, 0.950, 0.950], abs=1e-3)
    assert found.accepted_N.tolist() == [True, False, False]
    assert found.reason(1, LABELS) == f"{NOT_SURE} (2 say V)"
    assert found.reason(2, LABELS) == f"{LIKE_NOTHING} (2 say W)"  # rejected in any case
    assert answer(output, rule()).accepted_N.tolist() == [True, True, False]
    unsupported = replace(controlled, risk_control=RiskControl(0.001, images=400))
    assert answer(output, unsupported).accepted_N.tolist() == [True, True, False]


# --- ends -----------------------------------------------------------------------------------------


def test_no_images_get_no_answers() -> None:
    none = EnsembleOutput(np.zeros((2, 0, 3), np.float32), np.ones(2), *np.zeros((2, 0)))
    for share in (0.0, 0.5):
        found = answer(none, rule(share))
        assert found.accepted_N.shape == found.p_values_N.shape == (0,)


def test_a_run_without_members_cannot_answer(tmp_path: Path) -> None:
    run = open_run(Config(run=RunConfig(root=str(tmp_path))))
    with pytest.raises(UserError, match=r"index\.json: not there"):
        load_predictor(run)

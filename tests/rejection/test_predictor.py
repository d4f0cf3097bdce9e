"""What is said of an image: the label, or why there is none, in words.

Letters: M members, N images, K labels.
"""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.config import Config, RunConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import open_run
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.predictor import REASONS, Answers, answer, load_predictor
from sign_ensemble.rejection.regional_mahalanobis import RegionalGaussians
from sign_ensemble.rejection.risk_control import RiskControl
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.scores import WITNESSES

LABELS = ("U", "V", "W")
SURE, HALF = 0.98, 0.5


def probs(label: int, top: float) -> list[float]:
    """``top`` on one label, the rest spread over the two others."""
    return [top if k == label else (1 - top) / 2 for k in range(3)]


def evidence(
    votes_for: list[list[int]], tops: list[float], near: list[float], votes_M: list[int]
) -> EnsembleOutput:
    """Member m says votes_for[m][i] of image i, with probability tops[i]."""
    rows = [[probs(label, tops[i]) for i, label in enumerate(said)] for said in votes_for]
    return EnsembleOutput(
        np.log(np.array(rows)).astype(np.float32),
        np.array(votes_M, np.float64),
        np.array(near),
        np.array(near) - 1,
        np.array(near) - 1,
        np.zeros(len(near)),
    )


def rule(*witnesses: str, joined: Any = "smallest") -> Rule:
    """Twenty calibration images of two signers, none strange; total uncertainty up to 0.19."""
    calibration = {name: np.arange(20) / 100 for name in WITNESSES}
    calibration["energy"] = calibration["energy"] - 1
    return Rule(
        witnesses=witnesses,
        joined=joined,
        target_coverage=0.9,
        calibration=calibration,
        groups_C=np.repeat([0, 1], 10),
        single_C=np.arange(20) / 100,
        neighbours=1,
        bank=np.zeros((1, 2), np.float16),
        clouds=fit_class_gaussians(np.eye(2, dtype=np.float16), np.arange(2)),
        parts=RegionalGaussians(()),
        choice={},
        temperature=1.0,
    )


FIVE = [[0, 1], [0, 0], [1, 0], [0, 1], [1, 0]]  # image 0: 3 U, 2 V; image 1: 3 U, 2 V


def test_nobody_is_sure() -> None:
    said = answer(evidence(FIVE, [HALF, HALF], [0.0, 0.0], [1] * 5), rule("total_uncertainty"))
    assert said.accepted_N.tolist() == [False, False]
    assert said.why(0, LABELS) == "nobody is sure (3 say U, 2 say V)"


def test_the_members_disagree() -> None:
    said = answer(evidence(FIVE, [SURE, SURE], [0.0, 0.0], [1] * 5), rule("disagreement"))
    assert said.why(1, LABELS) == "the members disagree (3 say U, 2 say V)"


def test_like_nothing_in_the_training_images() -> None:
    agreed = [[2], [2], [2], [2]]
    said = answer(evidence(agreed, [SURE], [0.7], [1] * 4), rule("total_uncertainty", "neighbour"))
    assert said.witness_N.tolist() == ["neighbour"]
    assert said.why(0, LABELS) == "like nothing in the training images (4 say W)"


def test_a_hand_that_fits_no_label() -> None:
    # distances to the clouds are 1 less than to the neighbours: -0.3, calibrated up to 0.19
    agreed = [[2, 2], [2, 2]]
    said = answer(evidence(agreed, [SURE, SURE], [1.5, 0.7], [1, 1]), rule("relative_mahalanobis"))
    assert said.accepted_N.tolist() == [False, True]
    assert said.why(0, LABELS) == "a hand that fits no label (2 say W)"


def test_an_answered_image_has_no_reason() -> None:
    said = answer(evidence([[1], [1]], [SURE], [0.0], [1, 1]), rule("disagreement", "neighbour"))
    assert said.accepted_N.tolist() == [True]
    assert said.why(0, LABELS) == ""
    assert said.votes(0, LABELS) == "2 say V"


@pytest.mark.parametrize(
    ("votes_M", "words"),
    [
        ([1, 1, 1], "1 says W, 1 says U, 1 says V"),  # ties in the order of the members
        ([1, 3, 1], "3 say U, 1 says W, 1 says V"),  # the second member counts three times
        ([2, 1, 4], "4 say V, 2 say W, 1 says U"),
    ],
)
def test_votes_are_counted_by_weight_and_named_most_first(votes_M: list[int], words: str) -> None:
    said = answer(evidence([[2], [0], [1]], [SURE], [0.0], votes_M), rule("disagreement"))
    assert said.votes(0, LABELS) == words
    assert said.why(0, LABELS) == f"the members disagree ({words})"


def test_clouds_are_not_counted_among_the_members() -> None:
    five = evidence([[0, 1], [0, 0], [2, 0], [1, 2], [1, 0]], [SURE, SURE], [0, 0], [1, 1, 1, 8, 8])
    said = answer(replace(five, clouds=2), rule("disagreement"))
    assert said.votes(0, LABELS) == "2 say U, 1 says W, clouds say V"
    assert said.votes(1, LABELS) == "2 say U, 1 says V, clouds say W and U"
    assert said.labels_N.tolist() == [1, 0]  # their votes count all the same
    assert said.evidence.rows(np.array([0])).clouds == 2


def test_confidence_is_that_of_a_sign_times_that_of_its_label() -> None:
    belief = InDistribution(0.5, np.array([0.0, 9.0]), np.array([0.9, 0.0]))
    base = rule("neighbour")
    near = [0.0, 0.15, 5.0]  # a usual one, one as strange as four of twenty, one like nothing
    shown = evidence([[1, 1, 1]], [SURE] * 3, near, [1])
    plain, counted = (answer(shown, r) for r in (base, replace(base, belief=belief)))
    assert plain.confidence_N == pytest.approx(plain.probability_N)  # at temperature 1
    assert counted.probability_N == pytest.approx(SURE)
    # strangeness is −log p, p = 1 (all 20 as strange), and (1 + 5) / 21 of the second
    of_sign = [0.9, 0.9 * (1 - log(21 / 6) / 9), 0.0]
    assert counted.confidence_N == pytest.approx(np.array(of_sign) * SURE, abs=1e-6)
    assert counted.accepted_N.tolist() == plain.accepted_N.tolist()  # it decides nothing
    hot = replace(base, temperature=2.0)
    root = np.sqrt([SURE, 0.01, 0.01])
    assert answer(shown, hot).confidence_N == pytest.approx(root[0] / root.sum(), abs=1e-6)
    assert answer(shown, hot).probability_N == pytest.approx(SURE)


def test_every_witness_has_a_reason() -> None:
    assert set(REASONS) == set(WITNESSES)


def test_figures_of_an_answer_by_hand() -> None:
    two = evidence([[0, 1], [0, 2]], [0.8, 0.6], [0.05, 0.5], [3, 1])
    said = answer(two, rule("neighbour"))
    # image 1: member 0 gives V 0.6 and W 0.2, member 1 V 0.2 and W 0.6, with three votes to one
    assert said.labels_N.tolist() == [0, 1]
    assert said.confidence_N == pytest.approx([0.8, (3 * 0.6 + 0.2) / 4], abs=1e-7)
    assert said.votes_MN.tolist() == [[0, 1], [0, 2]]
    # 15 of 20 calibration distances are at least 0.05; none is 0.5
    assert said.p_values_N == pytest.approx([16 / 21, 1 / 21], abs=1e-12)
    assert said.accepted_N.tolist() == [True, False]  # 1 - keep is 0.1
    assert said.scores["neighbour"].tolist() == [0.05, 0.5]


def test_the_most_surprised_witness_is_named_under_fisher_too() -> None:
    both = rule("total_uncertainty", "neighbour", joined="fisher")
    said = answer(evidence([[0, 0]], [HALF, SURE], [0.0, 0.9], [1]), both)
    assert said.witness_N.tolist() == ["total_uncertainty", "neighbour"]
    entropy = -(0.5 * log(0.5) + 2 * 0.25 * log(0.25))
    assert said.scores["total_uncertainty"][0] == pytest.approx(entropy, abs=1e-7)


def test_a_guard_is_named_only_where_it_decides() -> None:
    guarded = rule("total_uncertainty", "neighbour", joined="guarded")
    # distance 0.185 is rarer than any but one of twenty, yet not beyond all; 0.9 is
    said = answer(evidence([[0, 0]], [0.97, 0.97], [0.185, 0.9], [1]), guarded)
    assert said.witness_N.tolist() == ["total_uncertainty", "neighbour"]
    assert said.accepted_N.tolist() == [True, False]


def test_what_is_read_too_unsurely_for_the_promise_is_refused() -> None:
    promised = replace(rule("neighbour"), promise=RiskControl(0.05, 0.3, 400, 380, 9))
    three = evidence([[0, 1, 2], [0, 1, 2]], [SURE, 0.6, 0.6], [0.0, 0.0, 0.7], [1, 1])
    said = answer(three, promised)
    unsure = said.scores["total_uncertainty"].tolist()
    assert unsure == pytest.approx([0.112, 0.950, 0.950], abs=1e-3)
    assert said.accepted_N.tolist() == [True, False, False]
    assert said.why(1, LABELS) == "nobody is sure (2 say V)"
    assert said.why(2, LABELS) == "like nothing in the training images (2 say W)"  # in any case
    assert answer(three, rule("neighbour")).accepted_N.tolist() == [True, True, False]
    unkept = replace(promised, promise=RiskControl(0.001, images=400))
    assert answer(three, unkept).accepted_N.tolist() == [True, True, False]


def test_no_images_get_no_answers() -> None:
    none: Answers = answer(
        EnsembleOutput(np.zeros((2, 0, 3), np.float32), np.ones(2), *np.zeros((4, 0))),
        rule("energy"),
    )
    assert none.accepted_N.shape == none.p_values_N.shape == (0,)


def test_a_run_without_members_cannot_answer(tmp_path: Any) -> None:
    run = open_run(Config(run=RunConfig(root=str(tmp_path))))
    with pytest.raises(UserError, match=r"index\.json: not there"):
        load_predictor(run)

"""Scores of two members and two labels, worked out by hand in nats; and the list of scores."""

from __future__ import annotations

from dataclasses import fields, replace
from math import log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.learning.task import Kind
from sign_ensemble.rejection import scores
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.reference_set import Distances
from sign_ensemble.rejection.scores import (
    BY_NAME,
    SCORES,
    Score,
    all_scores,
    distance_scores,
    ood_score_among,
    vetoes_among,
)

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
CLOSE: dict[str, Any] = {"abs": 1e-7, "rel": 0}  # logits are float32


def output_of(logits_MNK: Any, votes_M: list[float] | None = None) -> EnsembleOutput:
    logits = np.array(logits_MNK, np.float32)
    votes = np.array(votes_M or np.ones(len(logits)), np.float64)
    knn_N, regional_N = np.repeat([[0.25], [-2.25]], logits.shape[1], 1)
    return EnsembleOutput(logits, votes, knn_N, regional_N)


def of_probs(probs_MNK: Any, votes_M: list[float] | None = None) -> EnsembleOutput:
    return output_of(np.log(np.array(probs_MNK)), votes_M)


def h(*probs: float) -> float:
    """Entropy in nats, summed over labels."""
    return -sum(p * log(p) for p in probs if p)


def of_both_kinds(probs_MNK: Any, votes_M: list[float] | None = None) -> EnsembleOutput:
    """The last member reads landmarks, the others pixels; each image shows one hand."""
    output = of_probs(probs_MNK, votes_M)
    members, n = output.logits_MNK.shape[:2]
    kinds_M: tuple[Kind, ...] = ("pixels",) * (members - 1) + ("landmarks",)
    joint_N, hands_N = np.full(n, 0.75), np.ones(n, np.int64)
    counts_N2 = np.repeat([[0.125, 0.5]], n, 0)
    return replace(
        output, kinds_M=kinds_M, joint_N=joint_N, hands_N=hands_N, hand_count_N2=counts_N2
    )


TWO = [[[0.8, 0.2]], [[0.4, 0.6]]]  # one image; the members' mean is (0.6, 0.4)


def test_entropy_is_summed_and_in_nats() -> None:
    rows = np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert scores.entropy(rows) == pytest.approx([log(4), 0.0, log(2)], **EXACT)


def test_total_uncertainty_is_the_entropy_of_the_mean() -> None:
    assert scores.total_uncertainty(of_probs(TWO)) == pytest.approx([h(0.6, 0.4)], **CLOSE)
    assert h(0.6, 0.4) == pytest.approx(0.6730116670, abs=1e-9)


def test_disagreement_is_total_uncertainty_less_the_mean_entropy() -> None:
    by_hand = h(0.6, 0.4) - (h(0.8, 0.2) + h(0.4, 0.6)) / 2
    assert by_hand == pytest.approx(0.0863046218, abs=1e-9)
    assert scores.disagreement(of_probs(TWO)) == pytest.approx([by_hand], **CLOSE)


def test_votes_weigh_every_score() -> None:
    # three votes to one: the mean is (0.7, 0.3)
    weighed = of_probs(TWO, [3, 1])
    by_hand = h(0.7, 0.3) - (3 * h(0.8, 0.2) + h(0.4, 0.6)) / 4
    assert scores.total_uncertainty(weighed) == pytest.approx([h(0.7, 0.3)], **CLOSE)
    assert scores.disagreement(weighed) == pytest.approx([by_hand], **CLOSE)


def test_disagreement_between_and_within_kinds_by_hand() -> None:
    # two members read pixels, their mean is (0.6, 0.4); a third, with two votes, reads landmarks
    output = of_both_kinds([*TWO, [[0.2, 0.8]]], [1, 1, 2])
    found = all_scores(output)
    between = h(0.4, 0.6) - (h(0.6, 0.4) + h(0.2, 0.8)) / 2
    within = (h(0.6, 0.4) - (h(0.8, 0.2) + h(0.4, 0.6)) / 2) / 2
    assert found["disagreement_between"] == pytest.approx([between], **CLOSE)
    assert found["disagreement_pixels"] == pytest.approx([within], **CLOSE)
    assert found["disagreement_landmarks"] == pytest.approx([0.0], **CLOSE)
    assert found["disagreement"] == pytest.approx([between + within], **CLOSE)


def test_a_vote_of_two_is_the_same_member_twice() -> None:
    once = all_scores(of_both_kinds([TWO[0], TWO[1], TWO[0]], [2, 1, 1]))
    twice = all_scores(of_both_kinds([TWO[0], TWO[0], TWO[1], TWO[0]]))
    for name, values in once.items():
        assert values == pytest.approx(twice[name], **EXACT)


def test_members_that_agree_do_not_disagree() -> None:
    agreed = of_probs([[[0.7, 0.3], [0.5, 0.5]], [[0.7, 0.3], [0.5, 0.5]]])
    assert scores.disagreement(agreed) == pytest.approx([0.0, 0.0], **EXACT)
    assert scores.total_uncertainty(agreed) == pytest.approx([h(0.7, 0.3), log(2)], **CLOSE)


def test_members_certain_and_opposed_disagree_by_log_2() -> None:
    opposed = output_of([[[800.0, 0.0]], [[0.0, 800.0]]])
    assert scores.disagreement(opposed) == pytest.approx([log(2)], **EXACT)
    assert scores.total_uncertainty(opposed) == pytest.approx([log(2)], **EXACT)


def test_one_member_never_disagrees() -> None:
    rng = np.random.default_rng(0)
    alone = output_of(5 * rng.normal(size=(1, 50, 7)))
    assert scores.disagreement(alone) == pytest.approx(np.zeros(50), **EXACT)
    assert scores.disagreement(alone).min() >= 0  # rounding never makes it negative


def test_distances_and_hand_counts_are_those_of_the_output() -> None:
    output = replace(of_probs(TWO), hand_count_N2=np.array([[0.125, 0.5]]))
    found = {name: values.tolist() for name, values in all_scores(output).items()}
    assert (found["knn_distance"], found["regional_mahalanobis"]) == ([0.25], [-2.25])
    assert (found["no_hand"], found["two_hands"]) == ([0.125], [0.5])


def test_hands_are_counted_and_the_joint_distance_is_that_of_the_output() -> None:
    output = of_both_kinds([[[0.8, 0.2]] * 3, [[0.4, 0.6]] * 3])
    found = all_scores(replace(output, hands_N=np.array([0, 1, 2])))
    assert found["joint_distance"].tolist() == [0.75, 0.75, 0.75]
    assert found["several_hands"].tolist() == [0.0, 0.0, 1.0]


def test_without_hands_there_are_no_scores_of_them() -> None:
    assert not {"joint_distance", "several_hands"} & set(all_scores(of_probs(TWO)))
    for name in ("joint_distance", "several_hands"):
        with pytest.raises(ValueError, match=f"{name}: hands are not used"):
            BY_NAME[name].of(of_probs(TWO))


def test_without_a_detector_there_are_no_hand_count_scores() -> None:
    assert not {"no_hand", "two_hands"} & set(all_scores(of_probs(TWO)))
    for name in ("no_hand", "two_hands"):
        with pytest.raises(ValueError, match=f"{name}: there is no hand-count detector"):
            scores.hand_count_score(of_probs(TWO), name)


def test_distance_scores_need_no_members() -> None:
    distances = Distances(np.array([0.25]), np.array([-2.25]), np.zeros((1, 1, 2)))
    output = replace(of_probs(TWO), hand_count_N2=np.array([[0.125, 0.5]]))
    for counts_NG, of_members in ((None, of_probs(TWO)), (output.hand_count_N2, output)):
        found = distance_scores(replace(distances, hand_count_N2=counts_NG))
        every = all_scores(of_members)
        assert set(found) == set(every) - {"total_uncertainty", "disagreement"}
        for name, values in found.items():
            assert np.array_equal(values, every[name]), name


@pytest.mark.parametrize("height", [1e4, 1e30, -1e30, 3e38])
def test_huge_logits_stay_finite(height: float) -> None:
    huge = output_of([[[height, 0.0], [height, height]], [[0.0, height], [-height, height]]])
    for name, values in all_scores(huge).items():
        assert np.isfinite(values).all(), name


def test_scores_of_members_are_higher_for_the_less_certain_image() -> None:
    # image 0: certain and agreed; image 1: uncertain and split
    output = output_of([[[9.0, 0.0], [1.0, 0.0]], [[9.0, 0.0], [0.0, 1.0]]])
    found = all_scores(output)
    of_members = [score.name for score in SCORES if score.needs == "members"]
    assert of_members == ["total_uncertainty", "disagreement"]
    for name in of_members:
        assert found[name][1] > found[name][0], name


def test_max_prob_is_one_minus_the_highest() -> None:
    probs = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    assert scores.max_prob(probs) == pytest.approx([0.3, 0.0, 0.5], **EXACT)


# --- the list -------------------------------------------------------------------------------------


def test_every_score_has_all_fields_and_a_name_of_its_own() -> None:
    for score in SCORES:
        for field in fields(Score):
            assert getattr(score, field.name), (score.name, field.name)
        assert score.meaning.endswith(".") and not score.reason.endswith(".")
    for name in ("name", "title", "meaning", "reason"):
        assert len({getattr(score, name) for score in SCORES}) == len(SCORES), name
    assert [*BY_NAME] == [score.name for score in SCORES]


def test_roles_are_those_that_the_rule_gives() -> None:
    def of_role(role: str) -> tuple[str, ...]:
        return tuple(score.name for score in SCORES if score.role == role)

    assert of_role("OOD test") == scores.OOD_SCORES
    assert of_role("uncertainty test") == (scores.UNCERTAINTY_SCORE,)
    assert of_role("veto") == scores.VETOES
    assert of_role("comparison") == ("disagreement", *BETWEEN_AND_WITHIN)


def test_every_score_of_the_list_is_computed_by_its_function() -> None:
    output = of_both_kinds(TWO)
    found = all_scores(output)
    assert list(found) == list(BY_NAME)
    for name, values in found.items():
        assert np.array_equal(values, BY_NAME[name].of(output)), name


def test_scores_that_need_what_is_missing_are_left_out() -> None:
    def needing(what: str) -> set[str]:
        return {score.name for score in SCORES if score.needs == what}

    assert needing("hand-count detector") == set(scores.HAND_COUNT_SCORES)
    assert needing("hands") == {"joint_distance", "hand_not_found", "several_hands"}
    assert needing("both kinds") == set(BETWEEN_AND_WITHIN)
    both = of_both_kinds(TWO)
    for output, missing in (
        (replace(both, hand_count_N2=None), needing("hand-count detector")),
        (replace(both, joint_N=None, hands_N=None), needing("hands")),
        (replace(both, kinds_M=("pixels", "pixels")), needing("both kinds")),
    ):
        assert set(all_scores(output)) == set(BY_NAME) - missing
    every = needing("hand-count detector") | needing("hands") | needing("both kinds")
    assert set(all_scores(of_probs(TWO))) == set(BY_NAME) - every


def test_the_joint_distance_is_tested_where_there_is_one() -> None:
    assert ood_score_among(BY_NAME_VALUES) == "joint_distance"
    assert ood_score_among(all_scores(of_probs(TWO))) == "regional_mahalanobis"


def test_vetoes_are_those_with_scores() -> None:
    assert vetoes_among(BY_NAME_VALUES) == scores.VETOES  # in the order of VETOES
    without = {name: values for name, values in BY_NAME_VALUES.items() if "hand" not in name}
    assert vetoes_among(without) == ("knn_distance",)


BETWEEN_AND_WITHIN = ("disagreement_between", "disagreement_pixels", "disagreement_landmarks")
BY_NAME_VALUES = {name: np.zeros(1) for name in reversed(BY_NAME)}

"""The rule: its statistic, tests and decisions worked out by hand, and its coverage in simulation.

Letters: C calibration images, Q tests.
"""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.rejection.conformal import (
    conformal_p,
    loo_neg_log_p,
    neg_log_p,
    signer_weights,
)
from sign_ensemble.rejection.rule import (
    Rule,
    accepts_score,
    loo_ood_statistic,
    loo_veto_excess,
    ood_statistic,
    veto_excess,
)
from sign_ensemble.rejection.scores import HAND_COUNT_SCORES
from sign_ensemble.rejection.selective_risk_control import RiskControl

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
OOD, KNN, UNCERTAINTY = "regional_mahalanobis", "knn_distance", "total_uncertainty"


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def rule(more: dict[str, np.ndarray] | None = None, **changed: Any) -> Rule:
    """The OOD test and a veto, four calibration images of two signers; and more scores."""
    values: dict[str, Any] = {
        "target_coverage": 0.95,
        "uncertainty_share": 0.0,
        "calibration": {OOD: f(1, 2, 3, 4), KNN: f(0.4, 0.3, 0.2, 0.1), **(more or {})},
        "groups_C": np.array([0, 0, 0, 1]),
        "single_C": f(0.1, 0.2, 0.3, 1 / 3),
        "temperature": 1.0,
    }
    return Rule(**{**values, **changed})


def combined(made: Rule, scores: dict[str, np.ndarray]) -> np.ndarray:
    """p-values of the tests over their shares."""
    return made.over_shares(made.p_of_tests(scores))


def two_tests(n: int = 4, **changed: Any) -> Rule:
    """Both tests, n signers of one calibration image each; the veto is silent."""
    values: dict[str, Any] = {
        "target_coverage": 0.5,
        "uncertainty_share": 0.25,
        "calibration": {OOD: f(1, 2, 3, 4), UNCERTAINTY: f(0.1, 0.4, 0.2, 0.3)},
        "groups_C": np.arange(n),
        **changed,
    }
    values["calibration"] = {KNN: np.zeros(n), **values["calibration"]}
    return rule(**values)


def scores_of(**scores: np.ndarray) -> dict[str, np.ndarray]:
    """Scores by short name; a kNN distance of 0 where none is given."""
    names = {"ood": OOD, "knn": KNN, "uncertainty": UNCERTAINTY}
    found = {names.get(name, name): values for name, values in scores.items()}
    return {KNN: np.zeros(len(next(iter(found.values())))), **found}


# --- the statistic --------------------------------------------------------------------------------


def test_a_veto_counts_only_beyond_all_calibration_images() -> None:
    assert rule().vetoes == (KNN,)
    # kNN distances 0.1 to 0.4: the 90 % quantile is 0.37, beta = 0.03
    scores = scores_of(ood=f(2, 4, 1, 3), knn=f(0.39, 0.4, 0.46, 0.43))
    by_ood = neg_log_p(scores[OOD], f(1, 2, 3, 4), rule().weights_C)
    found = rule().statistics(scores)
    assert list(found) == [OOD, KNN]
    assert found[OOD] == pytest.approx(by_ood, **EXACT)
    assert found[KNN] == pytest.approx([0, 0, 2, 1], abs=1e-9)
    by_hand = [by_ood[0], by_ood[1], 2.0, max(1.0, by_ood[3])]
    assert rule().statistic(scores) == pytest.approx(by_hand, abs=1e-9)
    loo = loo_neg_log_p(f(1, 2, 3, 4), rule().weights_C)
    assert rule().loo_statistic() == pytest.approx(
        np.maximum(loo, f(0.1 / 0.03, 0, 0, 0)), abs=1e-9
    )


def test_the_statistic_of_the_calibration_images_by_hand() -> None:
    # a sixth each and a half: p of 1 to 4 is 1, 13/15, 11/15, 9/15; none is beyond all
    by_hand = -np.log(f(1, 13 / 15, 11 / 15, 9 / 15))
    assert rule().statistic(rule().calibration) == pytest.approx(by_hand, **EXACT)


def test_hand_count_vetoes_start_at_the_log_of_the_number_of_images() -> None:
    both = rule({"no_hand": f(1, 2, 3, 4), "two_hands": f(1, 2, 3, 4)})
    assert both.vetoes == (KNN, "no_hand", "two_hands")
    # the 90 % quantile of 1 to 4 is 3.7, beta = 0.3
    scores = scores_of(ood=f(1, 1), no_hand=f(4.3, 0.7), two_hands=f(-9, 4))
    found = both.statistics(scores)
    assert found["no_hand"] == pytest.approx([log(5) + 1.0, 0.0], abs=1e-9)
    assert found["two_hands"].tolist() == found[KNN].tolist() == [0, 0]
    calibration = both.calibration["two_hands"]
    for name in HAND_COUNT_SCORES:
        by_hand = [0, 0, 0, log(4) + 1 / 0.3]
        assert loo_veto_excess(name, calibration) == pytest.approx(by_hand, abs=1e-9)
    assert loo_veto_excess(KNN, calibration) == pytest.approx([0, 0, 0, 1 / 0.3], abs=1e-9)
    assert veto_excess(KNN, f(4.3), calibration) == pytest.approx([1.0], abs=1e-9)


def test_of_several_vetoes_the_farthest_beyond_counts() -> None:
    both = rule({"two_hands": f(1, 2, 3, 4)})
    assert both.vetoes == (KNN, "two_hands")
    scores = scores_of(ood=f(1, 1, 1), two_hands=f(4, 4.6, 4.3), knn=f(0.43, 0.43, 0.52))
    by_hand = [1.0, log(5) + 2.0, 4.0]
    assert both.statistic(scores) == pytest.approx(by_hand, abs=1e-9)


def test_words() -> None:
    both = rule({"no_hand": f(1, 2, 3, 4)}, uncertainty_share=0.5)
    by_hand = "regional_mahalanobis with the vetoes knn_distance, no_hand"
    assert both.words() == f"{by_hand}, and total_uncertainty as a second test"
    assert replace(both, uncertainty_share=0.0).words() == by_hand


# --- p-values -------------------------------------------------------------------------------------


def test_p_values_by_hand_every_signer_weighing_the_same() -> None:
    # leave-one-out p of 1 to 4: 1, 11/13, 9/13, 1/3 with a tail of 1 / 0.3; the veto is silent
    one = rule(calibration={OOD: f(1, 2, 3, 4), KNN: np.zeros(4)})
    by_hand = [0, -log(11 / 13), -log(9 / 13), log(3) + 1 / 0.3]
    assert one.loo_statistic() == pytest.approx(by_hand, **EXACT)
    # the statistic of 1.5 lies between −log 1 and −log 13/15, below all but the first; of 3.5
    # between −log 11/15 and −log 9/15, below the last, which weighs a half; of 9 above all
    p = [1.0, (1 + 4 * 5 / 6) / 5, (1 + 4 / 2) / 5, 1 / 5]
    assert one.p_of_tests(scores_of(ood=f(0, 1.5, 3.5, 9))).min(0) == pytest.approx(p, **EXACT)


def test_p_values_at_the_ends() -> None:
    scores = scores_of(ood=f(9, 0, 0), knn=f(0.9, 0.0, 0.9))  # the veto alone is enough
    assert rule().p_of_tests(scores).min(0) == pytest.approx([1 / 5, 1.0, 1 / 5], **EXACT)


@pytest.mark.parametrize("n", [39, 99])
def test_the_ood_test_keeps_its_share_with_all_vetoes(n: int) -> None:
    """2,000 draws of exchangeable images, four related scores and one hand in fifty that is not
    found: at most 5 % have p ≤ 0.05.
    """
    rng = np.random.default_rng(n)
    weights, rejected = np.full(n, 1 / n), 0
    for _ in range(2000):
        drawn = (0.6 * rng.normal(size=(n + 1, 1)) + rng.normal(size=(n + 1, 4))).T
        scores = dict(zip((OOD, KNN, *HAND_COUNT_SCORES), drawn, strict=True))
        scores["hand_not_found"] = (rng.random(n + 1) < 0.02).astype(float)
        calibration = {name: values[:n] for name, values in scores.items()}
        new = ood_statistic({k: v[n:] for k, v in scores.items()}, calibration, weights)
        loo = loo_ood_statistic(calibration, weights)
        rejected += int(conformal_p(new, loo)[0] <= 0.05 + 1e-9)
    spread = np.sqrt(0.05 * 0.95 / 2000)
    assert 0.05 - 4 * spread <= rejected / 2000 <= 0.05 + 2 * spread


def test_the_joint_distance_is_tested_where_hands_are_used() -> None:
    hands = {"joint_distance": f(4, 3, 2, 1), "several_hands": np.zeros(4)}
    of_hands = rule(hands)
    assert (rule().ood_score, of_hands.ood_score) == (OOD, "joint_distance")
    assert of_hands.vetoes == (KNN, "several_hands")
    assert of_hands.words() == "joint_distance with the vetoes knn_distance, several_hands"
    scores = scores_of(ood=f(9, 0, 0), joint_distance=f(0, 9, 0), several_hands=f(0, 0, 1))
    found = of_hands.statistics(scores)
    assert list(found) == ["joint_distance", KNN, "several_hands"]
    assert found["joint_distance"][:1] == pytest.approx([0.0], **EXACT)
    # the highest calibration image, which weighs a sixth, is log 4 + 1 / .3 nats among the others:
    # more than the log 5 + 1 of several hands
    p = [1.0, 1 / 5, (1 + 4 / 6) / 5]
    assert of_hands.p_of_tests(scores).min(0) == pytest.approx(p, **EXACT)


def test_a_hand_that_is_not_found_counts_in_calibration_too() -> None:
    # C = 4, one calibration image without a hand: log 4 + 1 among the others, a new one log 5 + 1
    missed = {"joint_distance": f(1, 2, 3, 4), "hand_not_found": f(0, 0, 1, 0)}
    of_hands = rule({**missed, KNN: np.zeros(4)}, groups_C=np.arange(4))
    assert of_hands.loo_statistic()[2] == pytest.approx(log(4) + 1, **EXACT)
    scores = {"joint_distance": f(0, 0), "hand_not_found": f(0, 1), KNN: f(0, 0)}
    assert of_hands.statistic(scores) == pytest.approx([0, log(5) + 1], **EXACT)


def test_images_and_their_copies_weigh_the_same() -> None:
    # signer 0: two images and a copy; signer 1: an image and three copies
    groups = np.array([0, 0, 1, 0, 1, 1, 1])
    copies = np.array([False, False, False, True, True, True, True])
    scores = np.arange(7.0)
    mixed = rule(calibration={OOD: scores, KNN: scores}, groups_C=groups, copies_C=copies)
    by_hand = f(1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 12, 1 / 12, 1 / 12)
    assert mixed.weights_C == pytest.approx(by_hand, **EXACT)
    for none in (None, np.zeros(7, bool)):
        plain = replace(mixed, copies_C=none).weights_C
        assert plain == pytest.approx(np.where(groups == 0, 1 / 6, 1 / 8), **EXACT)


# --- decisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target_coverage", [0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [9, 19, 39, 79, 99, 199])
def test_a_p_value_equal_to_alpha_is_rejected(target_coverage: float, n: int) -> None:
    # of n + 1 ranks, floor((n + 1) alpha) are rejected; in floating point 1 - 0.9 < 0.1
    scores = np.arange(n, dtype=np.float64)
    p = conformal_p(np.append(scores, n) - 0.5, scores)
    ranks = range(n + 1, 0, -1)
    assert p == pytest.approx([rank / (n + 1) for rank in ranks], **EXACT)
    in_integers = [100 * rank > (100 - round(100 * target_coverage)) * (n + 1) for rank in ranks]
    one = rule(target_coverage=target_coverage, groups_C=np.arange(n) % 2)
    assert one.passes(p[None]).tolist() == [
        fine and rank > 1 for fine, rank in zip(in_integers, ranks, strict=True)
    ]


def test_one_score_decides_in_the_same_way() -> None:
    weights, calibration = signer_weights(np.array([0, 0, 0, 1])), f(1, 2, 3, 4)
    scores = f(0, 1.5, 3.5, 5)  # p = 1, 13/15, 9/15, 3/15
    assert accepts_score(scores, calibration, weights, 0.35).tolist() == [True, True, False, False]
    assert accepts_score(scores, calibration, weights, 0.5).tolist() == [True, True, True, False]


def test_a_rule_accepts_its_target_coverage_of_the_calibration_images() -> None:
    rng = np.random.default_rng(0)
    scores = {OOD: rng.normal(size=400), KNN: rng.normal(size=400)}
    big = rule(target_coverage=0.9, calibration=scores, groups_C=np.arange(400) % 4)
    accepted = big.accepted_calibration()
    assert accepted.mean() == pytest.approx(0.9, abs=0.01)
    assert big.loo_statistic()[accepted].max() < big.loo_statistic()[~accepted].min()


def test_risk_control_rejects_what_is_too_uncertain() -> None:
    scores = {UNCERTAINTY: f(0.2, 0.3, 0.31)}
    controlled = rule(risk_control=RiskControl(0.05, 0.3, 400, 380, 9))
    assert controlled.too_uncertain(scores).tolist() == [False, False, True]
    assert not rule().too_uncertain(scores).any()
    unsupported = rule(risk_control=RiskControl(0.001, images=400))
    assert not unsupported.too_uncertain(scores).any()


# --- two tests ------------------------------------------------------------------------------------


def test_each_test_has_its_share_of_alpha() -> None:
    scores = scores_of(ood=f(0, 3.5, 0, 9), uncertainty=f(0, 0, 0.35, 0.35))
    both = two_tests(target_coverage=0.2)  # a quarter of 0.8 is 1/5, what four images support
    # p of the OOD test: 1, 2/5, 1, 1/5 over 3/4; of uncertainty: 1, 1, 2/5, 2/5 over 1/4
    by_hand = [1.0, 8 / 15, 1.0, 4 / 15]
    assert combined(both, scores).min(0) == pytest.approx(by_hand, **EXACT)
    swapped = two_tests(
        uncertainty_share=0.75, target_coverage=0.2
    )  # 4, 8/5, 4, 4/5 and 4/3, 4/3, 8/15, 8/15
    assert combined(swapped, scores).min(0) == pytest.approx([1.0, 1.0, 8 / 15, 8 / 15], **EXACT)
    assert combined(both, scores).argmin(0).tolist() == [0, 0, 0, 0]
    assert combined(swapped, scores).argmin(0).tolist() == [0, 0, 1, 1]
    alone = two_tests(uncertainty_share=0.0)
    assert alone.p_of_tests(scores).min(0) == pytest.approx([1.0, 2 / 5, 1.0, 1 / 5], **EXACT)
    assert alone.p_of_tests(scores).shape == (1, 4)
    assert np.array_equal(alone.rejection_score(scores), alone.statistic(scores))


def test_a_higher_rejection_score_has_no_larger_p_value() -> None:
    rng = np.random.default_rng(3)
    calibration = {name: rng.normal(size=60) for name in (OOD, UNCERTAINTY)}
    both = two_tests(60, calibration=calibration, groups_C=np.arange(60) % 5)
    for varied, other in ((OOD, UNCERTAINTY), (UNCERTAINTY, OOD)):
        scores = {KNN: np.zeros(200), varied: rng.normal(size=200), other: np.full(200, -9.0)}
        rejection_score, p = both.rejection_score(scores), combined(both, scores).min(0)
        assert (np.diff(p[np.argsort(rejection_score)]) <= 1e-12).all()
    beyond_all = scores_of(ood=f(0, 0), uncertainty=f(50, 60))
    assert np.diff(both.rejection_score(beyond_all)) > 0  # ranks images of equal p-value


def test_two_tests_reject_no_more_than_alpha() -> None:
    rng = np.random.default_rng(4)
    rejected = []
    for _ in range(400):
        shared = rng.normal(size=120)  # images of high OOD score are often uncertain too
        drawn = {name: shared + rng.normal(size=120) for name in (OOD, UNCERTAINTY)}
        both = two_tests(
            99,
            calibration={name: values[:99] for name, values in drawn.items()},
            groups_C=np.zeros(99, int),
            target_coverage=0.9,
            uncertainty_share=0.5,
        )
        scores = {KNN: np.zeros(21), **{name: values[99:] for name, values in drawn.items()}}
        rejected.append(1 - both.passes(both.p_of_tests(scores)).mean())
    assert 0.05 < np.mean(rejected) < 0.1


def test_calibration_images_are_accepted_by_both_tests() -> None:
    calibration = {OOD: np.arange(40.0), UNCERTAINTY: np.arange(40.0)[::-1].copy()}
    both = two_tests(40, calibration=calibration, target_coverage=0.9, uncertainty_share=0.5)
    rejected = np.flatnonzero(~both.accepted_calibration())
    assert rejected.tolist() == [0, 39]  # the most uncertain, and that of the highest OOD score

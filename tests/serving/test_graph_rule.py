"""The exported rule decides as the run's own code does: by hand, and on random scores.

Letters: N images, C calibration images, K labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sign_ensemble.rejection.confidence import confidence
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.selective_risk_control import RiskControl
from sign_ensemble.serving.graph_rule import GraphRule, Interpolated, PValue, SortedNumbers

OOD, KNN, UNCERTAINTY = "regional_mahalanobis", "knn_distance", "total_uncertainty"
HANDS = ("joint_distance", "hand_not_found", "several_hands")
Scores = dict[str, np.ndarray]


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def a_rule(calibration: Scores, **changed: Any) -> Rule:
    """A rule of calibration images that are a signer each."""
    count = len(calibration[KNN])
    values: dict[str, Any] = {
        "target_coverage": 0.5, "uncertainty_share": 0.25, "calibration": calibration,
        "groups_C": np.arange(count), "single_C": np.zeros(count), "temperature": 1.0,
    }  # fmt: skip
    return Rule(**{**values, **changed})


def drawn(rng: np.random.Generator, n: int, hands: bool) -> Scores:
    """Random scores, some of them beyond the others, and many ties."""
    wide = rng.choice([0.3, 1.0, 6.0], n, p=[0.2, 0.6, 0.2])
    scores = {name: np.round(rng.normal(size=n) * wide, 1) for name in (OOD, KNN, UNCERTAINTY)}
    scores |= {name: np.round(rng.normal(size=n) * wide, 2) for name in ("no_hand", "two_hands")}
    if hands:
        count = rng.choice([0, 1, 2], n, p=[0.1, 0.8, 0.1])
        scores["joint_distance"] = np.round(rng.normal(size=n) * wide, 1)
        scores["hand_not_found"] = (count == 0).astype(float)
        scores["several_hands"] = (count > 1).astype(float)
    return scores


def decide(rule: Rule, scores: Scores, target: float | None = None) -> dict[str, Any]:
    """What the exported rule says of images, all of them surely of the first of three labels."""
    graph = GraphRule(rule, [*scores])
    n = len(scores[KNN])
    probs_NK = torch.tensor([[0.8, 0.15, 0.05]], dtype=torch.float64).expand(n, -1)
    found = graph(
        {name: torch.from_numpy(values) for name, values in scores.items()},
        probs_NK,
        1 - torch.from_numpy(scores["hand_not_found"]).long() if HANDS[1] in scores else None,
        torch.tensor(rule.target_coverage if target is None else target, dtype=torch.float64),
    )
    return {name: value.numpy() for name, value in vars(found).items()}


def test_ties_have_the_p_values_known_by_hand() -> None:
    # seven calibration images, of which three score 2: p = (1 + images at least as high) / 8
    p_value = PValue(f(1, 2, 2, 2, 3, 4, 5), np.full(7, 1 / 7))
    found = p_value(torch.from_numpy(f(0.5, 1, 1.5, 2, 2.5, 5, 5.5)))
    assert found.numpy() == pytest.approx(f(8, 8, 7, 7, 4, 2, 1) / 8, abs=1e-12)


def test_by_hand() -> None:
    # p-values by the OOD test about 1, 1 and 1/8, by the uncertainty test 3/8, 1/8 and 1; each has
    # a half of alpha
    values = f(1, 2, 3, 4, 5, 6, 7)
    ties = {OOD: values, KNN: np.zeros(7), UNCERTAINTY: f(1, 2, 2, 2, 3, 4, 5)}
    rule = a_rule(ties, uncertainty_share=0.5)
    scores = {OOD: f(0, 0, 99), KNN: f(0, 0, 0), UNCERTAINTY: f(3.5, 9, 0)}
    found = decide(rule, scores)
    assert found["p_values_N"] == pytest.approx(f(3 / 4, 1 / 4, 1 / 4), abs=1e-12)
    assert found["accepted_N"].tolist() == [True, False, False]
    assert [[*scores][at] for at in found["deciding_N"]] == [UNCERTAINTY, UNCERTAINTY, OOD]


def test_a_p_value_equal_to_its_level_is_rejected() -> None:
    values = f(1, 2, 3, 4, 5, 6, 7)
    rule = a_rule({OOD: values, KNN: np.zeros(7), UNCERTAINTY: values}, uncertainty_share=0.0)
    scores = {OOD: f(4.5), KNN: f(0), UNCERTAINTY: f(0)}
    [p] = rule.p_of_tests(scores)[0]
    assert p > 2 / 8
    for more, accepted in ((0, False), (1e-10, False), (-1e-10, False), (1e-8, True)):
        found = decide(rule, scores, 1 - p + more)
        assert found["accepted_N"].tolist() == [accepted], more
        by_rule = replace(rule, target_coverage=1 - p + more).passes(f(p)[None])
        assert by_rule.tolist() == [accepted]


@pytest.mark.parametrize("hands", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("images", [3, 60, 997])
def test_it_decides_as_the_rule_does(images: int, share: float, hands: bool) -> None:
    rng = np.random.default_rng(images)
    calibration, scores = drawn(rng, images, hands), drawn(rng, 500, hands)
    rule = a_rule(
        calibration,
        uncertainty_share=share,
        groups_C=np.arange(images) % 3,
        copies_C=np.arange(images) % 2 > 0,
        temperature=0.7,
        in_distribution=InDistribution(0.5, f(0.1, 1, 3), f(0.95, 0.6, 0.02)),
        risk_control=RiskControl(0.05, 1.5, images, images, 0),
    )
    for target in (0.5, 0.9, 0.99):
        of_target = replace(rule, target_coverage=target)
        found, p_QN = decide(rule, scores, target), of_target.p_of_tests(scores)
        passes_N, uncertain_N = of_target.passes(p_QN), of_target.too_uncertain(scores)
        combined_QN = of_target.over_shares(p_QN)
        assert np.array_equal(found["p_values_N"], combined_QN.min(0))
        assert np.array_equal(found["accepted_N"], passes_N & ~uncertain_N)
        probs_NK = np.tile(f(0.8, 0.15, 0.05), (500, 1))
        statistic_N = rule.statistic(scores)
        by_rule = confidence(probs_NK, statistic_N, 0.7, rule.in_distribution)
        assert found["confidence_N"] == pytest.approx(by_rule, abs=1e-12)
        statistics = rule.statistics(scores)
        by_uncertainty = (combined_QN.argmin(0) == 1) | (uncertain_N & passes_N)
        deciding = np.array([*statistics])[np.stack([*statistics.values()]).argmax(0)]
        if hands:
            nothing = (scores["hand_not_found"] > 0) & (deciding == "joint_distance")
            deciding = np.where(nothing, "hand_not_found", deciding)
        deciding = np.where(by_uncertainty, UNCERTAINTY, deciding)
        assert np.array([*scores])[found["deciding_N"]].tolist() == deciding.tolist()


def test_without_p_in_distribution_and_risk_control() -> None:
    scores = {OOD: f(1, 9), KNN: f(0, 0), UNCERTAINTY: f(99, 0)}
    rule = a_rule(scores, uncertainty_share=0.0, target_coverage=0.9)
    found = decide(rule, {OOD: f(0), KNN: f(0), UNCERTAINTY: f(1e9)})
    assert found["confidence_N"] == pytest.approx([0.8], abs=1e-12)
    assert found["accepted_N"].tolist() == [True]
    unsupported = replace(rule, risk_control=RiskControl(0.01))
    assert decide(unsupported, {OOD: f(0), KNN: f(0), UNCERTAINTY: f(1e9)})["accepted_N"].all()


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17])
def test_numbers_below(count: int) -> None:
    numbers = np.cumsum(np.random.default_rng(count).integers(0, 2, count)).astype(np.float64)
    at = np.arange(-1, count + 2) / 2
    sorted_numbers = SortedNumbers(numbers)
    for side, or_equal in (("left", False), ("right", True)):
        found = sorted_numbers(torch.from_numpy(at), or_equal)
        assert found.tolist() == np.searchsorted(numbers, at, side).tolist()  # type: ignore[call-overload]


def test_interpolation_is_numpys() -> None:
    knots, values = f(-1, 0, 0.25, 4), f(3, 2, 2, -1)
    at = np.linspace(-2, 6, 81)
    found = Interpolated(knots, values)(torch.from_numpy(at))
    assert found.numpy() == pytest.approx(np.interp(at, knots, values), abs=1e-15)
    assert Interpolated(f(1), f(5))(torch.from_numpy(f(0, 1, 2))).tolist() == [5, 5, 5]

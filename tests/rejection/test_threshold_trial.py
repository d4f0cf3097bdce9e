"""Each training signer by the threshold of the others, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.selective_risk_control import RiskControl
from sign_ensemble.rejection.threshold_trial import rule_from, threshold_trial

# Three signers of 20 images each, at 0.5 to 19.5; the second signer's last four lie far outside.
SCORES = np.tile(np.arange(20.0), 3) + np.repeat([0.5, 0.51, 0.52], 20)
SCORES[36:40] = 100 + np.arange(4.0)


@pytest.fixture
def rule() -> Rule:
    zeros = np.zeros(60)
    return Rule(
        target_coverage=0.9,
        uncertainty_share=0.0,
        calibration={"regional_mahalanobis": SCORES, "knn_distance": zeros},
        groups_C=np.repeat([0, 1, 2], 20),
        single_C=zeros,
        temperature=1.0,
    )


def test_coverage_of_each_by_the_others(rule: Rule) -> None:
    """40 others: p = (1 + those at least as high) / 41 must exceed .1, so 4 others or more."""
    first, second, third = threshold_trial(rule)
    # among signers 1 and 2, of whom six lie above 17.52 (four far out, 18.52, 19.52)
    assert first.images.all()
    # among signers 0 and 2: 18.5 has 18.52, 19.5, 19.52 above it, 15.51 has eight
    assert second.images.tolist() == [True] * 16 + [False] * 4
    assert third.images.all()
    assert [len(each.copies) for each in (first, second, third)] == [0, 0, 0]
    assert [each.number for each in (first, second, third)] == [0, 1, 2]


def test_images_and_copies_separately(rule: Rule) -> None:
    copies_C = np.tile(np.arange(20) % 2 == 1, 3)
    second = threshold_trial(replace(rule, copies_C=copies_C))[1]
    assert second.images.tolist() == [True] * 8 + [False] * 2
    assert second.copies.tolist() == [True] * 8 + [False] * 2


def test_a_rule_from_some_has_only_theirs(rule: Rule) -> None:
    controlled = replace(rule, risk_control=RiskControl(0.1, 0.5))
    some = rule_from(controlled, rule.groups_C == 2)
    assert some.calibration["regional_mahalanobis"].tolist() == SCORES[40:].tolist()
    assert set(some.groups_C) == {2}
    assert some.risk_control is None

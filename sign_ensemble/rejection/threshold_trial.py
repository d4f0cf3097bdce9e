"""Threshold trial: each training signer in turn meets a threshold from the others alone.

It shows how far the coverage of a person strays from the target before a test signer is read. Both
sides of the comparison come from models that lack one signer, so it says how people differ, not
what one more training signer changes.

Letters: C calibration images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.rejection.rule import Rule


@dataclass(frozen=True)
class LeftOutFold:
    """One fold's calibration images: which of them the other folds' threshold accepts."""

    number: int
    images: NDArray[np.bool_]  # of the images as they are
    copies: NDArray[np.bool_]  # of their augmented copies


def rule_from(rule: Rule, chosen_C: NDArray[np.bool_]) -> Rule:
    """The rule with these calibration images alone, and without selective risk control."""
    return replace(
        rule,
        calibration={name: scores_C[chosen_C] for name, scores_C in rule.calibration.items()},
        groups_C=rule.groups_C[chosen_C],
        single_C=rule.single_C[chosen_C],
        copies_C=None if rule.copies_C is None else rule.copies_C[chosen_C],
        risk_control=None,
    )


def threshold_trial(rule: Rule) -> list[LeftOutFold]:
    """Every fold with the threshold of the other folds, in the order of their numbers."""
    copies_C = np.zeros(len(rule.groups_C), bool) if rule.copies_C is None else rule.copies_C
    found = []
    for fold in np.unique(rule.groups_C):
        own_C = rule.groups_C == fold
        others = rule_from(rule, ~own_C)
        own = {name: scores_C[own_C] for name, scores_C in rule.calibration.items()}
        accepted = others.passes(others.p_of_tests(own))
        of_copies = copies_C[own_C]
        found.append(LeftOutFold(int(fold), accepted[~of_copies], accepted[of_copies]))
    return found

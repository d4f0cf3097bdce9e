"""What the counts of hands in calibration images say."""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.pipeline.rule_calibration import counts_of_one_hand

IMAGES, COPIES = 100, 100


def scores(missed: int) -> dict[str, np.ndarray]:
    """100 images, so many of them without a hand, three with several; their copies all have one."""
    none, several = np.zeros(IMAGES + COPIES), np.zeros(IMAGES + COPIES)
    none[:missed], several[50:53] = 1, 1
    other = np.arange(IMAGES + COPIES, dtype=float)
    return {"joint_distance": other, "hand_not_found": none, "several_hands": several}


@pytest.mark.parametrize(("missed", "is_veto"), [(0, True), (2, True), (3, False), (40, False)])
def test_no_veto_where_many_hands_are_missed(missed: int, is_veto: bool) -> None:
    given = scores(missed)
    found = counts_of_one_hand(given, np.arange(IMAGES + COPIES) >= IMAGES, 0.0225)
    assert ("hand_not_found" in found) is is_veto
    if is_veto:
        assert found["hand_not_found"].sum() == missed
    assert not found["several_hands"].any()
    assert np.array_equal(found["joint_distance"], given["joint_distance"])
    assert given["several_hands"].any()  # as they were


def test_without_hands_nothing_changes() -> None:
    plain = {"regional_mahalanobis": np.arange(3.0)}
    assert counts_of_one_hand(plain, np.zeros(3, bool), 0.0225) == plain

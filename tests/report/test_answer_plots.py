"""Names along the axes of plots of answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sign_ensemble.rejection.kind_distances import READ_BY
from sign_ensemble.report.answer_plots import member_names
from sign_ensemble.report.run_results import Results

MEMBERS = [{"trial": 4, "kind": "pixels"}, {"trial": 1, "kind": "landmarks"}]


@pytest.mark.parametrize(
    ("gda", "hands", "names"),
    [
        (None, True, []),
        # one name for each prediction that votes: too few and the matrix of disagreement fails
        ({"of_members": False, "temperatures": [3.0] * len(READ_BY)}, True,
         ["GDA, fingertips", "GDA, landmarks"]),
        ({"of_members": False, "temperatures": [3.0, 5.0]}, False,
         ["GDA, third layer", "GDA, fifth layer"]),
        ({"of_members": False, "temperatures": [3.0]}, False, ["GDA, third layer"]),
        ({"of_members": True, "temperatures": [3.0]}, True, ["GDA of 4"]),
    ],
)  # fmt: skip
def test_every_vote_has_a_name(gda: Any, hands: bool, names: list[str]) -> None:
    rule = {"gda": gda, "joint_scales": {"tips": {}} if hands else None}
    results = cast(Results, SimpleNamespace(members=MEMBERS, rule=rule))
    assert member_names(results) == ["4", "1 (landmarks)", *names]

"""Ranges in the settings' types: what they admit, and how they read in an error message."""

from __future__ import annotations

from math import inf, nan
from typing import Any, Literal, Optional, get_type_hints

import pytest

from sign_ensemble.core.config import Config
from sign_ensemble.core.number_ranges import (
    Count,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    ShareBetween,
    rule_of,
)


@pytest.mark.parametrize(
    ("hint", "within", "outside", "rule"),
    [
        (Count, [1, 7], [0, -1], "1 or more"),
        (Positive, [1e-9, 1e9], [0, -1, inf, nan], "above 0"),
        (Share, [0, 0.5, 1], [-0.1, 1.1, nan], "0 to 1"),
        (ShareBelowOne, [0, 0.9], [1, -0.1, nan], "0 or more and below 1"),
        (ShareBetween, [0.1, 0.9], [0, 1, nan], "above 0 and below 1"),
        (Optional[Count], [None, 1], [0], "1 or more, or null"),  # noqa: UP045
        (tuple[Literal["blur", "noise"], ...], [(), ("blur",)], [], ""),
        (tuple[Count, ...], [(1,), (3, 2)], [(), (1, 0)], "one or more numbers, each 1 or more"),
        (tuple[Share, Share], [(0.2, 0.1)], [(0, 2)], "2 numbers, each 0 to 1"),
        (str, ["x", None], [], ""),
    ],
)
def test_what_a_type_admits(hint: Any, within: list[Any], outside: list[Any], rule: str) -> None:
    holds, words = rule_of(hint)
    assert words == rule
    assert all(map(holds, within))
    assert not any(map(holds, outside))


def test_a_range_whose_lower_end_alone_is_excluded() -> None:
    assert str(Range(0, 1, (0,))) == "above 0 and at most 1"


def test_every_number_among_the_settings_has_a_range() -> None:
    without = {
        f"{group}.{key}"
        for group, settings in vars(Config()).items()
        for key, hint in get_type_hints(type(settings), include_extras=True).items()
        if ("int" in str(hint) or "float" in str(hint)) and not rule_of(hint)[1]
    }
    assert without == {"data.seed", "data.max_pixels", "data.min_side"}

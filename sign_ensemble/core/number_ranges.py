"""Ranges of numbers, written into the settings' types: ``trials: Count``.

jsonargparse reads such a type as a plain ``int`` or ``float``; :func:`rule_of` finds the range in
it, so that a config is checked alike whether it was parsed, read from a run folder or made in code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Annotated, Any, Union, get_args, get_origin


@dataclass(frozen=True)
class Range:
    """Finite numbers from ``low`` to ``high``, except those in ``excluded``."""

    low: float
    high: float = inf
    excluded: tuple[float, ...] = ()

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range; infinity and NaN do not."""
        return isfinite(value) and self.low <= value <= self.high and value not in self.excluded

    def __str__(self) -> str:
        if self.high < inf and not self.excluded:
            return f"{self.low} to {self.high}"
        low = f"above {self.low}" if self.low in self.excluded else f"{self.low} or more"
        high = f"below {self.high}" if self.high in self.excluded else f"at most {self.high}"
        return low if self.high == inf else f"{low} and {high}"


Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
TwoOrMore = Annotated[int, Range(2)]
TenOrMore = Annotated[int, Range(10)]
Positive = Annotated[float, Range(0, excluded=(0,))]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, (1,))]
ShareBetween = Annotated[float, Range(0, 1, (0, 1))]


def rule_of(hint: Any) -> tuple[Callable[[Any], bool], str]:
    """The check that a type demands of a value, and the same in words.

    Types are such as ``Count``, ``Optional[Count]`` and ``tuple[Count, ...]``. What has no range in
    it allows everything.
    """
    inner = get_args(hint)
    if get_origin(hint) is Annotated:
        return inner[1].holds, str(inner[1])
    if get_origin(hint) is Union and inner[1:] == (type(None),):
        holds, rule = rule_of(inner[0])
        return lambda value: value is None or holds(value), f"{rule}, or null"
    if get_origin(hint) is tuple and get_origin(inner[0]) is Annotated:
        holds, rule = rule_of(inner[0])
        counted = "one or more numbers" if inner[1] is Ellipsis else f"{len(inner)} numbers"
        return lambda values: bool(values) and all(map(holds, values)), f"{counted}, each {rule}"
    return lambda _: True, ""

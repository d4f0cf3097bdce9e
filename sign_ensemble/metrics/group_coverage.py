"""Under-covered groups: signers or labels of which too few signs are answered.

Letters: N images of signs, G groups of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

CHANCE = 0.05  # that any group is named where all have the target coverage


@dataclass(frozen=True)
class UnderCoveredGroup:
    """A group with significantly less than the target coverage."""

    name: str
    answered: int
    n: int
    target_coverage: float

    def words(self, kind: str) -> str:
        """One sentence for people."""
        return (
            f"{kind} {self.name} is under-covered: {self.answered} of {self.n} of its signs are "
            f"answered ({self.answered / self.n:.0%}), asked for {self.target_coverage:.0%}"
        )


def under_covered_groups(
    answered_N: NDArray[np.bool_], groups_N: NDArray[np.str_], target_coverage: float
) -> list[UnderCoveredGroup]:
    """Groups with P(Bin(n, target coverage) ≤ answered) ≤ CHANCE / G, least probable first.

    Dividing by G is Bonferroni's correction.

    Args:
        answered_N: Whether each sign is answered.
        groups_N: Its signer, or its label.
        target_coverage: Share of signs that should be.
    """
    names = np.unique(groups_N)
    found = []
    for name in names:
        of_group = answered_N[groups_N == name]
        answered, n = int(of_group.sum()), len(of_group)
        p = float(bdtr(answered, n, target_coverage))
        if p <= CHANCE / len(names):
            found.append((p, UnderCoveredGroup(str(name), answered, n, target_coverage)))
    return [group for _, group in sorted(found, key=lambda pair: (pair[0], pair[1].name))]

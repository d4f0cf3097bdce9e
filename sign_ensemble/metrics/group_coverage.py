"""Who pays for a rule: signers or labels that are refused more often than was said.

Letters: N signs, G groups of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

CHANCE = 0.05  # that anyone is named where all are treated alike


@dataclass(frozen=True)
class UnderCoveredGroup:
    """A group of which too few signs are answered."""

    name: str
    answered: int
    n: int

    def words(self, kind: str) -> str:
        """For people."""
        return (
            f"{kind} {self.name} pays for the others: {self.answered} of {self.n} of its signs "
            f"are answered ({self.answered / self.n:.0%})"
        )


def under_covered_groups(
    answered_N: NDArray[np.bool_], groups_N: NDArray[np.str_], target_coverage: float
) -> list[UnderCoveredGroup]:
    """Groups of which fewer are answered than ``target_coverage`` and chance explain, most affected first.

    Named is a group with P(Bin(n, keep) ≤ answered) ≤ CHANCE / G (Bonferroni).

    Args:
        answered_N: Whether each sign is answered.
        groups_N: Its signer, or its label.
        target_coverage: Share of signs that should be.
    """
    names = np.unique(groups_N)
    found = []
    for name in names:
        mine = answered_N[groups_N == name]
        answered, n = int(mine.sum()), len(mine)
        chance = float(bdtr(answered, n, target_coverage))
        if chance <= CHANCE / len(names):
            found.append((chance, UnderCoveredGroup(str(name), answered, n)))
    return [payer for _, payer in sorted(found, key=lambda pair: (pair[0], pair[1].name))]

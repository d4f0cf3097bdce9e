"""Which witnesses decide: chosen on training signers and self-made negatives alone.

Letters: C calibration images, G negatives, W witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.metrics import fpr95
from sign_ensemble.uncertainty.rejection import Floats, join, signer_weights, surprise


@dataclass(frozen=True)
class Candidate:
    """Witnesses and how they are joined."""

    witnesses: tuple[str, ...]
    joined: Literal["smallest", "fisher"]

    @property
    def name(self) -> str:
        """For tables: ``energy+neighbour (fisher)``."""
        several = len(self.witnesses) > 1
        return "+".join(self.witnesses) + (f" ({self.joined})" if several else "")


@dataclass(frozen=True)
class Calibration:
    """Out-of-signer scores of the training signers' signs and of the negatives made from them.

    Args:
        scores: Witness → (C,) scores of signs.
        groups_C: The signer (fold) of each sign.
        negatives: Witness → (G,) scores of negatives.
        groups_G: The signer (fold) whose images each negative was made from.
        kinds_G: The kind of each negative.
    """

    scores: Mapping[str, Floats]
    groups_C: NDArray[np.int64]
    negatives: Mapping[str, Floats]
    groups_G: NDArray[np.int64]
    kinds_G: NDArray[np.str_]


def candidates(names: Sequence[str]) -> list[Candidate]:
    """Every set of witnesses; of several, both ways to join them."""
    found = [Candidate((name,), "smallest") for name in names]
    for size in range(2, len(names) + 1):
        for chosen in combinations(names, size):
            found += [Candidate(chosen, "smallest"), Candidate(chosen, "fisher")]
    return found


def accepted_negatives(candidate: Candidate, calibration: Calibration) -> dict[str, float]:
    """Share of each kind of negative accepted at the threshold that keeps 95 % of a signer's signs.

    Signer by signer, calibrated on the others, as a stranger would be; the mean over signers.
    """
    shares: dict[str, list[float]] = {}
    for group in np.unique(calibration.groups_C):
        others_C = calibration.groups_C != group
        weights = signer_weights(calibration.groups_C[others_C])

        def statistic(
            scores: Mapping[str, Floats],
            rows: NDArray[np.bool_],
            others_C: NDArray[np.bool_] = others_C,
            weights: Floats = weights,
        ) -> Floats:
            each = [
                surprise(scores[name][rows], calibration.scores[name][others_C], weights)
                for name in candidate.witnesses
            ]
            return join(np.stack(each), candidate.joined)

        signs = statistic(calibration.scores, ~others_C)
        for kind in np.unique(calibration.kinds_G):
            mine_G = (calibration.groups_G == group) & (calibration.kinds_G == kind)
            if mine_G.any():
                value = float(fpr95(signs, statistic(calibration.negatives, mine_G)))
                shares.setdefault(str(kind), []).append(value)
    return {kind: float(np.mean(values)) for kind, values in shares.items()}


def cost(shares: Mapping[str, float]) -> float:
    """What a candidate is chosen by, lower is better: mean over kinds plus the worst kind.

    The mean alone would let one blind spot (say, flat colour) be paid for by the others.
    """
    return float(np.mean(list(shares.values())) + max(shares.values()))


def choose(
    calibration: Calibration, names: Sequence[str]
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The candidate with the lowest cost; ties go to fewer witnesses, then to the earlier.

    Returns:
        The candidate, and a row per candidate, best first: name, cost, share accepted per kind.
    """
    rows = []
    for place, candidate in enumerate(candidates(names)):
        shares = accepted_negatives(candidate, calibration)
        rows.append((round(cost(shares), 12), len(candidate.witnesses), place, candidate, shares))
    rows.sort(key=lambda row: row[:3])
    table = [{"combination": row[3].name, "cost": row[0], "accepted": row[4]} for row in rows]
    return rows[0][3], table

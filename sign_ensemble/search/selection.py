"""Which trials become members: pure functions of records and out-of-fold predictions.

Letters: T trials, N images, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.learning.task import KINDS
from sign_ensemble.search.records import TrialRecord


def ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Complete trials, lowest out-of-fold loss first; ties go to the earlier trial."""
    complete = [record for record in records if record.status == "complete"]
    return sorted(complete, key=lambda record: (record.nll, record.number))


def top_k(records: Sequence[TrialRecord], size: int) -> dict[int, int]:
    """The ``size`` best trials of each kind, one vote each: trial number → votes; pixels first."""
    votes: dict[int, int] = {}
    for kind in KINDS:
        of_kind = [record for record in ranked(records) if record.kind == kind]
        votes |= {record.number: 1 for record in of_kind[:size]}
    return votes


def fold_mean_nll(
    probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64], folds_N: NDArray[np.int64]
) -> float:
    """Mean over folds of the mean −log p of the true label, nats; each fold counts once."""
    loss_N = -np.log(np.maximum(probs_NK[np.arange(len(labels_N)), labels_N], 1e-300))
    return float(np.mean([loss_N[folds_N == fold].mean() for fold in np.unique(folds_N)]))


def greedy(
    probs_TNK: Mapping[int, NDArray[np.float64]],
    loss: Callable[[NDArray[np.float64]], float],
    size: int,
) -> dict[int, int]:
    """Forward selection with replacement (Caruana et al. 2004) on out-of-fold predictions.

    From the empty ensemble on, the trial is added ``size`` times whose addition gives the mean of
    probabilities with the lowest loss; the shortest such list with the lowest loss is kept. Takes
    trial number → out-of-fold probabilities (N, K), and gives trial number → votes, at most
    ``size``; ``loss`` is of the ensemble's probabilities (N, K), such as :func:`fold_mean_nll`.
    """
    total_NK = np.zeros_like(next(iter(probs_TNK.values())))
    chosen: list[int] = []
    path: list[float] = []
    for _ in range(size):
        losses = {
            number: loss((total_NK + probs_NK) / (len(chosen) + 1))
            for number, probs_NK in probs_TNK.items()
        }
        best = min(losses, key=lambda number: (losses[number], number))
        chosen.append(best)
        path.append(losses[best])
        total_NK = total_NK + probs_TNK[best]
    kept = chosen[: int(np.argmin(path)) + 1]
    return {number: kept.count(number) for number in sorted(set(kept), key=kept.index)}


def trials_to_complete(records: Sequence[TrialRecord], size: int) -> list[TrialRecord]:
    """Pruned trials to complete if fewer than ``size`` are complete; furthest and best first."""
    short = size - len(ranked(records))
    pruned = [record for record in records if record.status == "pruned"]
    pruned.sort(key=lambda record: (-len(record.folds), record.nll, record.number))
    return pruned[: max(0, short)]

"""Which trials become members: pure functions of what the trials said.

Letters: T trials, N images, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.search.records import TrialRecord


def fronts(values_TO: NDArray[np.float64]) -> NDArray[np.int64]:
    """The front of each of T trials with O objectives, lower being better: 0 for those that no
    other beats, 1 for those that only these beat, and so on (Deb et al. 2002, NSGA-II).

    One beats another if it is nowhere higher and somewhere lower.
    """
    below_TT = (values_TO[:, None] <= values_TO[None]).all(-1)
    beats_TT = below_TT & ~below_TT.T
    front_T = np.full(len(values_TO), -1)
    for front in range(len(values_TO)):
        left_T = front_T < 0
        front_T[left_T & ~(beats_TT & left_T[:, None]).any(0)] = front
    return front_T


def ranked(
    records: Sequence[TrialRecord], objectives: Sequence[str] = ("nll",)
) -> list[TrialRecord]:
    """Complete trials, lowest loss on unseen signers first; ties go to the earlier trial.

    Of several objectives, first those that no other trial beats (see :func:`fronts`), then those
    that only these beat, and so on; among themselves by the first.
    """
    complete = [record for record in records if record.status == "complete"]
    if not complete:
        return []
    front_T = fronts(np.array([record.objectives(objectives) for record in complete]))
    pairs = sorted(
        zip(front_T, complete, strict=True),
        key=lambda pair: (pair[0], *pair[1].objectives(objectives[:1]), pair[1].number),
    )
    return [record for _, record in pairs]


def top_k(
    records: Sequence[TrialRecord], size: int, objectives: Sequence[str] = ("nll",)
) -> dict[int, int]:
    """The ``size`` best trials, one vote each: trial number → votes."""
    return {record.number: 1 for record in ranked(records, objectives)[:size]}


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

    Starting from nothing, ``size`` times the trial is added whose addition gives the mean of
    probabilities with the lowest loss; the shortest such list with the lowest loss is kept.

    Args:
        probs_TNK: Trial number → probabilities (N, K) by models that have not seen the signer.
        loss: Of the ensemble's probabilities (N, K), such as :func:`fold_mean_nll`.
        size: Votes at most.

    Returns:
        Trial number → votes.
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
    """Pruned trials to complete when fewer than ``size`` trials are; furthest and best first."""
    short = size - len(ranked(records))
    pruned = [record for record in records if record.status == "pruned"]
    pruned.sort(key=lambda record: (-len(record.folds), record.nll, record.number))
    return pruned[: max(0, short)]

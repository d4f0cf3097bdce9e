"""Labels left out of the training: what a wrong gesture looks like, from training signers alone.

A network and clouds that never saw the label X, shown an X by a signer they never saw, meet what a
wrong gesture is to the finished ensemble: a real hand, well taken, with no label to it.

Letters: N training images, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.console import progress
from sign_ensemble.data.feature_cache import CachedFeatures
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.network import logits_of
from sign_ensemble.learning.task import Task, seed_of
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.choose import LEFT_OUT, Calibration
from sign_ensemble.rejection.gda_predictions import GdaPredictions, ensemble_output
from sign_ensemble.rejection.reference_set import (
    Distances,
    ReferenceSet,
    hand_count_of_other_signers,
    measure_distances,
    models_of_other_signers,
)
from sign_ensemble.rejection.scores import Scores, all_scores, distance_scores

PARTS = 5  # a fifth of the labels at a time: enough wrong gestures, and the task stays itself


def label_parts(labels: int, most: int, seed: int) -> list[NDArray[np.int64]]:
    """At most ``most`` of PARTS random parts of K labels; none unless two labels are left."""
    if labels < 3:
        return []
    order = np.random.default_rng(seed).permutation(labels)
    return [np.sort(part) for part in np.array_split(order, min(PARTS, labels))][:most]


def logits_without(
    task: Task, recipe: MemberConfig, out: NDArray[np.int64], part: int, fold: int
) -> NDArray[np.float32]:
    """Logits (F, kept labels) of a fold's images, by a network that saw neither their signers nor
    the labels left out.
    """
    kept = np.setdiff1d(np.arange(len(task.labels)), out)
    smaller = replace(
        task,
        labels=tuple(task.labels[label] for label in kept),
        labels_N=np.searchsorted(kept, task.labels_N),  # of a left-out label's image never read
    )
    mine_N = task.folds_N == fold
    rows = np.flatnonzero(~mine_N & np.isin(task.labels_N, kept))
    head, _ = fit_rows(smaller, recipe, rows, seed_of(task.seed, part, fold))
    return logits_of(head, task.features.open()[task.features.row_N[mine_N], 0])


@dataclass(frozen=True)
class _Network:
    """One to be trained: without a part of the labels, and without a fold."""

    part: int
    out: NDArray[np.int64]
    fold: int


def _logits(network: _Network, shared: tuple[Task, MemberConfig]) -> NDArray[np.float32]:
    """:func:`logits_without` as a worker is asked for it."""
    return logits_without(*shared, network.out, network.part, network.fold)


def logits_of_parts(
    prepared: Prepared, recipe: MemberConfig, parts: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.float32]]:
    """Logits (N, kept labels) of all images without each part of the labels: trained over the
    cluster, and kept in the run folder for a later call.
    """
    from sign_ensemble.learning.parallel_heads import map_over_cluster

    run, task, search = prepared.run, prepared.task, prepared.config.search
    missing = [number for number in range(len(parts)) if not run.left_out(number).exists()]
    found = {
        number: np.zeros((len(task.labels_N), len(task.labels) - len(parts[number])), np.float32)
        for number in missing
    }
    networks = [_Network(i, parts[i], fold) for i in missing for fold in range(task.folds)]
    ended = dict.fromkeys(missing, 0)
    with progress("networks without some labels") as step:
        ways = map_over_cluster(
            _logits, networks, (task, recipe), search.cpus_per_trial, search.gpus_per_trial
        )
        for done, (place, logits_NK) in enumerate(ways, 1):
            network = networks[place]
            found[network.part][task.folds_N == network.fold] = logits_NK
            ended[network.part] += 1
            if ended[network.part] == task.folds:
                write_arrays(run.left_out(network.part), {"logits": found.pop(network.part)})
            step(done, len(networks))
    return [read_arrays(run.left_out(number))[0]["logits"] for number in range(len(parts))]


def parts_of(prepared: Prepared) -> list[NDArray[np.int64]]:
    """The parts of a run's labels that are left out."""
    task, most = prepared.task, prepared.config.rejection.held_out_groups
    return label_parts(len(task.labels), most, task.seed)


@dataclass(frozen=True)
class Without:
    """How far the training images are from those of other signers and of the labels kept.

    Args:
        strange_N: Which are of a label left out.
        kept: The labels kept.
        at: The distances.
    """

    strange_N: NDArray[np.bool_]
    kept: NDArray[np.int64]
    at: Distances


def without(
    prepared: Prepared,
    parts: Sequence[NDArray[np.int64]],
    bank: ReferenceSet,
    chosen: NDArray[np.int64],
    reads: bool,
) -> Iterator[Without]:
    """Leave out each part of the labels in turn.

    Args:
        prepared: Images and folds.
        parts: The labels of each part.
        bank: The training images that distances are measured to.
        chosen: Their rows.
        reads: Whether clouds read.
    """
    task, k = prepared.task, prepared.config.rejection.neighbours
    found = CachedFeatures(task.features)
    hands = hand_count_of_other_signers(
        bank, task.folds_N
    )  # the left-out labels' too: it knows of no label
    with progress("labels left out") as step:
        for number, out in enumerate(parts):
            strange_N = np.isin(task.labels_N, out)
            kept = np.setdiff1d(np.arange(len(task.labels)), out)
            left = bank.rows(~strange_N[chosen])
            left = replace(left, labels_B=np.searchsorted(kept, left.labels_B))
            others = models_of_other_signers(left, task.folds_N, reads, hands)
            at = measure_distances(found, task.folds_N, left, others, k, len(kept))
            yield Without(strange_N, kept, at)
            step(number + 1, len(parts))


def calibration_of(
    task: Task, strange_N: NDArray[np.bool_], scores: Mapping[str, Scores], wrong_N: NDArray
) -> Calibration:
    """Signs of the labels kept, and the others as negatives.

    Args:
        task: Folds.
        strange_N: Which images are of a label left out.
        scores: Every image's.
        wrong_N: Which are misread.
    """
    known_N, folds_N = ~strange_N, task.folds_N
    return Calibration(
        scores={name: scores_N[known_N] for name, scores_N in scores.items()},
        groups_C=folds_N[known_N],
        wrong_C=wrong_N[known_N],
        negatives={name: scores_N[strange_N] for name, scores_N in scores.items()},
        groups_G=folds_N[strange_N],
        kinds_G=np.full(int(strange_N.sum()), LEFT_OUT),
    )


def left_out_calibrations(
    prepared: Prepared,
    recipe: MemberConfig,
    bank: ReferenceSet,
    chosen: NDArray[np.int64],
    readings: GdaPredictions | None,
) -> list[Calibration]:
    """A calibration per part of the labels: signs with other labels, and with those as negatives.

    Args:
        prepared: Images and folds.
        recipe: The best trial's; one network speaks for the members here.
        bank: The training images that distances are measured to.
        chosen: Their rows.
        readings: How clouds read.
    """
    task, parts = prepared.task, parts_of(prepared)
    logits = logits_of_parts(prepared, recipe, parts)
    found = []
    for said_NK, part in zip(
        logits, without(prepared, parts, bank, chosen, readings is not None), strict=True
    ):
        evidence = ensemble_output(said_NK[None], np.ones(1), part.at, readings)
        truth_N = np.searchsorted(part.kept, task.labels_N)  # of a left-out label's never read
        wrong_N = evidence.probs_NK.argmax(-1) != truth_N
        found.append(calibration_of(task, part.strange_N, all_scores(evidence), wrong_N))
    return found


def left_out_distances(
    prepared: Prepared, bank: ReferenceSet, chosen: NDArray[np.int64]
) -> list[Calibration]:
    """The same of the witnesses that ask no member; nothing is trained, and nothing misread.

    Args:
        prepared: Images and folds.
        bank: The training images that distances are measured to.
        chosen: Their rows.
    """
    task, parts = prepared.task, parts_of(prepared)
    right_N = np.zeros(len(task.labels_N), bool)
    return [
        calibration_of(task, part.strange_N, distance_scores(part.at), right_N)
        for part in without(prepared, parts, bank, chosen, reads=False)
    ]

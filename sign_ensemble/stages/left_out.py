"""Labels left out of the training: what a wrong gesture looks like, from training signers alone.

A network and clouds that never saw the label X, shown an X by a signer they never saw, meet what a
wrong gesture is to the finished ensemble: a real hand, well taken, with no label to it.

Letters: N training images, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.config import MemberConfig
from sign_ensemble.console import progress
from sign_ensemble.data.backbone import Features
from sign_ensemble.data.features import middle, plain
from sign_ensemble.learning.folds import Task, fit_rows, logits_of, seed_of
from sign_ensemble.run import read_arrays, write_arrays
from sign_ensemble.stages.prepare import Prepared
from sign_ensemble.uncertainty.choose import LEFT_OUT, Calibration
from sign_ensemble.uncertainty.readings import (
    Bank,
    Readings,
    atlases_of_others,
    evidence_of,
    measured,
)
from sign_ensemble.uncertainty.scores import all_scores

PARTS = 5  # a fifth of the labels at a time: enough wrong gestures, and the task stays itself


def label_parts(labels: int, most: int, seed: int) -> list[NDArray[np.int64]]:
    """At most ``most`` of PARTS random parts of K labels; none unless two labels are left."""
    if labels < 3:
        return []
    order = np.random.default_rng(seed).permutation(labels)
    return [np.sort(part) for part in np.array_split(order, min(PARTS, labels))][:most]


def logits_without(
    task: Task, recipe: MemberConfig, out: NDArray[np.int64], part: int
) -> NDArray[np.float32]:
    """Logits (N, kept labels) of all images, each by a network that saw neither its signer nor the
    labels left out.
    """
    kept = np.setdiff1d(np.arange(len(task.labels)), out)
    smaller = replace(
        task,
        labels=tuple(task.labels[label] for label in kept),
        labels_N=np.searchsorted(kept, task.labels_N),  # of a left-out label's image never read
    )
    plain_ND = plain(task.features)
    logits_NK = np.zeros((len(task.labels_N), len(kept)), np.float32)
    for fold in range(task.folds):
        rows = np.flatnonzero((task.folds_N != fold) & np.isin(task.labels_N, kept))
        head, _ = fit_rows(smaller, recipe, rows, seed_of(task.seed, part, fold))
        logits_NK[task.folds_N == fold] = logits_of(head, plain_ND[task.folds_N == fold])
    return logits_NK


def _kept_logits(
    prepared: Prepared, recipe: MemberConfig, out: NDArray[np.int64], part: int
) -> NDArray[np.float32]:
    """:func:`logits_without`, from the run folder if an earlier call came that far."""
    path = prepared.run.left_out(part)
    if not path.exists():
        write_arrays(path, {"logits": logits_without(prepared.task, recipe, out, part)})
    logits_NK: NDArray[np.float32] = read_arrays(path)[0]["logits"]
    return logits_NK


def left_out_calibrations(
    prepared: Prepared,
    recipe: MemberConfig,
    bank: Bank,
    chosen: NDArray[np.int64],
    readings: Readings | None,
) -> Sequence[Calibration]:
    """A calibration per part of the labels: signs with other labels, and with those as negatives.

    Args:
        prepared: Images and folds.
        recipe: The best trial's; one network speaks for the members here.
        bank: The training images that distances are measured to.
        chosen: Their rows.
        readings: How clouds read.
    """
    task, settings = prepared.task, prepared.config.rejection
    found, folds_N = Features(plain(task.features), middle(task.features)), task.folds_N
    parts = label_parts(len(task.labels), settings.left_out, task.seed)
    calibrations = []
    with progress("labels left out") as step:
        for number, out in enumerate(parts):
            strange_N = np.isin(task.labels_N, out)
            kept = np.setdiff1d(np.arange(len(task.labels)), out)
            left = bank.rows(~strange_N[chosen])
            left = replace(left, labels_B=np.searchsorted(kept, left.labels_B))
            others = atlases_of_others(left, folds_N, readings is not None)
            at = measured(found, folds_N, left, others, settings.neighbours, len(kept))
            logits_NK = _kept_logits(prepared, recipe, out, number)
            evidence = evidence_of(logits_NK[None], np.ones(1), at, readings)
            known = evidence.rows(~strange_N)
            truth_C = np.searchsorted(kept, task.labels_N[~strange_N])
            calibrations.append(
                Calibration(
                    scores=all_scores(known),
                    groups_C=folds_N[~strange_N],
                    wrong_C=known.probs_NK.argmax(-1) != truth_C,
                    negatives=all_scores(evidence.rows(strange_N)),
                    groups_G=folds_N[strange_N],
                    kinds_G=np.full(int(strange_N.sum()), LEFT_OUT),
                )
            )
            step(number + 1, len(parts))
    return calibrations

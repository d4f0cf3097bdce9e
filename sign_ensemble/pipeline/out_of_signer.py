"""How far training signers' images and negatives are from the images of the other signers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.backbone import D, E, Features
from sign_ensemble.data.feature_cache import Cached, every
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.hand_count import Hands
from sign_ensemble.rejection.nearest_neighbours import draw_bank
from sign_ensemble.rejection.reference_set import Bank, Measured, Rows, atlases_of_others, measured


def bank_rows(prepared: Prepared) -> NDArray[np.int64]:
    """The training images that distances are measured to, sorted; no label lacks one."""
    task = prepared.task
    most = max(prepared.config.rejection.bank, len(task.labels) * task.folds)
    return draw_bank(task.labels_N, task.folds_N, most, task.seed)


def bank_of(task: Task, chosen: NDArray[np.int64], hands: Hands | None = None) -> Bank:
    """The training images of these rows, with their views; and pictures made of their signs."""
    slots_B = task.features.slots_N[chosen]
    every_RVA = every(task.features).open()
    deep_BVD = every_RVA[slots_B, :, :D]
    middle_BC, fourth_BF = every_RVA[slots_B, 0, D:E], every_RVA[slots_B, 0, E:]
    return Bank(deep_BVD, middle_BC, fourth_BF, task.labels_N[chosen], task.folds_N[chosen], hands)


def away_from_others(
    prepared: Prepared, bank: Bank, negatives: Mapping[str, NDArray[Any]], reads: bool
) -> tuple[Measured, Measured]:
    """Distances of the training signers' signs, and of the negatives made from them, to the images
    of the others.

    Args:
        prepared: The run.
        bank: The training images that distances are measured to.
        negatives: The arrays of the run's file of them.
        reads: Whether clouds of the fifth layer are wanted.
    """
    task = prepared.task
    others = atlases_of_others(bank, task.folds_N, reads)

    def asked(of: Rows, groups: NDArray[np.int64]) -> Measured:
        k = prepared.config.rejection.neighbours
        return measured(of, groups, bank, others, k, len(task.labels))

    signs = asked(Cached(task.features), task.folds_N)
    made = np.concatenate([negatives["features"], negatives["fourth"]], 1)
    return signs, asked(Features(made), negatives["folds"])

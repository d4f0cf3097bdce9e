"""Out-of-fold predictions of fine-tuned fold models, and GDA on fine-tuned members' features.

Letters: N training images, M fold models that predict the same image, or members; B reference
images, K labels, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.console import progress
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.learning.end_to_end import images_of_fold, images_of_rows, logits_and_features
from sign_ensemble.learning.member import Card, Member, load
from sign_ensemble.learning.task import PixelTask
from sign_ensemble.pipeline.out_of_signer import reference_rows
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.member_gda import MemberGda, fit_member_gda


@dataclass(frozen=True)
class OutOfFold:
    """What fold models predict for the training images that they were not trained on."""

    logits_MNK: NDArray[np.float32]  # their logits
    to_labels_MNK: NDArray[np.float64]  # squared distances by the GDA of their own features


def member_gda_of(member: Member, task: PixelTask, rows_B: NDArray[np.int64]) -> MemberGda:
    """GDA on a member's features of some training images."""
    images = images_of_rows(task, rows_B)
    parts = [read_ND for _, read_ND in logits_and_features(member, images, task.weights)]
    return fit_member_gda(np.concatenate(parts), task.labels_N[rows_B])


def member_gdas(
    task: PixelTask, members: Sequence[Member], rows_B: NDArray[np.int64]
) -> list[MemberGda]:
    """Each member's :func:`member_gda_of`."""
    found = []
    with progress("GDA on members' features") as step:
        for member in members:
            found.append(member_gda_of(member, task, rows_B))
            step(len(found), len(members))
    return found


def predict_with(
    member: Member, gda: MemberGda, images: Iterable[NDArray[np.uint8]], weights: str
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A member's logits (N, K) and the squared distances (N, K) by its GDA."""
    labels = len(member.card.labels)
    logits, to_labels = [np.zeros((0, labels), np.float32)], [np.zeros((0, labels))]
    for logits_NK, read_ND in logits_and_features(member, images, weights):
        logits.append(logits_NK)
        to_labels.append(gda.to_labels(read_ND, labels))
    return np.concatenate(logits), np.concatenate(to_labels)


def predict_folds(
    prepared: Prepared, task: PixelTask, cards: Sequence[Card], paths: Sequence[StoragePath]
) -> OutOfFold:
    """Have each fold model predict its fold, and write what they predict.

    A fold model's GDA is fitted to the reference images of the other folds.
    """
    folds_N, folds = prepared.task.folds_N, prepared.task.folds
    shape = (len(cards) // folds, len(folds_N), len(prepared.task.labels))
    found = OutOfFold(np.zeros(shape, np.float32), np.zeros(shape))
    rows_B = reference_rows(prepared)
    with progress("fold models evaluated") as step:
        for i, (card, path) in enumerate(zip(cards, paths, strict=True)):
            model, in_fold_N = load(path), folds_N == card.fold
            gda = member_gda_of(model, task, rows_B[folds_N[rows_B] != card.fold])
            images = images_of_fold(task, card.fold)
            logits_NK, to_labels_NK = predict_with(model, gda, images, task.weights)
            found.logits_MNK[i // folds, in_fold_N] = logits_NK
            found.to_labels_MNK[i // folds, in_fold_N] = to_labels_NK
            step(i + 1, len(cards))
    write_arrays(
        prepared.run.out_of_fold,
        {"logits": found.logits_MNK, "to_labels": found.to_labels_MNK},
    )
    return found


def read_out_of_fold(run: RunFolder) -> OutOfFold | None:
    """What :func:`predict_folds` wrote; None where there are no fine-tuned fold models."""
    if not run.out_of_fold.exists():
        return None
    arrays, _ = read_arrays(run.out_of_fold)
    return OutOfFold(arrays["logits"], arrays["to_labels"])

"""What fine-tuned networks say and see of people they never saw; and their own clouds.

Letters: R networks per fold, M members, N training images, G negatives, B bank images, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.console import progress
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.learning.end_to_end import (
    images_of_fold,
    images_of_rows,
    logits_and_features,
    negatives_of,
)
from sign_ensemble.learning.member import Card, Member, load
from sign_ensemble.learning.task import PixelTask
from sign_ensemble.pipeline.out_of_signer import reference_rows
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.member_gda import (
    GdaDistances,
    MemberGda,
    fit_member_gda,
    gda_distances,
)
from sign_ensemble.rejection.reference_set import Distances

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OutOfFold:
    """What judges say and see of N images.

    Args:
        logits_RNK: Their logits.
        cloud_RN: How far the image is from their own clouds.
        to_labels_RNK: The same of each label's.
    """

    logits_RNK: NDArray[np.float32]
    cloud_RN: Floats
    to_labels_RNK: Floats

    def instead(self, at: Distances) -> Distances:
        """Own clouds read in place of frozen ones, and are a further witness."""
        return replace(at, to_labels_RNK=self.to_labels_RNK, own_N=self.cloud_RN.mean(0))

    @classmethod
    def nothing(cls, rounds: int, images: int, labels: int) -> OutOfFold:
        """To be filled fold by fold."""
        shape = (rounds, images, labels)
        return cls(np.zeros(shape, np.float32), np.zeros(shape[:2]), np.zeros(shape))

    def put(
        self, turn: int, mine_N: NDArray[np.bool_], said: NDArray[np.float32], seen: GdaDistances
    ) -> None:
        """One judge's word on the images of its fold."""
        self.logits_RNK[turn, mine_N] = said
        self.cloud_RN[turn, mine_N] = seen.cloud_N
        self.to_labels_RNK[turn, mine_N] = seen.to_labels_NK


def member_gda_of(member: Member, task: PixelTask, rows: NDArray[np.int64]) -> MemberGda:
    """The clouds of some training images as a network sees them."""
    parts = [
        seen for _, seen in logits_and_features(member, images_of_rows(task, rows), task.weights)
    ]
    return fit_member_gda(np.concatenate(parts), task.labels_N[rows])


def predict_with(
    member: Member, own: MemberGda, images: Iterable[NDArray[np.uint8]], weights: str
) -> tuple[NDArray[np.float32], GdaDistances]:
    """What a network says of images (N, K), and how far they are from its clouds."""
    labels = len(member.card.labels)
    said, clouds = [np.zeros((0, labels), np.float32)], [np.zeros(0)]
    to_labels = [np.zeros((0, labels))]
    for logits_NK, features_ND in logits_and_features(member, images, weights):
        seen = gda_distances(features_ND, own, labels)
        said.append(logits_NK)
        clouds.append(seen.cloud_N)
        to_labels.append(seen.to_labels_NK)
    return np.concatenate(said), GdaDistances(np.concatenate(clouds), np.concatenate(to_labels))


def predict_folds(
    prepared: Prepared, task: PixelTask, cards: Sequence[Card], paths: Sequence[StoragePath]
) -> OutOfFold:
    """Ask each network about the images and negatives of the fold it has not seen, and write what
    it says; a network's clouds are of the other folds' images.

    Returns:
        What they say of images, in the order of the task.
    """
    run, labels = prepared.run, len(prepared.task.labels)
    negatives, _ = read_arrays(run.negatives)
    folds_N, folds_G = prepared.task.folds_N, negatives["folds"]
    folds, most = prepared.task.folds, prepared.config.rejection.negatives
    signs = OutOfFold.nothing(len(cards) // folds, len(folds_N), labels)
    unlike = OutOfFold.nothing(len(cards) // folds, len(folds_G), labels)
    chosen = reference_rows(prepared)
    with progress("networks asked") as step:
        for i, (card, path) in enumerate(zip(cards, paths, strict=True)):
            network, turn, fold = load(path), i // folds, card.fold
            own = member_gda_of(network, task, chosen[folds_N[chosen] != fold])
            shown = images_of_fold(task, fold)
            signs.put(turn, folds_N == fold, *predict_with(network, own, shown, task.weights))
            shown = negatives_of(task, fold, most, prepared.task.seed)
            unlike.put(turn, folds_G == fold, *predict_with(network, own, shown, task.weights))
            step(i + 1, len(cards))
    write_arrays(
        run.unseen,
        {**vars(signs), **{f"negative_{name}": value for name, value in vars(unlike).items()}},
    )
    return signs


def read_out_of_fold(run: RunFolder) -> tuple[OutOfFold, OutOfFold] | None:
    """What :func:`predict_folds` wrote of images and of negatives; None if the members are heads.

    Raises:
        UserError: an earlier version wrote it.
    """
    if not run.unseen.exists():
        return None
    arrays, _ = read_arrays(run.unseen)
    names = OutOfFold.__dataclass_fields__
    if not set(names) <= set(arrays):
        raise UserError(f"{run.unseen}: of an earlier version; remove {run.rule.parent} and tune")
    return (
        OutOfFold(**{name: arrays[name] for name in names}),
        OutOfFold(**{name: arrays[f"negative_{name}"] for name in names}),
    )


def member_gdas(
    task: PixelTask, members: Sequence[Member], rows: NDArray[np.int64]
) -> list[MemberGda]:
    """Each member's clouds of the training images, as it sees them."""
    found = []
    with progress("members' clouds") as step:
        for member in members:
            found.append(member_gda_of(member, task, rows))
            step(len(found), len(members))
    return found

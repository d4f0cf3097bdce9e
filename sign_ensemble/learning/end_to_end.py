"""One fold of a trial whose convolutions learn too; and what a fine-tuned network says of images.

Letters: N images, F images of the fold that is left out, G negatives of it, S side, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.storage import remove_folder, storage_path
from sign_ensemble.data import backbone
from sign_ensemble.data.negatives import negatives_of_fold
from sign_ensemble.learning.head_training import fit_rows, fold_result
from sign_ensemble.learning.member import Card, Member, load, save
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.task import EndToEnd, FoldResult, PixelTask, Task, seed_of

AT_ONCE = 512  # images in memory: 77 MB


def fit_end_to_end_fold(
    task: Task, end_to_end: EndToEnd, recipe: MemberConfig, number: int, fold: int, seed: int
) -> FoldResult:
    """Train head and convolutions on all folds but one, with Ray Train, and look at that one.

    An interrupted call is gone on with; what it left is removed at the end.

    Args:
        task: Features, labels and folds.
        end_to_end: Images and means, the trial's settings put in.
        recipe: Of the head.
        number: The trial's number.
        fold: The fold left out.
        seed: Of head and network.
    """
    from sign_ensemble.learning.train_runs import finetune_one
    from sign_ensemble.learning.train_worker import Job, finished_sha256

    began = time.monotonic()
    folder = storage_path(end_to_end.folder) / f"trial-{number:04d}-fold-{fold}"
    card = Card(task.labels, recipe, seed, number, fold, 1, 0.0, {}, "")
    first = Job(card, str(folder / "head.safetensors"))
    if not finished_sha256(first):
        head, _ = fit_rows(task, recipe, np.flatnonzero(task.folds_N != fold), seed)
        tensors = {name: tensor.cpu().numpy() for name, tensor in head.state_dict().items()}
        save(Member(card, tensors), storage_path(first.path))
    card = replace(card, finetune=end_to_end.settings)
    job = Job(card, str(folder / "network.safetensors"), first.path)
    finetune_one(job, end_to_end.pixels, end_to_end.resources, folder, end_to_end.scale)
    network, pixels = load(storage_path(job.path)), end_to_end.pixels
    unlike = negatives_of(pixels, fold, end_to_end.negatives, task.seed)
    result = fold_result(
        fold=fold,
        labels_N=task.labels_N[task.folds_N == fold],
        logits_NK=member_logits(network, images_of_fold(pixels, fold), pixels.weights),
        negative_logits_GK=member_logits(network, unlike, pixels.weights),
        epochs=(end_to_end.settings.epochs, end_to_end.settings.epochs),
        began=began,
    )
    remove_folder(folder)
    return result


def images_of_rows(pixels: PixelTask, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """The images of these rows, some hundred (N, H, W, 3) at a time."""
    images_RHW3 = pixels.pixels.open()
    for start in range(0, len(rows), AT_ONCE):
        yield images_RHW3[pixels.pixels.row_N[rows[start : start + AT_ONCE]]]


def images_of_fold(pixels: PixelTask, fold: int) -> Iterator[NDArray[np.uint8]]:
    """A fold's images in the order of the task, some hundred (N, H, W, 3) at a time."""
    return images_of_rows(pixels, np.flatnonzero(pixels.folds_N == fold))


def negatives_of(pixels: PixelTask, fold: int, most: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """The self-made negatives of a fold, in the order of the run's file of features.

    All kinds together: each by itself would fill a part of its last pass alone.
    """

    def read(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = pixels.pixels.open()[pixels.pixels.row_N[chosen]]
        return images

    seed = seed_of(seed, fold)
    made = negatives_of_fold(pixels.folds_N, pixels.labels_N, fold, most, seed, read)
    if made:
        yield np.concatenate(list(made.values()))


def network_parts(member: Member, weights: str) -> tuple[backbone.Backbone, Head]:
    """A member's convolutions and head, ready to read; arguments as of :func:`logits_and_features`."""
    own = {name: member.tensors[name] for name in member.card.learned}
    layers = backbone.finetuned(weights, own) if own else backbone.load(weights)
    recipe, labels = member.card.recipe, len(member.card.labels)
    head = Head(backbone.HEAD_FEATURES, recipe.widths, labels, recipe.dropout)
    rest = {k: torch.from_numpy(v) for k, v in member.tensors.items() if k not in own}
    head.load_state_dict(rest)
    return layers, head.eval().to(layers.device)


def logits_and_features(
    member: Member, images: Iterable[NDArray[np.uint8]], weights: str
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float16]]]:
    """A member's logits (N, K) and the features (N, E) that its head reads.

    Args:
        member: With convolutions of its own or without.
        images: Some (N, H, W, 3) at a time.
        weights: The convolutions that its own began as, see data.weights.
    """
    layers, head = network_parts(member, weights)
    for some in images:
        features_ND = layers.of_images(some).head_ND
        yield logits_of(head, features_ND), features_ND


def member_logits(
    member: Member, images: Iterable[NDArray[np.uint8]], weights: str
) -> NDArray[np.float32]:
    """A member's logits (N, K); arguments as of :func:`logits_and_features`."""
    none = np.zeros((0, len(member.card.labels)), np.float32)
    return np.concatenate(
        [none, *(logits for logits, _ in logits_and_features(member, images, weights))]
    )

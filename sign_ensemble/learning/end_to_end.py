"""One fold of an end-to-end trial, and the predictions of fine-tuned members.

Letters: N images, R rows of a cache file, H and W rows and columns, D features, K labels.
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
from sign_ensemble.learning.fold_models import fold_result
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.member import Card, Member, load, save
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.task import EndToEnd, FoldResult, PixelTask, Task

CHUNK = 512  # images in memory: 77 MB


def fit_end_to_end_fold(
    task: Task, end_to_end: EndToEnd, recipe: MemberConfig, number: int, fold: int, seed: int
) -> FoldResult:
    """Train head and convolutions on all folds but one, with Ray Train, and evaluate on that one.

    An interrupted call is resumed; its files are removed at the end.

    Args:
        task: Features, labels and folds.
        end_to_end: Images and resources, with the trial's settings.
        recipe: Of the head.
        number: The trial's number.
        fold: The held-out fold.
        seed: Of head and network.
    """
    from sign_ensemble.learning.train_runs import finetune_one
    from sign_ensemble.learning.train_worker import Job, finished_sha256

    began = time.monotonic()
    folder = storage_path(end_to_end.folder) / f"trial-{number:04d}-fold-{fold}"
    card = Card(task.labels, recipe, seed, number, fold, 1, 0.0, {}, "")
    head_job = Job(card, str(folder / "head.safetensors"))
    if not finished_sha256(head_job):
        head, _ = fit_rows(task, recipe, np.flatnonzero(task.folds_N != fold), seed)
        save(Member(card, head.arrays()), storage_path(head_job.path))
    card = replace(card, finetune=end_to_end.settings)
    job, pixels = Job(card, str(folder / "network.safetensors"), head_job.path), end_to_end.pixels
    finetune_one(job, pixels, end_to_end.resources, folder, end_to_end.scale)
    member = load(storage_path(job.path))
    chunks = logits_and_features(member, images_of_fold(pixels, fold), pixels.weights)
    logits_NK = np.concatenate([chunk_NK for chunk_NK, _ in chunks])
    epochs = end_to_end.settings.epochs
    labels_N = task.labels_N[task.folds_N == fold]
    result = fold_result(fold, labels_N, logits_NK, (epochs, epochs), began)
    remove_folder(folder)
    return result


def images_of_rows(pixels: PixelTask, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """The images of these rows, :data:`CHUNK` (N, H, W, 3) at a time."""
    images_RHW3 = pixels.pixels.open()
    for start in range(0, len(rows), CHUNK):
        yield images_RHW3[pixels.pixels.row_N[rows[start : start + CHUNK]]]


def images_of_fold(pixels: PixelTask, fold: int) -> Iterator[NDArray[np.uint8]]:
    """A fold's images in the order of the task, :data:`CHUNK` (N, H, W, 3) at a time."""
    return images_of_rows(pixels, np.flatnonzero(pixels.folds_N == fold))


def network_parts(member: Member, weights: str) -> tuple[backbone.Backbone, Head]:
    """A member's convolutions and head; arguments as of :func:`logits_and_features`."""
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
    """A member's logits (N, K) and its head's features (N, D) of each chunk of images.

    Args:
        member: With convolutions of its own or without.
        images: Chunks (N, H, W, 3).
        weights: The initial convolutions, as in data.weights.
    """
    layers, head = network_parts(member, weights)
    for images_NHW3 in images:
        features_ND = layers.of_images(images_NHW3).head_ND
        yield logits_of(head, features_ND), features_ND

"""What needs one process each, spread over the Ray cluster: heads, and folds along directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import numpy as np
import ray
import torch

from sign_ensemble.core.device import best_device, compute_with
from sign_ensemble.core.storage import storage_path
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.member import Member, save
from sign_ensemble.learning.principal_components import (
    ProjectedImages,
    project_images,
    projection_key,
)
from sign_ensemble.learning.task import Task
from sign_ensemble.learning.train_worker import Job, finished_sha256

ROOM = 0.2  # share of the cluster's shared memory that folds along their directions may take
Piece = TypeVar("Piece")
Shared = TypeVar("Shared")
Result = TypeVar("Result")


def with_threads(
    threads: int, work: Callable[[Piece, Shared], Result], micro_batch: Piece, shared: Shared
) -> Result:
    """The work's result, found by so many threads of this process."""
    compute_with(threads)
    return work(micro_batch, shared)


def map_over_cluster(
    work: Callable[[Piece, Shared], Result],
    micro_batches: Sequence[Piece],
    shared: Shared,
    cpus: int,
    gpus: float,
) -> Iterator[tuple[int, Result]]:
    """Have pieces of work done, as many at once as the cluster holds.

    Args:
        work: Called in a worker with a piece and ``shared``.
        micro_batches: What differs.
        shared: What all of them need.
        cpus: CPU threads of one piece.
        gpus: GPU share of one piece.

    Yields:
        The place of a piece that is done, and its result, as they end.
    """
    # Told of the GPUs here, Ray has a process do one piece: it stays on the GPU it began on.
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=2)(with_threads)
    kept = ray.put(shared)
    waiting = {
        remote.remote(cpus, work, micro_batch, kept): i
        for i, micro_batch in enumerate(micro_batches)
    }
    while waiting:
        ready, _ = ray.wait(list(waiting))
        for reference in ready:
            yield waiting.pop(reference), ray.get(reference)


def fit_member(job: Job, task: Task) -> str:
    """Train one member's head on all training images, or on all but its fold's, and save it.

    Returns:
        sha256 of the file.
    """
    rows = np.flatnonzero(task.folds_N != job.card.fold)
    head, _ = fit_rows(task, job.card.recipe, rows, job.card.seed)
    tensors = {name: tensor.cpu().numpy() for name, tensor in head.state_dict().items()}
    return save(Member(job.card, tensors), storage_path(job.path))


def fit_members(
    jobs: Sequence[Job],
    task: Task,
    cpus: int,
    gpus: float,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Train heads, as many at once as the cluster holds.

    Args:
        jobs: What to train.
        task: Features and labels.
        cpus: CPU threads of one training.
        gpus: GPU share of one training.
        progress: Called with (members done, members).

    Returns:
        sha256 of each member's file, in the order of the jobs.
    """
    hashes = [finished_sha256(job) for job in jobs]
    missing = [i for i, sha256 in enumerate(hashes) if not sha256]
    done = len(jobs) - len(missing)
    progress(done, len(jobs))
    for number, sha256 in map_over_cluster(
        fit_member, [jobs[i] for i in missing], task, cpus, gpus
    ):
        hashes[missing[number]] = sha256
        done += 1
        progress(done, len(jobs))
    return hashes


def project_fold(fold: int, shared: tuple[Task, int]) -> tuple[str, ProjectedImages]:
    """The training images of all folds but one, of a task, along so many directions; and their
    key.
    """
    device = best_device()
    task, components = shared
    about = (task.features, task.features.row_N[task.folds_N != fold], components)
    return projection_key(*about), project_images(*about, device)


def map_in_process(
    work: Callable[[Piece, Shared], Result],
    micro_batches: Sequence[Piece],
    shared: Shared,
    cpus: int,
) -> Iterator[tuple[int, Result]]:
    """:func:`map_over_cluster` for a cluster of this machine alone, by this process, which has loaded
    all that it needs: as many pieces side by side in threads, each of which computes with as many,
    so the bits are the same.
    """
    before, most = torch.get_num_threads(), int(ray.cluster_resources().get("CPU", 1)) // cpus
    try:
        with ThreadPoolExecutor(max(1, most)) as pool:
            waiting = {
                pool.submit(with_threads, cpus, work, micro_batch, shared): i
                for i, micro_batch in enumerate(micro_batches)
            }
            for future in as_completed(waiting):
                yield waiting[future], future.result()
    finally:
        torch.set_num_threads(before)  # what a later thread takes for its own


def project_folds(
    task: Task,
    components: int,
    cpus: int,
    gpus: float,
    many_nodes: bool,
    progress: Callable[[int, int], None],
) -> dict[str, ProjectedImages]:
    """Every fold's training images along their directions: found once, for all workers to see.

    Args:
        task: Features and folds.
        components: K, at most; 0 or all features need nothing.
        cpus: CPU threads for one fold.
        gpus: GPU share for one fold.
        many_nodes: Whether the cluster is more than this machine.
        progress: Called with (folds done, folds).

    Returns:
        By :func:`projection_key`; empty where nothing is needed, or where it would take too much of the
        workers' shared memory: each of them then finds its own.
    """
    images, augmentations = len(task.labels_N), task.features.shape[0]
    size = task.folds * images * augmentations * components * np.dtype(np.float16).itemsize
    room = ROOM * ray.cluster_resources().get("object_store_memory", 0.0)
    if not 0 < components < HEAD_FEATURES or size > room:
        return {}
    found = {}
    micro_batches, shared = range(task.folds), (task, components)
    if many_nodes or gpus:
        ended = map_over_cluster(project_fold, micro_batches, shared, cpus, gpus)
    else:
        ended = map_in_process(project_fold, micro_batches, shared, cpus)
    for done, (_, (key, projected)) in enumerate(ended, 1):
        found[key] = projected
        progress(done, task.folds)
    return found

"""Work of one process each, spread over the Ray cluster: training heads, projecting folds."""

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

MEMORY_SHARE = 0.2  # of the cluster's object store that projected images may fill
Item = TypeVar("Item")
Shared = TypeVar("Shared")
Result = TypeVar("Result")


def with_threads(
    threads: int, work: Callable[[Item, Shared], Result], item: Item, shared: Shared
) -> Result:
    """The result of ``work``, computed on so many threads."""
    compute_with(threads)
    return work(item, shared)


def map_over_cluster(
    work: Callable[[Item, Shared], Result],
    items: Sequence[Item],
    shared: Shared,
    cpus: int,
    gpus: float,
) -> Iterator[tuple[int, Result]]:
    """Map a function over items in Ray workers, as many at a time as the cluster holds.

    Args:
        work: Called in a worker with an item and ``shared``.
        items: The items.
        shared: Second argument of every call.
        cpus: CPU threads of a call.
        gpus: GPU share of a call.

    Yields:
        The index of an item and its result, in the order in which calls end.
    """
    # With num_gpus given here, Ray uses a process once: it stays on the GPU it began on.
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=2)(with_threads)
    stored = ray.put(shared)
    waiting = {remote.remote(cpus, work, item, stored): i for i, item in enumerate(items)}
    while waiting:
        ready, _ = ray.wait(list(waiting))
        for reference in ready:
            yield waiting.pop(reference), ray.get(reference)


def map_in_process(
    work: Callable[[Item, Shared], Result], items: Sequence[Item], shared: Shared, cpus: int
) -> Iterator[tuple[int, Result]]:
    """:func:`map_over_cluster` for a cluster of this machine alone, in threads of this process.

    No workers need to start. Each call computes on as many threads as there: the bits are the same.
    """
    before, most = torch.get_num_threads(), int(ray.cluster_resources().get("CPU", 1)) // cpus
    try:
        with ThreadPoolExecutor(max(1, most)) as pool:
            waiting = {
                pool.submit(with_threads, cpus, work, item, shared): i
                for i, item in enumerate(items)
            }
            for future in as_completed(waiting):
                yield waiting[future], future.result()
    finally:
        torch.set_num_threads(before)  # the default of threads that start later


def fit_member(job: Job, task: Task) -> str:
    """Train a head on all training images, or on all but its fold's, and save it.

    Returns:
        sha256 of the file.
    """
    rows, task = np.flatnonzero(task.folds_N != job.card.fold), task.of_kind(job.card.kind)
    head, _ = fit_rows(task, job.card.recipe, rows, job.card.seed)
    return save(Member(job.card, head.arrays()), storage_path(job.path))


def fit_members(
    jobs: Sequence[Job], task: Task, cpus: int, gpus: float, progress: Callable[[int, int], None]
) -> list[str]:
    """Train heads by :func:`map_over_cluster`; finished ones are kept.

    Returns:
        sha256 of each member's file, in the order of the jobs.
    """
    hashes = [finished_sha256(job) for job in jobs]
    missing = [i for i, sha256 in enumerate(hashes) if not sha256]
    progress(len(jobs) - len(missing), len(jobs))
    ended = map_over_cluster(fit_member, [jobs[i] for i in missing], task, cpus, gpus)
    for done, (number, sha256) in enumerate(ended, len(jobs) - len(missing) + 1):
        hashes[missing[number]] = sha256
        progress(done, len(jobs))
    return hashes


def project_fold(fold: int, shared: tuple[Task, int]) -> tuple[str, ProjectedImages]:
    """The :func:`projection_key` and projection of the training images of all folds but one."""
    task, components = shared
    about = (task.features, task.features.row_N[task.folds_N != fold], components)
    return projection_key(*about), project_images(*about, best_device())


def project_folds(
    task: Task,
    components: int,
    cpus: int,
    gpus: float,
    many_nodes: bool,
    progress: Callable[[int, int], None],
) -> dict[str, ProjectedImages]:
    """Project the training images of each fold model, once for all workers.

    Args:
        task: Features and folds.
        components: P, at most; with 0 or all features there is nothing to do.
        cpus: CPU threads for one fold.
        gpus: GPU share for one fold.
        many_nodes: Whether the cluster is more than this machine.
        progress: Called with (folds done, folds).

    Returns:
        By :func:`projection_key`; empty if there is nothing to do, or if the result would fill more
        than :data:`MEMORY_SHARE` of the object store: each worker then computes its own.
    """
    images, copies = len(task.labels_N), task.features.shape[0]
    size = task.folds * images * copies * components * np.dtype(np.float16).itemsize
    room = MEMORY_SHARE * ray.cluster_resources().get("object_store_memory", 0.0)
    if not 0 < components < HEAD_FEATURES or size > room:
        return {}
    found = {}
    folds, shared = range(task.folds), (task, components)
    if many_nodes or gpus:
        ended = map_over_cluster(project_fold, folds, shared, cpus, gpus)
    else:
        ended = map_in_process(project_fold, folds, shared, cpus)
    for done, (_, (key, projected)) in enumerate(ended, 1):
        found[key] = projected
        progress(done, task.folds)
    return found

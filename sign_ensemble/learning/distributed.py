"""Members trained over the Ray cluster, one task each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import torch

from sign_ensemble.errors import UserError
from sign_ensemble.learning.folds import Task, fit_rows
from sign_ensemble.learning.member import Card, Member, load, save
from sign_ensemble.run import file_sha256


@dataclass(frozen=True)
class Job:
    """A member to be trained and the file it goes to."""

    card: Card
    path: str


def fit_member(job: Job, task: Task, threads: int) -> str:
    """Train one member on all training images, or on all but its fold's, and save it.

    Returns:
        sha256 of the file.
    """
    torch.set_num_threads(threads)
    rows = np.flatnonzero(task.folds_N != job.card.fold)
    head, _ = fit_rows(task, job.card.recipe, rows, job.card.seed)
    tensors = {name: tensor.cpu().numpy() for name, tensor in head.state_dict().items()}
    return save(Member(job.card, tensors), Path(job.path))


def finished(job: Job) -> str:
    """sha256 of the file if an interrupted call has already made that very member, else ""."""
    path = Path(job.path)
    if not path.exists():
        return ""
    try:
        return file_sha256(path) if load(path).card == job.card else ""
    except UserError:  # damaged: made anew
        return ""


def fit_members(
    jobs: Sequence[Job],
    task: Task,
    cpus: int,
    gpus: float,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Train members, as many at once as the cluster holds.

    Args:
        jobs: What to train.
        task: Features and labels.
        cpus: CPU threads of one training.
        gpus: GPU share of one training.
        progress: Called with (members done, members).

    Returns:
        sha256 of each member's file, in the order of the jobs.
    """
    remote = ray.remote(fit_member).options(num_cpus=cpus, num_gpus=gpus, max_retries=2)
    shared = ray.put(task)
    hashes = [finished(job) for job in jobs]
    waiting = {remote.remote(job, shared, cpus): i for i, job in enumerate(jobs) if not hashes[i]}
    done = len(jobs) - len(waiting)
    progress(done, len(jobs))
    while waiting:
        ready, _ = ray.wait(list(waiting))
        for reference in ready:
            hashes[waiting.pop(reference)] = ray.get(reference)
            done += 1
            progress(done, len(jobs))
    return hashes

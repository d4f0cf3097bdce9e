"""A worker of Ray Train: members are fine-tuned one after another, with checkpoints."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sign_ensemble.core.atomic_files import file_sha256
from sign_ensemble.core.config import ScaleConfig
from sign_ensemble.core.device import compute_with
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import storage_path
from sign_ensemble.learning.finetuning import (
    PixelBatches,
    checkpoint_tensors,
    finetuning_schedule,
    network_of,
    optimizer_of,
    restore,
)
from sign_ensemble.learning.head_training import bootstrap_rows
from sign_ensemble.learning.member import Card, Member, load, save
from sign_ensemble.learning.task import PixelTask
from sign_ensemble.learning.training_loop import TrainingState, fit

CHECK_EVERY = 16  # steps between two checks of the clock, for which workers synchronise


@dataclass(frozen=True)
class Job:
    """A member to train, its file and, for fine-tuning, its head's file."""

    card: Card
    path: str
    head: str = ""

    @property
    def key(self) -> str:
        """Identifies this training's checkpoints."""
        return hashlib.sha256(json.dumps(asdict(self.card), sort_keys=True).encode()).hexdigest()


def worker_loop(config: dict[str, Any]) -> None:
    """Train a run's members one after another, resuming at its checkpoint.

    A checkpoint names its member, and the members before that one are finished: so all workers
    agree on where to resume, whichever of them was lost.
    """
    compute_with(config["threads"])
    jobs: Sequence[Job] = config["jobs"]
    header, tensors = read_checkpoint()
    for job in remaining_jobs(jobs, header):
        if header.get("key") == job.key:
            begin = TrainingState(header["epoch"], header["step"], tuple(header["losses"]))
            finetune_member(job, config, begin, tensors)
        else:
            finetune_member(job, config, None, {})


def finished_sha256(job: Job) -> str:
    """sha256 of the file if an interrupted call has finished this job, else ""."""
    path = storage_path(job.path)
    if not path.exists():
        return ""
    try:
        return file_sha256(path) if load(path).card == job.card else ""
    except UserError:  # damaged: trained again
        return ""


def remaining_jobs(jobs: Sequence[Job], header: Mapping[str, Any]) -> Sequence[Job]:
    """The jobs from a checkpoint's own on, without it if it is done; all for another checkpoint."""
    keys = [job.key for job in jobs]
    if header.get("key") not in keys:
        return jobs
    first = keys.index(header["key"])
    return jobs[first + 1 :] if header.get("done") else jobs[first:]


def finetune_member(
    job: Job, config: dict[str, Any], begin: TrainingState | None, restored: dict[str, torch.Tensor]
) -> None:
    """Train one member together with the other workers, reporting checkpoints, and save it."""
    task: PixelTask = config["task"]
    scale: ScaleConfig = config["scale"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    settings, recipe = job.card.finetune, job.card.recipe
    torch.manual_seed(job.card.seed)
    network = network_of(load(storage_path(job.head)), settings, task.weights).to(device)
    optimizer = optimizer_of(network, settings)
    if restored:
        restore(network, optimizer, restored)
    in_place = {"gradient_as_bucket_view": True}  # else 60 MB are copied in every step
    distributed = ray.train.torch.prepare_model(network, parallel_strategy_kwargs=in_place)
    batches = PixelBatches(
        task,
        bootstrap_rows(np.flatnonzero(task.folds_N != job.card.fold), recipe, job.card.seed),
        settings,
        scale.micro_batch,
        recipe.widths if recipe.dropout else (),
        recipe.dropout,
        job.card.seed,
        rank,
        workers,
        device,
    )
    clock = Clock(60 * scale.checkpoint_minutes, workers, device)

    def after_step(state: TrainingState) -> None:
        if rank == 0 and config["progress_actor"] and state.step % CHECK_EVERY == 0:
            epochs = state.epoch - 1 + state.step / batches.steps
            config["progress_actor"].update.remote(job.path, epochs)
        if state.step == 0 or (state.step % CHECK_EVERY == 0 and clock.expired()):
            tensors = checkpoint_tensors(network, optimizer) if rank == 0 else {}
            report({"key": job.key, "done": False, **asdict(state)}, tensors, rank)
            clock.began = time.monotonic()

    schedule = finetuning_schedule(settings, recipe.label_smoothing)
    fit(distributed, batches, schedule, optimizer, device, None, begin, after_step)
    if rank == 0:
        learned = {k: value.cpu().contiguous().numpy() for k, value in network.learned().items()}
        save(Member(job.card, learned), storage_path(job.path))
    report({"key": job.key, "done": True}, {}, rank)


class Clock:
    """A timer on rank 0, read by all workers."""

    def __init__(self, seconds: float, workers: int, device: torch.device) -> None:
        self.seconds, self.workers, self.device = seconds, workers, device
        self.began = time.monotonic()

    def expired(self) -> bool:
        """Whether the time is over; all workers must call it together."""
        over = time.monotonic() - self.began > self.seconds
        expired = torch.tensor([float(over)], device=self.device)
        if self.workers > 1:
            torch.distributed.broadcast(expired, 0)
        return bool(expired)


def report(header: dict[str, Any], tensors: dict[str, torch.Tensor], rank: int) -> None:
    """Report to Ray Train, as all workers must; rank 0's checkpoint is kept."""
    if rank:
        ray.train.report({})
        return
    with tempfile.TemporaryDirectory() as folder:
        named = {key: json.dumps(value) for key, value in header.items()}
        save_file(tensors, Path(folder) / "state.safetensors", named)
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def read_checkpoint() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of the run's last checkpoint; empty if there is none."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return {}, {}
    with checkpoint.as_directory() as folder:
        path = Path(folder) / "state.safetensors"
        with safe_open(path, "pt") as opened:
            header = {key: json.loads(value) for key, value in (opened.metadata() or {}).items()}
            names = opened.keys()  # safe_open has no iterator
            return header, {name: opened.get_tensor(name) for name in names}

"""Whole networks trained over the cluster by Ray Train."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray import PlacementGroupID
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import get_node
from ray.util.state.exception import RayStateApiException

from sign_ensemble.core.atomic_files import file_sha256
from sign_ensemble.core.config import ScaleConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath, filesystem_and_path, storage_path
from sign_ensemble.learning.cluster_resources import largest_node, resources_for
from sign_ensemble.learning.task import PixelTask, Resources
from sign_ensemble.learning.train_worker import Job, finished_sha256, worker_loop

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers there
ANSWER_SECONDS = 10  # as long as Ray Train itself waits for a dashboard


@ray.remote(num_cpus=0)
class ProgressActor:
    """Where trainings say how far they are."""

    def __init__(self) -> None:
        self.passes: dict[str, float] = {}

    def tell(self, path: str, passes: float) -> None:
        """A member has come through so many passes."""
        self.passes[path] = passes

    def read(self) -> float:
        """Passes of all members."""
        return sum(self.passes.values())


def run_training(
    jobs: Sequence[Job],
    task: PixelTask,
    resources: Resources,
    folder: str,
    name: str,
    scale: ScaleConfig,
    progress_actor: Any,
) -> None:
    """One Ray Train run over some members, one after another; ``progress_actor`` may be None."""
    workers = (
        resources.least if resources.least == resources.most else (resources.least, resources.most)
    )
    training = f"{folder}/{name}"
    release_resources(training)
    per_worker: dict[str, float] = {"CPU": resources.cpus, "memory": memory_mark(training)}
    per_worker |= {"GPU": resources.gpus} if resources.gpus else {}
    one_each = resources.gpus >= 1  # NCCL refuses two workers on one GPU
    files, where = filesystem_and_path(storage_path(folder))
    ray.train.torch.TorchTrainer(
        worker_loop,
        train_loop_config={
            "jobs": jobs,
            "task": task,
            "scale": scale,
            "board": progress_actor,
            "threads": resources.cpus,
        },
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if one_each else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=bool(resources.gpus), resources_per_worker=per_worker
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=where,
            storage_filesystem=files,
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            failure_config=ray.train.FailureConfig(max_failures=scale.max_failures),
        ),
    ).fit()


def memory_mark(training: str) -> int:
    """So many bytes of memory, at most a million, a training of this name asks for: they tell
    what it holds of the cluster from what others hold.
    """
    return 1 + int(hashlib.sha256(training.encode()).hexdigest(), 16) % 1_000_000


def release_resources(training: str) -> None:
    """Take back what a training of this name still holds of the cluster, its caller having died
    before Ray Train had noted it: nobody else would as long as the job lasts (Ray 2.60 frees a
    placement group when its job ends, or by an actor that is told of it seconds after it is made).
    """
    for number, group in placement_group_table().items():
        marks = {bundle.get("memory") for bundle in group["bundles"].values()}
        if group["state"] != "REMOVED" and memory_mark(training) in marks:
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(number))))


def training_task() -> Any:
    """:func:`run_training` as a task whose actors know which Ray they belong to."""
    known = dict(ray_environment(ray.get_runtime_context().gcs_address))
    return ray.remote(run_training).options(
        num_cpus=0, max_retries=0, runtime_env={"env_vars": known}, scheduling_strategy=this_node()
    )


@lru_cache(maxsize=1)  # asked once a process: another's dashboard may come and go, its own stays
def ray_environment(address: str) -> Mapping[str, str]:
    """What tells a training's actors that they belong to the Ray at this address.

    Ray Train frees what a training holds, after its caller has died, by an actor that asks the
    dashboard of the Ray in RAY_ADDRESS whether the caller lives. Without an address it takes the
    machine's latest: where several run, it fails and the CPUs stay taken, or it misses the training
    there and takes its CPUs away. A Ray without a dashboard names the usual port all the same, and
    whichever other Ray answers there misses the training too (``is_actor_alive`` of Ray 2.60): then
    nobody is to be asked.
    """
    ours = {"RAY_ADDRESS": address}
    nobody = ours | {"RAY_API_SERVER_ADDRESS": NOWHERE}
    asked = ray.remote(dashboard_knows).options(
        num_cpus=0,
        resources={HEAD_NODE_RESOURCE_NAME: 0.001},
        runtime_env={"env_vars": nobody},  # most often the training's: its process is there then
        scheduling_strategy="DEFAULT",  # a trial's own placement group need not hold it
    )
    known = ray.get(asked.remote(ray.get_runtime_context().get_node_id()))
    return ours if known else nobody


def dashboard_knows(node: str) -> bool:
    """Whether the dashboard of the Ray in RAY_ADDRESS is there and knows a node of it; to be asked
    on the head's machine, where it is, and by a process that else would ask nobody.
    """
    nobody = os.environ.pop("RAY_API_SERVER_ADDRESS")
    try:
        return get_node(node, timeout=ANSWER_SECONDS) is not None
    except (RayStateApiException, ConnectionError, RuntimeError, ValueError):
        return False
    finally:
        os.environ["RAY_API_SERVER_ADDRESS"] = nobody


def this_node() -> NodeAffinitySchedulingStrategy:
    """On the caller's own node, whose loss costs no more than the caller's; another may be lost,
    or be lost already without Ray's having noticed.
    """
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def finetune_one(
    job: Job, task: PixelTask, resources: Resources, folder: StoragePath, scale: ScaleConfig
) -> None:
    """Fine-tune one network with Ray Train, unless an interrupted call has done so."""
    if not finished_sha256(job):
        ray.get(
            training_task().remote([job], task, resources, str(folder), "training", scale, None)
        )


def finetune_members(
    jobs: Sequence[Job],
    task: PixelTask,
    folder: StoragePath,
    scale: ScaleConfig,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Fine-tune members with Ray Train; what an interrupted call has made or begun is kept.

    Args:
        jobs: What to train; their heads' files are there.
        task: Images and labels.
        folder: For Ray Train's checkpoints.
        scale: Workers and resources.
        progress: Called with (passes done, passes).

    Returns:
        sha256 of each member's file, in the order of the jobs.

    Raises:
        UserError: the cluster is too small, or a training failed more often than allowed.
    """
    missing = [job for job in jobs if not finished_sha256(job)]
    passes = sum(job.card.finetune.epochs for job in jobs)
    before = passes - sum(job.card.finetune.epochs for job in missing)
    progress(before, passes)
    if missing:
        resources = resources_for(scale, ray.cluster_resources(), len(missing), largest_node())
        progress_actor = ProgressActor.options(scheduling_strategy=this_node()).remote()  # type: ignore[attr-defined]  # Ray adds it
        shared = ray.put(task)
        training = training_task()
        waiting = [
            training.remote(
                missing[i :: resources.concurrent], shared, resources, str(folder), f"lane-{i}",
                scale, progress_actor,
            )
            for i in range(resources.concurrent)
        ]  # fmt: skip
        try:
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=1)
                progress(before + int(ray.get(progress_actor.read.remote())), passes)
                for reference in ready:
                    ray.get(reference)
        except ray.exceptions.RayTaskError as fault:
            raise UserError(f"fine-tuning failed: {last_line(fault)}") from None
        progress(passes, passes)
    return [file_sha256(storage_path(job.path)) for job in jobs]


def last_line(fault: BaseException) -> str:
    """The last line of what went wrong in a worker."""
    lines = [line for line in str(fault).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(fault).__name__

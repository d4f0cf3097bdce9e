"""Fine-tuning over the cluster by Ray Train."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray import PlacementGroupID
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group
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
    """The progress of all trainings."""

    def __init__(self) -> None:
        self.epochs: dict[str, float] = {}

    def update(self, path: str, epochs: float) -> None:
        """A member has been trained for so many epochs."""
        self.epochs[path] = epochs

    def total(self) -> float:
        """Epochs of all members."""
        return sum(self.epochs.values())


def run_training(
    jobs: Sequence[Job],
    task: PixelTask,
    resources: Resources,
    folder: str,
    name: str,
    scale: ScaleConfig,
    progress_actor: Any,
) -> None:
    """Fine-tune members one after another in one Ray Train run; ``progress_actor`` may be None."""
    least, most = resources.min_workers, resources.max_workers
    workers = least if least == most else (least, most)
    training = f"{folder}/{name}"
    release_resources(training)
    per_worker: dict[str, float] = {"CPU": resources.cpus, "memory": memory_mark(training)}
    per_worker |= {"GPU": resources.gpus} if resources.gpus else {}
    one_each = resources.gpus >= 1  # NCCL refuses two workers on one GPU
    files, where = filesystem_and_path(storage_path(folder))
    config = {"jobs": jobs, "task": task, "scale": scale, "threads": resources.cpus}
    ray.train.torch.TorchTrainer(
        worker_loop,
        train_loop_config={**config, "progress_actor": progress_actor},
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
    """Bytes of memory, at most a million, whose request identifies a training's placement group."""
    return 1 + int(hashlib.sha256(training.encode()).hexdigest(), 16) % 1_000_000


def release_resources(training: str) -> None:
    """Remove the placement group of an earlier training of this name.

    Its caller died before Ray Train had recorded it; else it would last as long as the job (Ray
    2.60 removes it at the job's end, or by an actor that learns of it seconds after its creation).
    """
    for number, group in placement_group_table().items():
        marks = {bundle.get("memory") for bundle in group["bundles"].values()}
        if group["state"] != "REMOVED" and memory_mark(training) in marks:
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(number))))


def training_task() -> Any:
    """:func:`run_training` as a Ray task whose actors know which Ray they belong to."""
    env = dict(ray_environment(ray.get_runtime_context().gcs_address))
    return ray.remote(run_training).options(
        num_cpus=0, max_retries=0, runtime_env={"env_vars": env}, scheduling_strategy=this_node()
    )


@lru_cache(maxsize=1)  # a Ray's own dashboard is there from start to end; another's may change
def ray_environment(address: str) -> Mapping[str, str]:
    """Environment variables by which a training's actors find the Ray at this address.

    When a training's caller has died, an actor of Ray Train frees its resources. It asks the
    dashboard of the Ray in RAY_ADDRESS, by default the machine's latest, whether the caller lives.
    If that is another Ray, the CPUs are never freed, or are freed during the training. A Ray
    without a dashboard names the usual port all the same, where another Ray's may answer
    (``is_actor_alive`` of Ray 2.60): then the address is one where nothing answers.
    """
    ours = {"RAY_ADDRESS": address}
    no_dashboard = ours | {"RAY_API_SERVER_ADDRESS": NOWHERE}
    check = ray.remote(dashboard_knows).options(
        num_cpus=0,
        resources={HEAD_NODE_RESOURCE_NAME: 0.001},
        runtime_env={"env_vars": no_dashboard},  # mostly the training's own: reuses its process
        scheduling_strategy="DEFAULT",  # a trial's own placement group need not hold it
    )
    known = ray.get(check.remote(ray.get_runtime_context().get_node_id()))
    return ours if known else no_dashboard


def dashboard_knows(node: str) -> bool:
    """Whether the dashboard of the Ray in RAY_ADDRESS answers and knows a node.

    To be called on the head node, where the dashboard is, in the environment of a Ray without one.
    """
    nowhere = os.environ.pop("RAY_API_SERVER_ADDRESS")
    try:
        return get_node(node, timeout=ANSWER_SECONDS) is not None
    except (RayStateApiException, ConnectionError, RuntimeError, ValueError):
        return False
    finally:
        os.environ["RAY_API_SERVER_ADDRESS"] = nowhere


def this_node() -> NodeAffinitySchedulingStrategy:
    """The caller's own node: any other may be lost, perhaps without Ray having noticed."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def finetune_one(
    job: Job, task: PixelTask, resources: Resources, folder: StoragePath, scale: ScaleConfig
) -> None:
    """Fine-tune one network with Ray Train, unless an interrupted call has done so."""
    if not finished_sha256(job):
        about = ([job], task, resources, str(folder), "training", scale, None)
        ray.get(training_task().remote(*about))


def finetune_members(
    jobs: Sequence[Job],
    task: PixelTask,
    folder: StoragePath,
    scale: ScaleConfig,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Fine-tune members with Ray Train; an interrupted call is resumed.

    Args:
        jobs: Members to train, whose heads are there.
        task: Images and labels.
        folder: For Ray Train's checkpoints.
        scale: Workers and resources.
        progress: Called with (epochs done, epochs).

    Returns:
        sha256 of each member's file, in the order of the jobs.

    Raises:
        UserError: the cluster is too small, or a training failed more often than allowed.
    """
    missing = [job for job in jobs if not finished_sha256(job)]
    epochs = sum(job.card.finetune.epochs for job in jobs)
    before = epochs - sum(job.card.finetune.epochs for job in missing)
    progress(before, epochs)
    if missing:
        resources = resources_for(scale, ray.cluster_resources(), len(missing), largest_node())
        progress_actor = ProgressActor.options(scheduling_strategy=this_node()).remote()  # type: ignore[attr-defined]  # Ray adds it
        shared = ray.put(task)
        training = training_task()
        waiting = [
            training.remote(
                missing[i :: resources.concurrent], shared, resources, str(folder),
                f"training-{i}", scale, progress_actor,
            )
            for i in range(resources.concurrent)
        ]  # fmt: skip
        try:
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=1)
                progress(before + int(ray.get(progress_actor.total.remote())), epochs)
                for reference in ready:
                    ray.get(reference)
        except ray.exceptions.RayTaskError as fault:
            raise UserError(f"fine-tuning failed: {last_line(fault)}") from None
        progress(epochs, epochs)
    return [file_sha256(storage_path(job.path)) for job in jobs]


def last_line(fault: BaseException) -> str:
    """The last line of a worker's error, without the type of one of ours."""
    lines = [line for line in str(fault).splitlines() if line.strip()]
    last = lines[-1].strip() if lines else type(fault).__name__
    return re.sub(r"^sign_ensemble\.[\w.]+: ", "", last)

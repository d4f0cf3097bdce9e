"""How trials and trainings share a cluster's CPUs and GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import ray

from sign_ensemble.core.config import ScaleConfig, SearchConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.learning.task import Resources


def resources_for(
    scale: ScaleConfig, have: Mapping[str, float], members: int, largest: int | None = None
) -> Resources:
    """Share a cluster's resources among trainings.

    Args:
        scale: The settings.
        have: The cluster's resources, as Ray names them.
        members: Number of trainings.
        largest: Most CPUs of one node, since a worker is on one; by default the cluster's.

    Raises:
        UserError: the cluster is too small for ``scale``.
    """
    least, most = scale.least_and_most or (1, 1)
    cpus, gpus = int(have.get("CPU", 0)), float(have.get("GPU", 0))
    share = gpu_share(scale, have)
    if gpus < least * share:
        raise UserError(
            f"scale.gpus_per_worker is {share:g} and scale.workers "
            f"{scale.workers}: the cluster has {gpus:g} GPUs; 0 trains on CPUs"
        )
    needed = least * (scale.cpus_per_worker or 1)
    if cpus < needed:
        raise UserError(
            f"scale.workers is {scale.workers}: the cluster has {cpus} CPUs, these need {needed}; "
            "give fewer workers or start Ray with more CPUs"
        )
    largest = cpus if largest is None else largest
    if (scale.cpus_per_worker or 1) > largest:
        raise UserError(
            f"scale.cpus_per_worker is {scale.cpus_per_worker}: no node has more than {largest} "
            "CPUs, and a worker is on one"
        )
    room = int(gpus / (most * share)) if share else 1
    concurrent = min(scale.concurrent or max(1, room), members)
    each = scale.cpus_per_worker or max(1, min(largest, cpus // (concurrent * most)))
    return Resources(concurrent, least, most, each, share)


def gpus() -> float:
    """GPUs of the cluster that this process has joined."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def gpu_share(scale: ScaleConfig, have: Mapping[str, float]) -> float:
    """GPUs of one worker: by default 1, or an even share if fewer GPUs than workers are there."""
    if scale.gpus_per_worker is not None:
        return scale.gpus_per_worker
    least, _ = scale.least_and_most or (1, 1)
    return min(1.0, float(have.get("GPU", 0)) / least)


def largest_node() -> int:
    """Most CPUs of one node of the cluster."""
    return max(int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"])


def concurrent_trials(search: SearchConfig) -> int:
    """Trials of heads at a time: ``search.concurrent``, or as many as the cluster holds now.

    Trials beyond that wait, which makes an autoscaling cluster grow.

    Raises:
        UserError: the cluster is too small for one.
    """
    have, room = ray.cluster_resources(), []
    for unit, each in (("CPU", search.cpus_per_trial), ("GPU", search.gpus_per_trial)):
        if each:
            total = float(have.get(unit, 0))
            room.append(int(total / each))
            if not room[-1]:
                setting = f"search.{unit.lower()}s_per_trial"
                raise UserError(f"{setting} is {each}: the cluster has {total:g} {unit}s")
    return search.concurrent or min(room)


def concurrent_end_to_end_trials(search: SearchConfig, scale: ScaleConfig) -> int:
    """End-to-end trials at a time: ``search.concurrent``, or as many as the cluster holds now."""
    have = ray.cluster_resources()
    _, most = scale.least_and_most or (1, 1)
    room = int(have.get("CPU", 0)) // (most * (scale.cpus_per_worker or 1))
    share = gpu_share(scale, have)
    if share:
        room = min(room, int(have.get("GPU", 0) / (most * share)))
    return search.concurrent or max(1, room)


def trial_resources(search: SearchConfig, scale: ScaleConfig) -> Resources:
    """How end-to-end trials share the cluster, by :func:`resources_for`."""
    concurrent = concurrent_end_to_end_trials(search, scale)
    scale = replace(scale, concurrent=concurrent)
    return resources_for(scale, ray.cluster_resources(), concurrent, largest_node())


def check_room(scale: ScaleConfig) -> None:
    """Check that the cluster holds one fine-tuning, by :func:`resources_for`."""
    resources_for(scale, ray.cluster_resources(), 1, largest_node())

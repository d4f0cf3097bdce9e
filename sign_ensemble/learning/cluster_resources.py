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
        scale: What was asked for.
        have: The cluster's resources, as Ray names them.
        members: How many are to be trained.
        largest: Most CPUs of one node, since a worker is on one; by default all are.

    Raises:
        UserError: the cluster does not hold the fewest workers asked for.
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
    fit_in = int(gpus / (most * share)) if share else 1
    concurrent = min(scale.concurrent or max(1, fit_in), members)
    each = scale.cpus_per_worker or max(1, min(largest, cpus // (concurrent * most)))
    return Resources(concurrent, least, most, each, share)


def gpus() -> float:
    """GPUs of the cluster that this process has joined."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def gpu_share(scale: ScaleConfig, have: Mapping[str, float]) -> float:
    """What one worker gets of a GPU: as asked for; else a whole one where the cluster has enough
    for the fewest workers, an even share of those it has where it has fewer, and none without any.
    """
    if scale.gpus_per_worker is not None:
        return scale.gpus_per_worker
    least, _ = scale.least_and_most or (1, 1)
    return min(1.0, float(have.get("GPU", 0)) / least)


def largest_node() -> int:
    """Most CPUs of one node of the cluster."""
    return max(int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"])


def concurrent_trials(search: SearchConfig) -> int:
    """How many trials are begun at once: as many as the cluster holds now, or as many as were
    asked for. Those without room wait, and make a cluster grow that scales by itself.

    Raises:
        UserError: the cluster holds not even one.
    """
    have = ray.cluster_resources()
    cpus, gpus = int(have.get("CPU", 0)), float(have.get("GPU", 0))
    most = cpus // search.cpus_per_trial
    if most < 1:
        raise UserError(
            f"search.cpus_per_trial is {search.cpus_per_trial}: the cluster has {cpus} CPUs"
        )
    if search.gpus_per_trial:
        most = min(most, int(gpus / search.gpus_per_trial))
        if most < 1:
            raise UserError(
                f"search.gpus_per_trial is {search.gpus_per_trial}: the cluster has {gpus:g} GPUs"
            )
    return search.concurrent or most


def concurrent_trainings(search: SearchConfig, scale: ScaleConfig) -> int:
    """How many trials are begun at once whose convolutions learn too: as many as the cluster holds
    now with all the workers asked for, or as many as were asked for.
    """
    have = ray.cluster_resources()
    _, most = scale.least_and_most or (1, 1)
    fit_in = int(have.get("CPU", 0)) // (most * (scale.cpus_per_worker or 1))
    share = gpu_share(scale, have)
    if share:
        fit_in = min(fit_in, int(have.get("GPU", 0) / (most * share)))
    return search.concurrent or max(1, fit_in)


def trial_resources(search: SearchConfig, scale: ScaleConfig) -> Resources:
    """How trials whose convolutions learn too share the cluster.

    Raises:
        UserError: the cluster does not hold the workers of one.
    """
    concurrent = concurrent_trainings(search, scale)
    beside = replace(scale, concurrent=concurrent)
    return resources_for(beside, ray.cluster_resources(), concurrent, largest_node())


def check_room(scale: ScaleConfig) -> None:
    """Refuse workers of a fine-tuning that the cluster does not hold.

    Raises:
        UserError: it does not.
    """
    resources_for(scale, ray.cluster_resources(), 1, largest_node())

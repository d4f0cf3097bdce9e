"""Joining or starting Ray, quietly."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sign_ensemble.core import running_ray
from sign_ensemble.core.console import say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.interrupts import interrupts_are_kept
from sign_ensemble.core.ray_folder import ray_folder

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the search prints its own table
    "RAY_TRAIN_V2_ENABLED": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt ends the search at once; records are kept
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",  # no control codes in Ray's messages about a lost node
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # Train notices an end sooner; its default is 2
    "RAY_TRAIN_METRICS_ENABLED": "0",  # else a training ends 7 s after its last report
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future behaviour; its absence warns
}

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
ALONE = "sign_ensemble_alone"  # a resource that marks a Ray which ends with the command it is for
# Methods of Ray's own Node that start the autoscaler and the sender of workers' output, which a Ray
# of one command does not need, and the dashboard, which Ray starts even where none is wanted.
CLUSTER_PROCESSES, DASHBOARD = ("start_monitor", "start_log_monitor"), ("start_api_server",)


@dataclass
class PendingRay:
    """A Ray that runs, or will run once it has started."""

    up: Future[None]  # done when it runs
    check: Callable[[], None]  # raises a UserError if the cluster cannot do what the command needs
    _checked: bool = False

    def wait(self) -> None:
        """Wait until it runs, then check it once.

        Raises:
            UserError: see ``check``.
        """
        self.up.result()
        if not self._checked:
            self._checked = True
            self.check()

    def look(self) -> None:
        """Check it once if it runs by now, without waiting."""
        if self.up.done():
            self.wait()


@contextmanager
def starting_ray(dashboard: bool = False) -> Iterator[Future[None]]:
    """Ray for the length of the block: the cluster in RAY_ADDRESS, or one running on this machine
    that can be used, else a new local one that ends with the block.

    A new one takes seconds, so it starts in a thread; the future is done when Ray is up. Ray Train
    needs the ``dashboard`` of a new one, on 127.0.0.1, when trainings are stopped: without it their
    CPUs stay taken for half a minute.

    Raises:
        UserError: no cluster at RAY_ADDRESS can be used, or a new one has no folder.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    up: Future[None] = Future()
    if ray.is_initialized():
        up.set_result(None)
        yield up
        return
    with ThreadPoolExecutor(1) as thread:  # Ray's processes end with the thread that started them
        if join_running_ray():
            up.set_result(None)
        else:
            up = thread.submit(start_local_ray, dashboard, ray_folder())
        try:
            with interrupts_are_kept():
                yield up
        finally:
            try:
                wait([up])
            finally:  # a second interrupt
                ray.shutdown()


def start_local_ray(dashboard: bool, folder: Path | None) -> None:
    """Start a Ray of this machine alone, without the processes that it does not need; its files are
    in ``folder``, or where Ray chooses.
    """
    import ray

    files = {"_temp_dir": str(folder)} if folder else {}
    with without(CLUSTER_PROCESSES + (() if dashboard else DASHBOARD)):
        ray.init("local", resources={ALONE: 1}, include_dashboard=dashboard, **files, **QUIET)


@contextmanager
def without(processes: tuple[str, ...]) -> Iterator[None]:
    """In the block a new Ray starts none of these processes, as far as this version of Ray has
    them.

    ``ray.init`` does not pass on Ray's own switches (``no_monitor``, ``include_log_monitor``). Half
    of the time to start and end a Ray is spared; a Ray without these methods starts as ever.
    """
    node: Any = None
    with suppress(ImportError):  # not one of Ray's public modules
        node = import_module("ray._private.node").Node
    before = {name: getattr(node, name) for name in processes if hasattr(node, name)}
    for name in before:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(node, name, method)


@contextmanager
def connected_ray() -> Iterator[None]:
    """:func:`starting_ray` whose block begins when Ray is up."""
    with starting_ray() as up:
        up.result()
        yield


def join_running_ray() -> bool:
    """Connect to the cluster in RAY_ADDRESS or one running on this machine; False if there is none.

    A Ray that another command has started for itself is not joined: it ends with that command. One
    that was found and cannot be used is named.

    Raises:
        UserError: the one at RAY_ADDRESS cannot be used.
    """
    import ray

    given = running_ray.given_address()
    if given == "local":  # Ray's word for a new one
        return False
    if given not in ("", "auto"):
        if reason := why_not_joined(given):
            raise UserError(
                f"RAY_ADDRESS is {given}: {reason}; unset it or set it to local for a Ray of "
                "this machine alone"
            )
        return True
    running_ray.use_token_of_this_machine()
    for address in running_ray.found_addresses():
        if reason := why_not_joined(address):
            say(f"the Ray found at {address} is not used: {reason}")
        elif ALONE not in ray.cluster_resources():
            return True
        ray.shutdown()
    if given:
        raise UserError("RAY_ADDRESS is auto: no Ray that can be used runs here; unset it")
    return False


def why_not_joined(address: str) -> str:
    """Connect to a Ray; why that failed, or "" if it did not."""
    import ray

    if reason := running_ray.why_unusable(address):
        return reason
    try:
        ray.init(address, **QUIET)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as fault:
        words = " ".join(str(fault).split())[:200]
        return f"{words} (is this machine one of its nodes, `ray start --address={address}`?)"
    return ""


def many_nodes() -> bool:
    """Whether Ray runs here and its cluster has more than one living node."""
    import ray

    return ray.is_initialized() and sum(node["Alive"] for node in ray.nodes()) > 1

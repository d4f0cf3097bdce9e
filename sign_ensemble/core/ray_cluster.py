"""Joining or starting Ray, quietly."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.interrupts import interrupts_are_kept

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the search has its own table
    "RAY_TRAIN_V2_ENABLED": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt ends the search at once; records are kept
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",  # no control codes before what Ray says of a lost node
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how soon Train sees an end; its own is 2
    "RAY_TRAIN_METRICS_ENABLED": "0",  # else 7 s after the last report until a training ends
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future behaviour; its absence warns
}

ALONE = "sign_ensemble_alone"  # a resource of a Ray that ends with the command that started it

# Ray's methods that start what makes clusters grow, which takes a second to end, and what sends
# workers' lines to drivers, of which there is one that wants none: .7 s of a core to start both.
OF_CLUSTERS = ("start_monitor", "start_log_monitor")
# Where no dashboard is wanted Ray starts it nevertheless, to count users: .6 s to wait for it.
OF_DASHBOARD = ("start_api_server",)


@dataclass
class PendingRay:
    """A Ray that is there, or will be once it has started.

    Args:
        up: Done when it is there.
        check: Refuses, with a UserError, what it cannot do.
    """

    up: Future[None]
    check: Callable[[], None]
    _checked: bool = False

    def wait(self) -> None:
        """Until it is there, and asked what it can do.

        Raises:
            UserError: see ``check``.
        """
        self.up.result()
        if not self._checked:
            self._checked = True
            self.check()

    def look(self) -> None:
        """The same if it is there by now, without waiting."""
        if self.up.done():
            self.wait()


@contextmanager
def starting_ray(dashboard: bool = False) -> Iterator[Future[None]]:
    """Ray for the length of the block: the cluster in RAY_ADDRESS or one running on this machine,
    else a new local one that ends with the block.

    A new one takes seconds, most of which other processes take: it starts in a thread, the block
    has begun, and the future says when it is there.

    Args:
        dashboard: Whether a new one has a dashboard, on 127.0.0.1. Ray Train needs it where
            trainings are stopped: without it their CPUs stay taken for half a minute.

    Raises:
        UserError: no cluster answers at RAY_ADDRESS.
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
            up = thread.submit(start_local_ray, dashboard)
        try:
            with interrupts_are_kept():
                yield up
        finally:
            try:
                wait([up])
            finally:  # a second interrupt
                ray.shutdown()


@contextmanager
def connected_ray() -> Iterator[None]:
    """:func:`starting_ray`, and there when the block begins."""
    with starting_ray() as up:
        up.result()
        yield


def join_running_ray() -> bool:
    """Connect to the cluster in RAY_ADDRESS or one running on this machine; whether there is one.

    Not to one that another command has started for itself: with that command it would end.

    Raises:
        UserError: none answers at RAY_ADDRESS.
    """
    import ray

    address = os.environ.get("RAY_ADDRESS")
    if address == "local":  # Ray's word for a new one
        return False
    try:
        ray.init("auto", log_to_driver=False, logging_level="ERROR")
    except ConnectionError as fault:
        if not address:
            return False
        raise UserError(
            f"RAY_ADDRESS is {address}: {fault}; if one is up there, does this machine have its "
            "token (RAY_AUTH_MODE=token)?"
        ) from None
    if not address and ALONE in ray.cluster_resources():
        ray.shutdown()
        return False
    return True


def start_local_ray(dashboard: bool) -> None:
    """Start a new Ray of this machine alone, without the processes that it does not need."""
    import ray

    with without(OF_CLUSTERS + (() if dashboard else OF_DASHBOARD)):
        ray.init(
            "local",
            resources={ALONE: 1},
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=dashboard,
        )


@contextmanager
def without(processes: tuple[str, ...]) -> Iterator[None]:
    """Inside, a Ray that starts has no such processes, if this version of Ray has them at all.

    Ray's own switches for that (``no_monitor``, ``include_log_monitor``) are not passed on by
    ``ray.init``.
    """
    node: Any = None
    with suppress(ImportError):  # it is none of Ray's public modules
        node = import_module("ray._private.node").Node
    before = {name: getattr(node, name) for name in processes if hasattr(node, name)}
    for name in before:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(node, name, method)


def many_nodes() -> bool:
    """Whether Ray runs here and its cluster has more than one living node."""
    import ray

    return ray.is_initialized() and sum(node["Alive"] for node in ray.nodes()) > 1

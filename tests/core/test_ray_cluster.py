"""Ray starts while other work runs, and leaves no process."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from typing import Any

import pytest

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.ray_cluster import PendingRay, without


def test_a_cluster_is_checked_once_when_it_is_up() -> None:
    up: Future[None] = Future()
    checks: list[bool] = []
    cluster = PendingRay(up, lambda: checks.append(up.done()))
    cluster.look()
    assert checks == []
    up.set_result(None)
    for method in (cluster.look, cluster.look, cluster.wait):
        method()
        assert checks == [True]


@pytest.mark.parametrize("method", [PendingRay.look, PendingRay.wait])
def test_what_it_cannot_do_is_refused(method: Any) -> None:
    def refuses() -> None:
        raise UserError("no room")

    up: Future[None] = Future()
    up.set_result(None)
    with pytest.raises(UserError, match="no room"):
        method(PendingRay(up, refuses))
    fault: Future[None] = Future()
    fault.set_exception(OSError("no port"))
    with pytest.raises(OSError, match="no port"):
        method(PendingRay(fault, lambda: None))


def test_processes_that_this_ray_does_not_know_are_ignored() -> None:
    from ray._private.node import Node

    before = Node.start_monitor
    with without(("start_monitor", "start_what_is_no_more")):
        assert Node.start_monitor is not before
        assert not hasattr(Node, "start_what_is_no_more")
    assert Node.start_monitor is before


IN_A_PROCESS = """
import contextlib, os, signal, time
from pathlib import Path

import ray

from sign_ensemble.core.ray_cluster import starting_ray


def running():
    # what this process has started: names by number
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            number, _, named = file.read_text().partition("(")
            name, _, rest = named.rpartition(")")
            state, parent, *_ = rest.split()
            if int(parent) == os.getpid() and state != "Z":
                found[int(number)] = name
    return found


def still_running():
    # the same after 20 seconds
    for _ in range(200):
        if not (found := running()):
            break
        time.sleep(0.1)
    return list(found.values())


{body}
assert not ray.is_initialized()
assert still_running() == []
print("ended")
"""
USED = """
with starting_ray() as up:
    assert not up.done()
    up.result()
    assert ray.get(ray.put(3)) == 3
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in running()]
    assert any(b"raylet" in line for line in lines)
    assert all(b"--disable-frontend" in line for line in lines if b"dashboard.py" in line)
    with starting_ray() as again:  # the running one is used, and stays
        assert again.done()
    assert ray.is_initialized()
"""
INTERRUPTED = """
with contextlib.suppress(KeyboardInterrupt):
    with starting_ray() as up:
        assert not up.done()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    raise SystemExit("the interrupt was lost")
"""

# another command on this machine, which by default would join the first one's Ray
SECOND = """
import subprocess, sys
OTHER = '''
import ray
from sign_ensemble.core import running_ray
from sign_ensemble.core.ray_cluster import connected_ray
running_ray.found_addresses = lambda: ["{first}"]
with connected_ray():
    assert ray.get_runtime_context().gcs_address != "{first}"
'''
with starting_ray() as up:
    up.result()
    first = ray.get_runtime_context().gcs_address
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run([sys.executable, "-c", OTHER.replace("{first}", first)], env=env, check=True)
    assert ray.get(ray.put(3)) == 3
"""


@pytest.mark.parametrize("body", [USED, INTERRUPTED, SECOND])
def test_a_new_ray_starts_in_a_thread_and_leaves_no_process(body: str) -> None:
    """In a process of its own: in this one Ray may run already."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_A_PROCESS.replace("{body}", body)],
        env={**os.environ, "RAY_ADDRESS": "local"},  # whatever runs on this machine
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")

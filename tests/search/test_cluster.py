"""A Ray that starts beside other work; interrupts during a search are not lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from typing import Any

import pytest

from sign_ensemble.errors import UserError
from sign_ensemble.search.cluster import (
    Awaited,
    interrupts_are_kept,
    raise_if_interrupted,
)


def test_what_is_awaited_is_asked_once_when_it_is_there() -> None:
    up: Future[None] = Future()
    asked: list[bool] = []
    cluster = Awaited(up, lambda: asked.append(up.done()))
    cluster.look()
    assert asked == []
    up.set_result(None)
    for ask in (cluster.look, cluster.look, cluster.wait):
        ask()
        assert asked == [True]


@pytest.mark.parametrize("ask", [Awaited.look, Awaited.wait])
def test_what_it_cannot_do_is_refused(ask: Any) -> None:
    def refuses() -> None:
        raise UserError("no room")

    up: Future[None] = Future()
    up.set_result(None)
    with pytest.raises(UserError, match="no room"):
        ask(Awaited(up, refuses))
    fault: Future[None] = Future()
    fault.set_exception(OSError("no port"))
    with pytest.raises(OSError, match="no port"):
        ask(Awaited(fault, lambda: None))


IN_A_PROCESS = """
import contextlib, os, signal, time
from pathlib import Path

import ray

from sign_ensemble.search.cluster import starting


def still_running():
    # what this process has started, after 20 seconds
    for _ in range(200):
        found = []
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                name, _, rest = file.read_text().partition("(")[2].rpartition(")")
                state, parent, *_ = rest.split()
                if int(parent) == os.getpid() and state != "Z":
                    found.append(name)
        if not found:
            return []
        time.sleep(0.1)
    return found


{body}
assert not ray.is_initialized()
assert still_running() == []
print("ended")
"""
WHOLE = """
with starting() as up:
    assert not up.done()
    up.result()
    assert ray.get(ray.put(3)) == 3
    with starting() as again:  # what is there is taken, and stays
        assert again.done()
    assert ray.is_initialized()
"""
INTERRUPTED = """
with contextlib.suppress(KeyboardInterrupt):
    with starting() as up:
        assert not up.done()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    raise SystemExit("the interrupt was lost")
"""


@pytest.mark.parametrize("body", [WHOLE, INTERRUPTED])
def test_a_new_ray_starts_beside_other_work_and_leaves_no_process(body: str) -> None:
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_is_raised_again(number: signal.Signals) -> None:
    """Optuna's journal swallows one that comes while it releases its lock."""
    before = signal.getsignal(number)
    again, after = False, False
    try:
        with interrupts_are_kept():
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number)
            with contextlib.suppress(KeyboardInterrupt):
                raise_if_interrupted()
                again = True
            after = True
    except KeyboardInterrupt:
        assert after and not again
    else:
        pytest.fail("the interrupt was lost")
    assert signal.getsignal(number) == before


def test_an_old_interrupt_does_not_end_the_next_search() -> None:
    with contextlib.suppress(KeyboardInterrupt), interrupts_are_kept():
        os.kill(os.getpid(), signal.SIGINT)
    raise_if_interrupted()  # nor does it outlive its block
    with interrupts_are_kept():
        raise_if_interrupted()


@pytest.mark.timeout(20)
def test_a_second_interrupt_does_not_wait_for_the_first() -> None:
    """It comes while the first is being noted, at each line of that in turn."""

    def interrupted_at(line: int) -> bool:
        """Whether the noting had so many lines."""
        seen = 0

        def at_event(frame: Any, event: str, value: object) -> Any:
            nonlocal seen
            seen += event == "line"
            if event == "line" and seen == line:
                os.kill(os.getpid(), signal.SIGTERM)
            return at_event

        with contextlib.suppress(KeyboardInterrupt), interrupts_are_kept():
            sys.settrace(at_event)
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                sys.settrace(None)
        return seen >= line

    assert [interrupted_at(line) for line in (1, 2)] == [True, True]
    assert not all(interrupted_at(line) for line in range(3, 30))

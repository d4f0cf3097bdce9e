"""Interrupts during a search are not lost, and leave no lock taken."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

import pytest

from sign_ensemble.core.interrupts import interrupts_are_kept, interrupts_wait, raise_if_interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_is_raised_again(number: signal.Signals) -> None:
    """Optuna's journal swallows one that arrives while it releases its lock."""
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
    """It arrives while the handler of the first runs, at each of its lines in turn."""

    def interrupted_at(line: int) -> bool:
        """Whether the handler has so many lines."""
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


@pytest.mark.parametrize("checked", [True, False])
def test_an_interrupt_waits_until_it_is_checked_for(checked: bool) -> None:
    """At the latest until the block ends."""
    done = []
    try:
        with interrupts_are_kept(), interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("a step")
            if checked:
                raise_if_interrupted()
            done.append("another")
    except KeyboardInterrupt:
        assert done == ["a step"] if checked else ["a step", "another"]
    else:
        pytest.fail("the interrupt was lost")


def test_a_second_interrupt_waits_for_nothing() -> None:
    done = []
    with contextlib.suppress(KeyboardInterrupt), interrupts_are_kept(), interrupts_wait():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("a step")
        os.kill(os.getpid(), signal.SIGINT)
        done.append("another")
    assert done == ["a step"]


def test_no_interrupt_waits_after_the_block() -> None:
    done = []
    with contextlib.suppress(KeyboardInterrupt), interrupts_are_kept():
        with interrupts_wait():
            done.append("a step")
        os.kill(os.getpid(), signal.SIGINT)
        done.append("another")
    assert done == ["a step"]


def test_an_interrupt_that_waits_comes_before_what_fails_over_it() -> None:
    with pytest.raises(OSError, match="a fault"), interrupts_are_kept(), interrupts_wait():
        raise OSError("a fault")
    with pytest.raises(KeyboardInterrupt), interrupts_are_kept(), interrupts_wait():
        fails_over_an_interrupt()


def fails_over_an_interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    raise OSError("a worker is gone")

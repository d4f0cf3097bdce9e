"""Interrupts during a search are not lost."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from sign_ensemble.search.cluster import interrupts_are_kept, raise_if_interrupted


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
    with interrupts_are_kept():
        raise_if_interrupted()

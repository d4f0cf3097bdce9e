"""Interrupts while libraries work: none is lost, and none leaves a lock taken."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_interrupted = False  # no Event: a second signal inside its lock would wait for the first forever
_waits = False


@contextmanager
def interrupts_are_kept() -> Iterator[None]:
    """No interrupt is lost in the block: one that a library swallows is raised again at its end,
    and wherever :func:`raise_if_interrupted` is called.

    SIGTERM does what Ctrl-C does: it comes from `ray job stop`, SLURM and Kubernetes. For after
    ``ray.init``, whose own answer to it is a stack trace and no clean-up.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows it there alone
        yield
        return

    def note(number: int, frame: object) -> None:
        global _interrupted
        if _waits and not _interrupted:
            _interrupted = True
            return
        _interrupted = True
        raise KeyboardInterrupt

    global _interrupted
    _interrupted = False
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
        raise_if_interrupted()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        _interrupted = False


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """In the block an interrupt is raised at the next :func:`raise_if_interrupted` or at the end,
    where nothing is half done; a second one at once. Within :func:`interrupts_are_kept`.

    Python raises it between any two instructions otherwise, such as those that take a lock and
    those that see to it that it is given back. TensorBoard's writer, which Ray Tune makes and
    closes for every trial, has such places: one interrupt in sixty that came while it closed left
    the process waiting for itself at its end, for ever.
    """
    global _waits
    _waits = True
    try:
        yield
        raise_if_interrupted()
    except Exception:  # a library may fail over what the interrupt did to its other processes
        raise_if_interrupted()
        raise
    finally:
        _waits = False


def raise_if_interrupted() -> None:
    """Raise an interrupt that has come and was swallowed (Optuna's lock of its journal does so) or
    that waits.

    Raises:
        KeyboardInterrupt: one has.
    """
    if _interrupted:
        raise KeyboardInterrupt

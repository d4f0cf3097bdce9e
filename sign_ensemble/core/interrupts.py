"""Interrupts during library calls: none is lost, and none leaves a lock taken."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_interrupted = False  # no Event: a second signal inside its lock would wait for the first forever
_waits = False


@contextmanager
def interrupts_are_kept() -> Iterator[None]:
    """Keep interrupts in the block: one that a library swallows is raised again at its end,
    and wherever :func:`raise_if_interrupted` is called.

    SIGTERM, which `ray job stop`, SLURM and Kubernetes send, acts like Ctrl-C. To be entered after
    ``ray.init``, whose handler of SIGTERM prints a stack trace and does not clean up.
    """
    if threading.current_thread() is not threading.main_thread():  # Python sets handlers there only
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
    """Delay an interrupt until the next :func:`raise_if_interrupted` or the end of the block.

    A second interrupt is raised at once. Used within :func:`interrupts_are_kept`.

    Without it Python may raise an interrupt between taking a lock and the code that guarantees its
    release, as in TensorBoard's writer, which Ray Tune closes after every trial: the process then
    waits for itself at exit forever.
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
    """Raise an interrupt that was delayed, or swallowed by a library such as Optuna's journal lock.

    Raises:
        KeyboardInterrupt: there was one.
    """
    if _interrupted:
        raise KeyboardInterrupt

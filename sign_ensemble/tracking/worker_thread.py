"""A thread that does pieces of work one after another, beside the caller's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue


class WorkerThread:
    """Does what it is given, in the order in which it is given.

    Args:
        on_fault: Told, in that thread, what a piece of work raised; the next piece follows.
    """

    def __init__(self, on_fault: Callable[[BaseException], None]) -> None:
        self._on_fault = on_fault
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: for any other Python waits at its end, and an interrupt would not end it.
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._ended = threading.Event()  # of a thread whose join is interrupted Python loses track
        self._given = self._done = 0

    def do(self, work: Callable[[], None]) -> None:
        """Have it done; returns at once."""
        self._given += 1
        self._queue.put(work)
        if self._thread.ident is None:
            self._thread.start()

    def end(self) -> None:
        """Give it nothing more: the thread ends when all is done."""
        self._queue.put(None)

    def has_ended(self, seconds: float) -> bool:
        """Whether all is done and the thread has ended, or does so within so many seconds."""
        return self._thread.ident is None or self._ended.wait(seconds)

    def drop(self) -> int:
        """Forget what has not begun, and end; how many pieces are undone or half done."""
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        self.end()
        return self._given - self._done

    def _work(self) -> None:
        while work := self._queue.get():
            try:
                work()
            except BaseException as fault:  # any: also what would end an interpreter
                self._on_fault(fault)
            self._done += 1
        self._ended.set()

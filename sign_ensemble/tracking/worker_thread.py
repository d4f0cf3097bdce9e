"""A thread that does tasks one after another while the caller goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue


class WorkerThread:
    """Runs tasks in the order in which they are given.

    Args:
        on_fault: Called, in that thread, with what a task raised; the next task follows.
    """

    def __init__(self, on_fault: Callable[[BaseException], None]) -> None:
        self._on_fault = on_fault
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: Python waits at its end for any other thread, and no interrupt ends that wait.
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._ended = threading.Event()  # an interrupted join leaves is_alive wrong
        self._given = self._done = 0

    def do(self, task: Callable[[], None]) -> None:
        """Queue a task; returns at once."""
        self._given += 1
        self._queue.put(task)
        if self._thread.ident is None:
            self._thread.start()

    def end(self) -> None:
        """Take no more tasks: the thread ends when all are done."""
        self._queue.put(None)

    def has_ended(self, seconds: float) -> bool:
        """Whether the thread has ended, or does so within so many seconds."""
        return self._thread.ident is None or self._ended.wait(seconds)

    def drop(self) -> int:
        """Forget tasks that have not begun, and end; returns how many are not finished."""
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        self.end()
        return self._given - self._done

    def _work(self) -> None:
        while task := self._queue.get():
            try:
                task()
            except BaseException as fault:  # any: also SystemExit, which wandb raises
                self._on_fault(fault)
            self._done += 1
        self._ended.set()

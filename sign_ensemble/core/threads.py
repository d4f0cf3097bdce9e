"""Parallel work on threads, a piece per thread.

With all threads on one product, each waits for the slowest at every layer, and all but one are idle
while features are written. Threads that each compute a piece of their own do not wait.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")
AHEAD = 2  # pieces per thread that are computed before they are consumed
MOST = 16  # pieces computed at once: a pass of the convolutions needs 60 MB


def thread_count() -> int:
    """How many threads torch has; where it is not loaded, how many cores this process may use."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _set_thread_count(threads: int) -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def map_on_threads(
    pieces: int, make: Callable[[int], Made], most: int = MOST
) -> Generator[Made, None, None]:
    """``make(0)``, ``make(1)``, ... in this order, computed on :func:`thread_count` threads.

    At most ``most`` pieces are computed at once, each with one torch thread, or with more if there
    are fewer workers than threads. An exception, or closing the generator, cancels the pieces that
    have not started.
    """
    threads = thread_count()
    workers = max(1, min(threads, pieces, most))
    share = threads // workers
    pool = ThreadPoolExecutor(workers, initializer=_set_thread_count, initargs=(share,))
    waiting: deque[Future[Made]] = deque()
    try:
        for number in range(pieces):
            waiting.append(pool.submit(make, number))
            if len(waiting) == AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        _set_thread_count(threads)  # new threads inherit it


def slices_on_threads(images: int, do: Callable[[slice], None]) -> None:
    """Call ``do`` for slices that cover so many images, one slice per thread."""
    threads = thread_count()
    if threads == 1:
        do(slice(0, images))
        return
    each = max(1, -(-images // threads))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(do, [slice(start, start + each) for start in range(0, images, each)]))

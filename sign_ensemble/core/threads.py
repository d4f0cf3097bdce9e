"""Parallel work on threads, a piece per thread.

With all threads on one product, each waits for the slowest at every layer, and all but one are idle
while features are written. Threads that each compute a piece of their own do not wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Made = TypeVar("Made")
AHEAD = 2  # pieces per thread that are computed before they are consumed
MOST = 16  # pieces computed at once: a pass of the convolutions needs 60 MB


def map_on_threads(
    pieces: int, make: Callable[[int], Made], most: int = MOST
) -> Generator[Made, None, None]:
    """``make(0)``, ``make(1)``, ... in this order, computed on as many threads as torch has.

    At most ``most`` pieces are computed at once, each with one torch thread, or with more if there
    are fewer workers than threads. An exception, or closing the generator, cancels the pieces that
    have not started.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(threads, pieces, most))
    share = threads // workers
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
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
        torch.set_num_threads(threads)  # new threads inherit it


def slices_on_threads(images: int, do: Callable[[slice], None]) -> None:
    """Call ``do`` for slices that cover so many images, one slice per torch thread."""
    threads = torch.get_num_threads()
    if threads == 1:
        do(slice(0, images))
        return
    each = max(1, -(-images // threads))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(do, [slice(start, start + each) for start in range(0, images, each)]))

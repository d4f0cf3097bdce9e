"""Pieces of work shared out among threads, a piece on each.

Where all threads make one product together, each waits for the slowest at every layer, and all but
one are idle while features are written. Threads with a piece of their own wait for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Made = TypeVar("Made")
AHEAD = 2  # pieces for each thread that are made, or being made, before they are taken
MOST = 16  # pieces made at once: a pass of the convolutions needs 60 MB


def map_on_threads(
    pieces: int, make: Callable[[int], Made], most: int = MOST
) -> Generator[Made, None, None]:
    """What is made of 0, 1 and so on, in this order, on as many threads as torch has.

    Each of them computes with one thread; where there are fewer pieces than threads, or more
    threads than ``most``, with its share of them. A fault, or a caller that takes no more, ends the
    pieces that have not begun.

    Args:
        pieces: How many.
        make: Makes one of its number; several are made at the same time.
        most: How many, at most.
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
        torch.set_num_threads(threads)  # what a later thread takes for its own


def slices_on_threads(images: int, do: Callable[[slice], None]) -> None:
    """Do something with so many images, a part of them on each of torch's threads."""
    threads = torch.get_num_threads()
    if threads == 1:
        do(slice(0, images))
        return
    each = max(1, -(-images // threads))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(do, [slice(start, start + each) for start in range(0, images, each)]))

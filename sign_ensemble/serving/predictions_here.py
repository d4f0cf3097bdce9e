"""Pieces answered on this machine's cores, a piece per core at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue

import pyarrow as pa
import torch

from sign_ensemble.serving.loaded_ensemble import LoadedEnsemble
from sign_ensemble.serving.prediction_pieces import Piece, answer_piece, own_turns

AHEAD = 2  # pieces per core that are begun or done before they are consumed: of these only rows


def answers_here(
    ensemble: LoadedEnsemble, pieces: Iterable[Piece]
) -> Generator[pa.Table, None, None]:
    """The table of each piece, in order; at most as many pieces have images in memory as torch has
    threads. Closing the generator cancels what has not begun.
    """
    threads = torch.get_num_threads()
    free: SimpleQueue[LoadedEnsemble] = SimpleQueue()
    for each in own_turns(ensemble, threads):
        free.put(each)

    def answer(piece: Piece) -> pa.Table:
        torch.set_num_threads(1)  # of this thread, and of those that it starts
        own = free.get()
        try:
            return answer_piece(own, piece)
        finally:
            free.put(own)

    pool, rest = ThreadPoolExecutor(threads), iter(pieces)
    waiting: deque[Future[pa.Table]] = deque()
    try:
        waiting.extend(pool.submit(answer, piece) for piece in islice(rest, AHEAD * threads))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(pool.submit(answer, piece) for piece in islice(rest, 1))
            yield found
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)

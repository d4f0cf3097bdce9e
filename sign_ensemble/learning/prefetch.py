"""On a GPU, a step's images are made ready while the network learns from those of the last."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from sign_ensemble.learning.training_loop import MicroBatch


def prefetch(steps: Iterator[list[MicroBatch]], device: torch.device) -> Iterator[list[MicroBatch]]:
    """The same steps in the same order.

    On a GPU a thread of its own makes the next step's pieces, on a stream of its own: what it waits
    for there is not the network's work. A processor would only share its cores between the two, so
    there each step is made when it is asked for.

    Args:
        steps: Makes a step's pieces when it is asked for them.
        device: Where they are made.
    """
    if device.type != "cuda":
        yield from steps
        return
    side = torch.cuda.Stream(device)

    def make() -> tuple[list[MicroBatch] | None, torch.cuda.Event]:
        with torch.cuda.stream(side):
            micro_batches = next(steps, None)
            return micro_batches, side.record_event()

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(make)
        while True:
            micro_batches, made = waiting.result()
            if micro_batches is None:
                return
            waiting = thread.submit(make)
            network = torch.cuda.current_stream(device)
            network.wait_event(made)
            for micro_batch in micro_batches:
                for tensor in (*micro_batch.inputs, micro_batch.labels_N):
                    if tensor.is_cuda:  # its memory is the side stream's: not to be used again yet
                        tensor.record_stream(network)
            yield micro_batches

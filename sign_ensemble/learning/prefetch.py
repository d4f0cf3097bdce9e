"""On a GPU, a step's images are prepared while the network trains on those of the step before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from sign_ensemble.learning.training_loop import MicroBatch


def prefetch(steps: Iterator[list[MicroBatch]], device: torch.device) -> Iterator[list[MicroBatch]]:
    """The same steps in the same order.

    On a GPU a thread prepares the next step's micro-batches on a CUDA stream of its own, so that it
    does not wait for the network's work. On CPUs, where both would share the cores, each step is
    prepared when it is needed.

    Args:
        steps: Prepares a step's micro-batches when the next step is taken.
        device: Where they are prepared.
    """
    if device.type != "cuda":
        yield from steps
        return
    stream = torch.cuda.Stream(device)

    def make() -> tuple[list[MicroBatch] | None, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            micro_batches = next(steps, None)
            return micro_batches, stream.record_event()

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(make)
        while True:
            micro_batches, made = waiting.result()
            if micro_batches is None:
                return
            waiting = thread.submit(make)
            network_stream = torch.cuda.current_stream(device)
            network_stream.wait_event(made)
            for micro_batch in micro_batches:
                for tensor in (*micro_batch.inputs, micro_batch.labels_N):
                    if tensor.is_cuda:  # its memory must not be reused by the other stream yet
                        tensor.record_stream(network_stream)
            yield micro_batches

"""The device of this process, its threads, and whether bf16 is fast on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sign_ensemble.core.process_memory import spare_page_faults

CPU = torch.device("cpu")
FLOAT32 = "SIGN_ENSEMBLE_FLOAT32"


def best_device() -> torch.device:
    """A GPU if this process may use one, else the CPU.

    A Ray worker without a GPU share may not: Ray 2.60 does not hide GPUs from it, and all workers
    of a node would use the first one.
    """
    if not torch.cuda.is_available():
        return CPU
    ray = sys.modules.get("ray")  # a worker has imported it
    if ray is None or not ray.is_initialized():
        return torch.device("cuda")
    context = ray.get_runtime_context()
    if context.worker.mode == ray.WORKER_MODE and not context.get_accelerator_ids()["GPU"]:
        return CPU
    return torch.device("cuda")


def bf16_is_fast(device: torch.device) -> bool:
    """Whether a device multiplies bf16 in hardware (elsewhere float32 is faster). False where the
    environment's SIGN_ENSEMBLE_FLOAT32 is 1: figures are then those of a machine without.
    """
    if os.environ.get(FLOAT32) == "1":
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def float32_products() -> Iterator[None]:
    """In the block this process multiplies in float32 alone, as other runtimes do: in no bf16, and
    on a GPU in no TF32. What was loaded before keeps its own precision, so it is loaded anew.
    """
    tf32, before = torch.backends.cudnn.allow_tf32, os.environ.get(FLOAT32)
    torch.backends.cudnn.allow_tf32, os.environ[FLOAT32] = False, "1"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        del os.environ[FLOAT32]
        if before is not None:
            os.environ[FLOAT32] = before


def compute_with(threads: int) -> None:
    """Set this process's torch threads and reduce its page faults."""
    torch.set_num_threads(threads)
    spare_page_faults()

"""Where this process computes, with how many threads, and whether bf16 is fast there."""

from __future__ import annotations

import sys

import torch

from sign_ensemble.core.process_memory import spare_page_faults

CPU = torch.device("cpu")


def best_device() -> torch.device:
    """A GPU if this process may use one, else the processor.

    A worker of Ray that was given no share of a GPU may not: Ray hides none from it (2.60, unless
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO is set), and all of a node's workers would take the first.
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
    """Whether a device multiplies bf16 in hardware (elsewhere float32 is faster)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def compute_with(threads: int) -> None:
    """Have this process's products made by so many threads, in memory that costs little to get."""
    torch.set_num_threads(threads)
    spare_page_faults()

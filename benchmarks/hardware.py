"""What a benchmark ran on, in one line."""

from __future__ import annotations

import os
import platform

import torch


def hardware() -> str:
    """Processor, cores, torch."""
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"

"""The device of a process: a GPU only if it may use one."""

import subprocess
import sys

import pytest
import torch

from sign_ensemble.core.device import CPU, best_device, bf16_is_fast

SHARES = """
import ray, torch
from sign_ensemble.core.device import best_device

def place():
    torch.cuda.is_available = lambda: True  # no process here has a real one
    return best_device().type

ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
for share in (0, 0.5):
    print(ray.get(ray.remote(num_cpus=1, num_gpus=share)(place).remote()))
"""


def test_without_a_gpu_the_cpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == CPU


def test_outside_ray_an_available_gpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device().type == "cuda"


def test_a_ray_worker_uses_a_gpu_only_with_a_share_of_one() -> None:
    # its own process: the tests' Ray has no GPU
    found = subprocess.run([sys.executable, "-c", SHARES], capture_output=True, text=True)
    assert found.stdout.split() == ["cpu", "cuda"], found.stderr


def test_bf16_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert bf16_is_fast(CPU)
    monkeypatch.setenv("SIGN_ENSEMBLE_FLOAT32", "1")
    assert not bf16_is_fast(CPU)

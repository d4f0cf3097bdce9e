"""Where a process computes: on a GPU only if it may."""

import subprocess
import sys

import pytest
import torch

from sign_ensemble.core.device import CPU, best_device

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


def test_without_a_gpu_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == CPU


def test_outside_ray_a_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device().type == "cuda"


def test_a_worker_takes_a_gpu_only_if_it_was_given_a_share_of_one() -> None:
    # its own process: the tests' Ray has no GPU
    found = subprocess.run([sys.executable, "-c", SHARES], capture_output=True, text=True)
    assert found.stdout.split() == ["cpu", "cuda"], found.stderr

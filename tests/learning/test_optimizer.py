"""Adam's steps, by hand and against torch's own, and the modules it imports."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from sign_ensemble.learning.optimizer import Adam

ONE_TRAINING = """
import sys
import numpy as np, torch
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.training_loop import FeatureBatches, fit, head_schedule
from sign_ensemble.learning.network import Head

recipe = MemberConfig(epochs=2, widths=(8, 4))
head = Head(6, recipe.widths, 3, 0.2)
features = np.ones((9, 1, 6), np.float16)
rows, labels = np.arange(9), np.arange(9) % 3
batches = FeatureBatches(features, rows, labels, 4, 0.0, np.random.default_rng(0))
optimizer = adamw_for((head, 1e-3), weight_decay=0.1)
fit(head, batches, head_schedule(recipe), optimizer, torch.device("cpu"))
print(*sys.modules, sep="\\n")
"""


def groups_of(network: nn.Module) -> list[dict[str, object]]:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "lr": 1e-3, "weight_decay": 0.1},
        {"params": vectors, "lr": 3e-3, "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("gradient", [0.5, -2.0])
def test_first_step_by_hand(gradient: float) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = Adam([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}])
    weight.grad = torch.tensor([gradient])
    optimizer.step()
    # decay takes 0.1 · 0.5 of it; m / (1 - 0.9) = g and √(v / (1 - 0.999)) = |g|: a whole step
    assert weight.item() == pytest.approx(0.95 - 0.1 * (1 if gradient > 0 else -1), abs=1e-6)
    moments = optimizer.state[weight]
    assert moments["step"].item() == 1
    assert moments["exp_avg"].item() == pytest.approx(0.1 * gradient)
    assert moments["exp_avg_sq"].item() == pytest.approx(0.001 * gradient**2)


def test_same_bits_as_torch_s_own() -> None:
    images = torch.randn(50, 16, 12, generator=torch.Generator().manual_seed(1))
    learned = []
    for make in (Adam, lambda groups: torch.optim.AdamW(groups, fused=True)):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))
        optimizer = make(groups_of(network))
        for step, images_BD in enumerate(images):
            optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1)
            optimizer.zero_grad()
            network(images_BD).square().mean().backward()
            optimizer.step()
        learned.append([p.detach() for p in network.parameters()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*learned, strict=True))


def test_parameters_without_a_gradient_stay() -> None:
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Adam([{"params": [moved, still], "lr": 0.1, "weight_decay": 0.5}])
    moved.sum().backward()
    optimizer.step()
    assert moved.tolist() != [1, 1]
    assert still.tolist() == [1, 1]
    assert set(optimizer.state) == {moved}
    optimizer.zero_grad()
    assert moved.grad is None
    before = moved.tolist()
    optimizer.step()  # nothing to do at all
    assert moved.tolist() == before


def test_a_training_does_not_import_torch_s_compiler() -> None:
    code = [sys.executable, "-c", ONE_TRAINING]
    ran = subprocess.run(code, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "torch.optim.adamw" in loaded
    assert loaded & {"torch._dynamo", "torch._inductor"} == set()

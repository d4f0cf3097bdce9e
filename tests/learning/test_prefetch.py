"""Steps prepared ahead on a GPU are the same steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sign_ensemble.core.config import FinetuneConfig, MemberConfig
from sign_ensemble.core.device import CPU
from sign_ensemble.data import backbone
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.finetuning import (
    PixelBatches,
    checkpoint_tensors,
    finetuning_schedule,
    network_of,
    optimizer_of,
    restore,
)
from sign_ensemble.learning.member import Card, Member
from sign_ensemble.learning.network import Head, Network
from sign_ensemble.learning.prefetch import prefetch
from sign_ensemble.learning.task import PixelTask
from sign_ensemble.learning.training_loop import MicroBatch, TrainingState, fit

N, SIDE, WIDTHS = 40, 224, (64, 32)
SETTINGS = FinetuneConfig(layers="all", epochs=2, batch_size=8)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def given(tmp_path: Path) -> PixelBatches:
    images = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
    images.tofile(tmp_path / "pixels.u8")
    task = PixelTask(
        CachedArray(str(tmp_path / "pixels.u8"), np.arange(N), (SIDE, SIDE, 3), "uint8"),
        tuple(str(i) for i in range(N)),
        np.arange(N) % 2,
        np.zeros(N, np.int64),
        mirror=False,
        weights="shipped",
    )
    gpu = torch.device("cuda")
    return PixelBatches(task, np.arange(N), SETTINGS, 4, WIDTHS, 0.5, 7, 0, 1, gpu)


def network() -> Network:
    torch.manual_seed(0)
    head = Head(backbone.HEAD_FEATURES, WIDTHS, 2, 0.5)
    card = Card(("a", "b"), MemberConfig(widths=WIDTHS), 7, 0, -1, 1, 0.0, {}, "m", SETTINGS)
    tensors = {name: value.numpy() for name, value in head.state_dict().items()}
    return network_of(Member(card, tensors), SETTINGS, "shipped")


def test_on_a_cpu_a_step_is_prepared_when_it_is_taken() -> None:
    taken = []

    def steps() -> Iterator[list[MicroBatch]]:
        for number in range(3):
            taken.append(number)
            yield [MicroBatch((), torch.tensor([number]))]

    found = prefetch(steps(), CPU)
    for number in range(3):
        (micro_batch,) = next(found)
        assert int(micro_batch.labels_N) == number and taken == list(range(number + 1))
    assert next(found, None) is None


@pytest.mark.gpu
@needs_gpu
def test_steps_prepared_ahead_are_the_same(given: PixelBatches) -> None:
    for begin in (0, 3):
        for one, other in zip(given.epoch(2, begin), given.micro_batches(2, begin), strict=True):
            assert len(one) == len(other) == 2  # of four images
            for a, b in zip(one, other, strict=True):
                assert torch.equal(a.labels_N, b.labels_N)
                assert all(torch.equal(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))
                assert a.inputs[0].is_cuda


WHERE = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]


@pytest.mark.parametrize("where", WHERE)
def test_a_checkpoint_is_restored_bit_for_bit_on_the_network_s_device(
    given: PixelBatches, where: str
) -> None:
    device = torch.device(where)
    kept: dict[str, torch.Tensor] = {}

    def train(begin: TrainingState | None) -> dict[str, torch.Tensor]:
        net = network().to(device)
        optimizer = optimizer_of(net, SETTINGS)
        if begin:
            restore(net, optimizer, kept)
            back = checkpoint_tensors(net, optimizer)
            assert back.keys() == kept.keys()
            assert all(torch.equal(back[name], value) for name, value in kept.items())
            steps = [state["step"] for state in optimizer.state.values()]
            assert {step.device.type for step in steps} == {where}  # fused Adam wants it there

        def after(state: TrainingState) -> None:
            if (state.epoch, state.step) == (2, 2) and not kept:
                kept.update({k: v.clone() for k, v in checkpoint_tensors(net, optimizer).items()})

        batches = replace(given, device=device)
        fit(net, batches, finetuning_schedule(SETTINGS, 0.0), optimizer, device, None, begin, after)
        return checkpoint_tensors(net, optimizer)

    uninterrupted, again = train(None), train(TrainingState(2, 2, (0.0,)))
    for name, value in uninterrupted.items():
        if name.startswith("step."):
            assert again[name] == value == 2 * given.steps


@pytest.mark.gpu
@needs_gpu
def test_images_on_a_gpu_are_those_on_a_cpu(given: PixelBatches) -> None:
    # to within a level, and bf16 rounding where the processor has it
    there = next(given.micro_batches(1, 0))[0].inputs[0].cpu()
    here = next(replace(given, device=CPU).micro_batches(1, 0))[0].inputs[0].float()
    level = 1 / (255 * min(backbone.STD))
    assert (there - here).abs().max() <= 1.01 * level + 0.01 * here.abs().max()

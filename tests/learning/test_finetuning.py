"""Fine-tuning: random draws depend on seed, epoch and step, however the work is shared.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sign_ensemble.core.config import FinetuneConfig, MemberConfig
from sign_ensemble.core.device import CPU, bf16_is_fast
from sign_ensemble.core.errors import UserError
from sign_ensemble.data import augmentation, backbone
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
from sign_ensemble.learning.task import PixelTask, seed_of
from sign_ensemble.learning.training_loop import Schedule, TrainingState, backward, fit

SIDE, N = 64, 10
SETTINGS = FinetuneConfig(layers="last", epochs=2, batch_size=4, learning_rate=1e-2)
WIDTHS = (6, 5)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def task(tmp_path: Path) -> PixelTask:
    """Ten random images of two labels, the file's rows in another order."""
    images = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
    row_N = np.random.default_rng(1).permutation(N)
    on_disk = np.empty_like(images)
    on_disk[row_N] = images
    on_disk.tofile(tmp_path / "pixels.u8")
    return PixelTask(
        CachedArray(str(tmp_path / "pixels.u8"), row_N, (SIDE, SIDE, 3), "uint8"),
        tuple(f"sha-{i}" for i in range(N)),
        np.arange(N) % 2,
        np.zeros(N, np.int64),
        mirror=False,
        weights="shipped",
    )


def batches(task: PixelTask, rank: int = 0, workers: int = 1, **changed: Any) -> PixelBatches:
    given: dict[str, Any] = {
        "settings": SETTINGS,
        "micro_batch_size": 64,
        "rows_N": np.arange(N),
        "seed": 7,
    }
    given |= {"widths": WIDTHS, "dropout": 0.5, **changed}
    return PixelBatches(task=task, rank=rank, workers=workers, device=CPU, **given)


def member() -> Member:
    torch.manual_seed(0)
    head = Head(backbone.HEAD_FEATURES, WIDTHS, 2, 0.5)
    card = Card(
        ("a", "b"), MemberConfig(widths=WIDTHS), 7, 0, -1, 1, 0.0,
        {"size": SIDE, "fit": "pad", "weights": "shipped"}, "m", SETTINGS,
    )  # fmt: skip
    return Member(card, {name: value.numpy() for name, value in head.state_dict().items()})


def network() -> Network:
    return network_of(member(), SETTINGS, "shipped")


def weights(net: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.learned().items()}


def normal(images_NHW3: np.ndarray) -> torch.Tensor:
    """The network's input: rounded where it would be."""
    exact = backbone.normalised(torch.from_numpy(np.array(images_NHW3)).permute(0, 3, 1, 2))
    return exact.to(torch.bfloat16 if bf16_is_fast(CPU) else torch.float32)


# --- batches --------------------------------------------------------------------------------------


def test_an_epoch_has_each_image_once_normalised(task: PixelTask) -> None:
    plain = batches(task, settings=replace(SETTINGS, augment_prob=0.0), widths=())
    assert plain.steps == 3
    steps = list(plain.epoch(1, 0))
    assert [len(micro_batch.labels_N) for (micro_batch,) in steps] == [4, 4, 2]
    shown = torch.cat([micro_batch.inputs[0] for (micro_batch,) in steps])
    images = task.pixels.open()[task.pixels.row_N]
    every = normal(images)
    labels = torch.cat([micro_batch.labels_N for (micro_batch,) in steps])
    places = [next(i for i in range(N) if torch.equal(every[i], one)) for one in shown]
    assert sorted(places) == list(range(N))
    assert [int(task.labels_N[place]) for place in places] == labels.tolist()


def test_augmentations_differ_in_every_epoch(task: PixelTask) -> None:
    one, two, again = (
        torch.cat([micro_batch.inputs[0] for (micro_batch,) in batches(task).epoch(number, 0)])
        for number in (1, 2, 1)
    )
    assert torch.equal(one, again)
    images = task.pixels.open()[task.pixels.row_N]
    every = normal(images)
    assert not any(torch.equal(a, b) for a in one for b in [*every, *two])


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_augmentations_are_those_of_the_cache(task: PixelTask, threads: int) -> None:
    seen = batches(task)
    images = np.array(task.pixels.open()[task.pixels.row_N])
    expected = normal(augmentation.augment(images, task.keys, 1 + seed_of(seen.seed, 2), False))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shown = seen.images(task.pixels.open(), np.arange(N), np.ones(N, bool), 2)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(shown, expected)


def test_some_images_are_not_augmented(task: PixelTask) -> None:
    half = batches(task, settings=replace(SETTINGS, augment_prob=0.5))
    every = normal(task.pixels.open()[task.pixels.row_N])
    plain = sum(
        any(torch.equal(one, image) for image in every)
        for number in range(1, 11)
        for (micro_batch,) in half.epoch(number, 0)
        for one in micro_batch.inputs[0]
    )
    assert 30 <= plain <= 70  # of 100


@pytest.mark.parametrize("begin", [0, 1, 2, 3])
def test_an_epoch_is_resumed_at_any_step(task: PixelTask, begin: int) -> None:
    expected = list(batches(task).epoch(2, 0))[begin:]
    rest = list(batches(task).epoch(2, begin))
    assert len(rest) == len(expected)
    for (a,), (b,) in zip(expected, rest, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))
        assert torch.equal(a.labels_N, b.labels_N)


@pytest.mark.parametrize(
    ("workers", "micro_batch_size"), [(1, 64), (1, 3), (2, 64), (3, 1), (5, 64)]
)
def test_workers_and_micro_batches_share_a_step(
    task: PixelTask, workers: int, micro_batch_size: int
) -> None:
    """Rows, masks and labels of all workers together are those of one; weights sum to 1."""
    one = [micro_batch for (micro_batch,) in batches(task).epoch(1, 0)]
    shared = [
        list(batches(task, rank, workers, micro_batch_size=micro_batch_size).epoch(1, 0))
        for rank in range(workers)
    ]
    for step, expected in enumerate(one):
        micro_batches = [
            micro_batch for rank in range(workers) for micro_batch in shared[rank][step]
        ]
        counted = [micro_batch for micro_batch in micro_batches if micro_batch.weight]
        assert sum(micro_batch.weight for micro_batch in micro_batches) == pytest.approx(1)
        assert all(len(micro_batch.labels_N) <= micro_batch_size for micro_batch in micro_batches)
        parts = [torch.cat(each) for each in zip(*(p.inputs for p in counted), strict=True)]
        order = [
            next(i for i, a in enumerate(expected.inputs[0]) if torch.equal(a, b)) for b in parts[0]
        ]
        assert sorted(order) == list(range(len(expected.labels_N)))
        for part, in_order in zip(parts, expected.inputs, strict=True):
            assert torch.equal(part, in_order[order])
        assert (
            torch.cat([p.labels_N for p in counted]).tolist() == expected.labels_N[order].tolist()
        )
        assert all(shared[rank][step] for rank in range(workers))  # all take part in every step


def test_masks_drop_the_given_share(task: PixelTask) -> None:
    wide = batches(task, widths=(20_000,), dropout=0.3)
    (mask,) = wide.masks(2, 1, 0)
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float((mask == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(mask, wide.masks(2, 1, 1)[0])
    assert not torch.equal(mask, wide.masks(2, 2, 0)[0])


# --- the schedule ---------------------------------------------------------------------------------


def test_the_rate_factor_by_hand() -> None:
    schedule = Schedule(epochs=1, warmup=0.4, cosine=True)
    assert [schedule.rate_factor(step, 10) for step in range(5)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0]
    )
    assert schedule.rate_factor(7, 10) == pytest.approx(0.5)
    assert schedule.rate_factor(9, 10) == pytest.approx(0.0669873)
    assert [Schedule(epochs=1).rate_factor(step, 10) for step in range(10)] == [1.0] * 10
    assert Schedule(epochs=1, warmup=1.0, cosine=True).rate_factor(9, 10) == 1.0


def test_a_long_gradient_is_clipped(task: PixelTask) -> None:
    net = network()
    (micro_batches, *_) = list(batches(task).epoch(1, 0))
    backward(net, micro_batches, 0.0, CPU)
    length = torch.nn.utils.clip_grad_norm_(net.parameters(), inf)
    seen: list[float] = []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(
        lambda *_: seen.append(float(torch.nn.utils.clip_grad_norm_(net.parameters(), inf)))
    )
    fit(net, batches(task), Schedule(1, clip=float(length) / 10), optimizer, CPU)
    assert max(seen) <= float(length) / 10 * 1.001


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "trained"), [("last", {10}), ("conv3+", {6, 8, 10}), ("all", {0, 3, 6, 8, 10})]
)
def test_only_the_given_layers_are_trained(task: PixelTask, layers: Any, trained: set[int]) -> None:
    settings = replace(SETTINGS, layers=layers)
    net = network_of(member(), settings, "shipped")
    before = {name: value.clone() for name, value in net.convolutions.state_dict().items()}
    given = batches(task, settings=settings)
    fit(net, given, finetuning_schedule(settings, 0.0), optimizer_of(net, settings), CPU)
    changed = {
        int(name.split(".")[1])
        for name, value in net.convolutions.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == trained
    card = replace(member().card, finetune=settings)
    assert {n for n in net.learned() if n.startswith("features")} == set(card.learned)


def test_the_initial_network_is_its_head_on_frozen_features(task: PixelTask) -> None:
    images = np.array(task.pixels.open()[:3])
    features = backbone.load("shipped").of_images(images).head_ND
    net = network().eval()
    with torch.inference_mode():
        of_network = net(normal(images).float())
        of_head = net.head(torch.from_numpy(features).float())
    assert torch.allclose(of_network, of_head, atol=0.05)  # features are bf16 or fp16


def test_head_and_convolutions_have_separate_learning_rates() -> None:
    rates = {
        parameter.data_ptr(): group["lr"]
        for net in [network()]
        for group in optimizer_of(net, SETTINGS).param_groups
        for parameter in group["params"]
    }
    assert sorted(set(rates.values())) == [SETTINGS.backbone_rate, SETTINGS.learning_rate]


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_resuming_at_a_checkpoint_gives_the_same_bits(task: PixelTask, stop: int) -> None:
    """Six steps in all: a checkpoint after the first, at the end of an epoch, after the fourth."""
    schedule = finetuning_schedule(SETTINGS, 0.01)
    uninterrupted = network()
    fit(uninterrupted, batches(task), schedule, optimizer_of(uninterrupted, SETTINGS), CPU)

    first = network()
    optimizer = optimizer_of(first, SETTINGS)
    kept: list[tuple[TrainingState, dict[str, torch.Tensor]]] = []

    def after_step(state: TrainingState) -> None:
        tensors = checkpoint_tensors(first, optimizer)
        kept.append((state, {name: value.clone() for name, value in tensors.items()}))

    fit(first, batches(task), schedule, optimizer, CPU, None, None, after_step)
    state, tensors = kept[stop - 1]
    assert (state.epoch - 1) * 3 + state.step == stop
    second = network()
    optimizer = optimizer_of(second, SETTINGS)
    restore(second, optimizer, tensors)
    fit(second, batches(task), schedule, optimizer, CPU, None, state)
    for name, value in weights(uninterrupted).items():
        assert torch.equal(value, weights(second)[name]), name


def test_a_checkpoint_of_another_network_is_refused() -> None:
    net = network()
    other = network_of(member(), replace(SETTINGS, layers="conv3+"), "shipped")
    with pytest.raises(UserError, match=r"another network.*delete the run's folder train"):
        restore(
            net,
            optimizer_of(net, SETTINGS),
            checkpoint_tensors(other, optimizer_of(other, SETTINGS)),
        )

"""How fast is fine-tuning, against its limit and against a tutorial's loop?

* **this loop**: PixelBatches (memory-mapped uint8 images, augmented anew in every epoch) and `fit`,
  two threads; and the same shared by two workers of one thread each, over gloo.
* **limit**: the same network, optimizer and clipping on one batch that is already normalised.
* **tutorial**: a folder of JPEG files, a DataLoader with two workers, float32, Adam on all layers;
  no augmentation. (ImageFolder's work by Pillow: opened, made 224 x 224, normalised.)

The images are random shapes of 640 x 480 pixels: what they show does not change the speed. Every
turn measures all of them, this loop and its limit step by step in turns; ratios are taken within a
turn, that of this loop over its limit as the median of its pairs of steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.pictures import SIDE, torch_image, write_jpeg
from shared.results import Results, markdown, parser_of, publish
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from sign_ensemble.core.config import DataConfig, FinetuneConfig, MemberConfig
from sign_ensemble.data import backbone
from sign_ensemble.data.convolutions import Convolutions
from sign_ensemble.data.images import read_image
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.finetuning import (
    PixelBatches,
    finetuning_schedule,
    network_of,
    optimizer_of,
)
from sign_ensemble.learning.member import Card, Member
from sign_ensemble.learning.network import Head, Network
from sign_ensemble.learning.task import PixelTask
from sign_ensemble.learning.training_loop import MicroBatch, fit

CPU = torch.device("cpu")
IMAGES, LABELS, BATCH = 512, 27, 64
RECIPE = MemberConfig()


def make_images(folder: Path) -> None:
    """JPEG files of 640 x 480 in a folder per label, and the same decoded in pixels.u8."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(IMAGES):
        path = folder / "images" / str(i % LABELS) / f"{i}.jpg"
        write_jpeg(path, rng, (640, 480))
        images.append(read_image(path, DataConfig(size=SIDE)))
    np.stack(images).tofile(folder / "pixels.u8")


def task_in(folder: Path) -> PixelTask:
    """The images as the main job hands them to a worker."""
    return PixelTask(
        CachedArray(str(folder / "pixels.u8"), np.arange(IMAGES), (SIDE, SIDE, 3), "uint8"),
        tuple(str(i) for i in range(IMAGES)),
        np.arange(IMAGES) % LABELS,
        np.zeros(IMAGES, np.int64),
        mirror=False,
        weights="shipped",
    )


def network(settings: FinetuneConfig) -> Network:
    """A network that begins with a random head."""
    torch.manual_seed(0)
    head = Head(backbone.HEAD_FEATURES, RECIPE.widths, LABELS, RECIPE.dropout)
    card = Card(tuple(map(str, range(LABELS))), RECIPE, 0, 0, -1, 1, 0.0, {}, "")
    tensors = {name: value.numpy() for name, value in head.state_dict().items()}
    return network_of(Member(card, tensors), settings, "shipped")


class ByTurns:
    """Steps of this loop and of its limit in turns, so that both meet the same moments of a machine
    that others use too; the seconds of each, with the making of its images.
    """

    def __init__(self, batches: PixelBatches) -> None:
        self.batches = batches
        (self.resident, *_) = batches.epoch(1, 0)
        self.seconds: dict[str, list[float]] = {"this loop": [], "limit": []}

    @property
    def steps(self) -> int:
        """Of both."""
        return 2 * self.batches.steps

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """This loop's next batch, and the resident one; who is first changes."""
        own = self.batches.epoch(number, begin)
        for pair in range(self.batches.steps):
            for name in sorted(self.seconds, reverse=pair % 2 == 0):
                began = time.perf_counter()
                yield self.resident if name == "limit" else next(own)
                self.seconds[name].append(time.perf_counter() - began)

    @property
    def over_limit(self) -> float:
        """Median over the pairs of steps: one that somebody else held up says nothing."""
        return float(np.median(np.divide(self.seconds["limit"], self.seconds["this loop"])))


@dataclass
class Gated:
    """A pass that waits for the others before it begins and after it ends."""

    batches: PixelBatches
    gate: Any

    @property
    def steps(self) -> int:
        """Of one pass."""
        return self.batches.steps

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """The pass's batches."""
        self.gate.wait()
        yield from self.batches.epoch(number, begin)
        self.gate.wait()


def batches(task: PixelTask, settings: FinetuneConfig, rank: int, workers: int) -> PixelBatches:
    """This loop's batches."""
    return PixelBatches(
        task, np.arange(IMAGES), settings, BATCH, RECIPE.widths, RECIPE.dropout, 0, rank, workers,
        CPU,
    )  # fmt: skip


def shared(
    rank: int, workers: int, folder: str, settings: FinetuneConfig, turns: int, gate: Any
) -> None:
    """This loop as one of several workers of one thread, an epoch whenever the gate opens."""
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    distributed.init_process_group("gloo", meet, rank=rank, world_size=workers)
    own = network(settings)
    net = DistributedDataParallel(own, gradient_as_bucket_view=True)  # as the worker has it
    given = Gated(batches(task_in(Path(folder)), settings, rank, workers), gate)
    schedule = finetuning_schedule(replace(settings, epochs=turns), 0.0)
    fit(net, given, schedule, optimizer_of(own, settings), CPU)
    distributed.destroy_process_group()


def turns_of(
    task: PixelTask, folder: Path, settings: FinetuneConfig, turns: int
) -> Iterator[tuple[dict[str, float], float]]:
    """Images per second of this loop, its limit and two workers, and the first over the second,
    turn by turn; the first turn, which warms up, is not among them.
    """
    (folder / "meet").unlink(missing_ok=True)
    context = torch.multiprocessing.get_context("spawn")
    gate = context.Barrier(3, timeout=600)  # a worker that is lost ends the others
    workers = [
        context.Process(target=shared, args=(rank, 2, str(folder), settings, turns + 1, gate))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    net = network(settings)
    optimizer, schedule = (
        optimizer_of(net, settings),
        finetuning_schedule(replace(settings, epochs=1), 0.0),
    )
    for turn in range(turns + 1):
        given = ByTurns(batches(task, settings, 0, 1))
        fit(net, given, schedule, optimizer, CPU)
        gate.wait()
        began = time.perf_counter()
        gate.wait()
        both = time.perf_counter() - began
        if turn:
            found = {name: IMAGES / sum(seconds) for name, seconds in given.seconds.items()}
            yield {**found, "two workers": IMAGES / both}, given.over_limit
    for worker in workers:
        worker.join()


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """What ImageFolder with Resize, ToTensor and Normalize gives."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted(root.rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch_image(self.paths[i]), int(self.paths[i].parent.name)


def tutorial(folder: Path) -> Iterator[float]:
    """The plain loop, all layers: images per second of each pass after the first."""
    torch.manual_seed(0)
    net = nn.Sequential(
        Convolutions(), Head(backbone.HEAD_FEATURES, RECIPE.widths, LABELS, RECIPE.dropout)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    loader = DataLoader(
        Folder(folder / "images"), BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    for number in count():
        began = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.nll_loss(net(images), labels).backward()
            optimizer.step()
        if number:
            yield IMAGES / (time.perf_counter() - began)


def measure(arguments: argparse.Namespace) -> Results:
    """Images per second and ratios, a figure per turn."""
    found: dict[str, list[float]] = {}
    over: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder)
        task = task_in(folder)
        plain = tutorial(folder)
        for layers in ("all", "conv3+"):
            settings = FinetuneConfig(layers=layers)
            for speeds, over_limit in turns_of(task, folder, settings, arguments.turns):
                if layers == "all":
                    speeds["tutorial"] = next(plain)
                for name, value in speeds.items():
                    found.setdefault(f"{layers}, {name}", []).append(value)
                over.setdefault(f"{layers}, this loop over limit", []).append(over_limit)
                rates = {name: round(value, 1) for name, value in speeds.items()}
                print(f"{layers} {rates}, over limit {over_limit:.3f}", flush=True)
    return {
        "images_per_second": found,
        "ratios": {**over, **ratios(found)},
        "turns": arguments.turns,
        "images": IMAGES,
        "batch": BATCH,
    }


def ratios(found: dict[str, list[float]]) -> dict[str, list[float]]:
    """Ratios within each turn."""
    pairs = {
        f"{layers}, two workers over one": (f"{layers}, two workers", f"{layers}, this loop")
        for layers in ("all", "conv3+")
    }
    pairs["all, this loop over tutorial"] = ("all, this loop", "all, tutorial")
    return {
        name: [a / b for a, b in zip(found[one], found[other], strict=True)]
        for name, (one, other) in pairs.items()
    }


def table(results: Results) -> str:
    """Rates, then ratios."""

    def rows(part: dict[str, list[float]], digits: int) -> list[list[str]]:
        cells = []
        for name, values in part.items():
            middle, low, high = np.quantile(values, (0.5, 0.25, 0.75))
            cells.append([name, f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"])
        return cells

    return (
        markdown(["images per second", "median (quartiles)"], rows(results["images_per_second"], 1))
        + "\n"
        + markdown(["ratio within a turn", "median (quartiles)"], rows(results["ratios"], 2))
        + f"\nn = {results['turns']} turns; {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--turns", type=int, default=12)
    publish("finetune", parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()

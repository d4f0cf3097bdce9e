"""Images per second of fine-tuning: this loop, its limit, and a tutorial's loop.

    python benchmarks/finetune.py [--rounds 5]

* **this loop**: PixelBatches (memory-mapped uint8 images, a fresh view of each) and `fit`, two
  threads; and the same shared by two workers of one thread each, over gloo.
* **limit**: the same network, optimiser and clipping on one batch that is already normalised.
* **tutorial**: a folder of JPEG files, a DataLoader with two workers, float32, Adam on all layers;
  no augmentation. (ImageFolder's work by Pillow: opened, made 224 x 224, normalised.)

The images are random shapes of 640 x 480 pixels: what they show does not change the speed. Every
round measures all of them in turn; ratios are taken within a round. Writes results/finetune.json
and results/finetune.md from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from PIL import Image
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from sign_ensemble.config import FinetuneConfig, MemberConfig
from sign_ensemble.data import backbone
from sign_ensemble.data.images import load_square
from sign_ensemble.data.slots import Slots
from sign_ensemble.learning.finetune import (
    PixelBatches,
    PixelTask,
    course_of,
    network_of,
    optimiser_of,
)
from sign_ensemble.learning.fit import fit
from sign_ensemble.learning.member import Card, Member
from sign_ensemble.learning.network import Head, Network

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
IMAGES, SIDE, LABELS, BATCH = 512, 224, 27, 64
RECIPE = MemberConfig()


def make_images(folder: Path) -> None:
    """JPEG files of 640 x 480 in a folder per label, and the same decoded in pixels.u8."""
    rng = np.random.default_rng(0)
    squares = []
    for i in range(IMAGES):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        path = folder / "images" / str(i % LABELS) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
        squares.append(load_square(path, size=SIDE, fit="pad", max_pixels=10**9, min_side=16))
    np.stack(squares).tofile(folder / "pixels.u8")


def task_in(folder: Path) -> PixelTask:
    """The images as the main job hands them to a worker."""
    return PixelTask(
        Slots(str(folder / "pixels.u8"), np.arange(IMAGES), (SIDE, SIDE, 3), "uint8"),
        tuple(str(i) for i in range(IMAGES)),
        np.arange(IMAGES) % LABELS,
        np.zeros(IMAGES, np.int64),
        mirror=False,
        weights="shipped",
    )


def network(settings: FinetuneConfig) -> Network:
    """A network that begins with a random head."""
    torch.manual_seed(0)
    head = Head(backbone.E, RECIPE.widths, LABELS, RECIPE.dropout)
    card = Card(tuple(map(str, range(LABELS))), RECIPE, 0, 0, -1, 1, 0.0, {}, "")
    tensors = {name: value.numpy() for name, value in head.state_dict().items()}
    return network_of(Member(card, tensors), settings, "shipped")


class Resident:
    """One batch again and again: what the network alone can do."""

    steps = IMAGES // BATCH

    def __init__(self, of: PixelBatches) -> None:
        (self.pieces, *_) = of.epoch(1, 0)

    def epoch(self, number: int, begin: int) -> Any:
        """The same batch in every step."""
        for _ in range(begin, self.steps):
            yield self.pieces


def batches(task: PixelTask, settings: FinetuneConfig, rank: int, workers: int) -> PixelBatches:
    """This loop's batches."""
    return PixelBatches(
        task, np.arange(IMAGES), settings, BATCH, RECIPE.widths, RECIPE.dropout, 0, rank, workers,
        CPU,
    )  # fmt: skip


def speed(net: nn.Module, given: Any, own: Network, settings: FinetuneConfig) -> float:
    """Images per second of a pass, after one to warm up."""
    course = course_of(replace(settings, epochs=1), 0.0)
    optimiser = optimiser_of(own, settings)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        fit(net, given, course, optimiser, CPU)
        seconds.append(time.perf_counter() - began)
    return IMAGES / seconds[-1]


def one_worker(task: PixelTask, settings: FinetuneConfig, resident: bool) -> float:
    """This loop or its limit with all threads."""
    net = network(settings)
    given = batches(task, settings, 0, 1)
    return speed(net, Resident(given) if resident else given, net, settings)


def shared(rank: int, workers: int, folder: str, settings: FinetuneConfig) -> None:
    """This loop as one of several workers of one thread; the first writes what was measured."""
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    distributed.init_process_group("gloo", meet, rank=rank, world_size=workers)
    own = network(settings)
    net = DistributedDataParallel(own, gradient_as_bucket_view=True)  # as the worker has it
    found = speed(net, batches(task_in(Path(folder)), settings, rank, workers), own, settings)
    if rank == 0:
        (Path(folder) / "shared.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def two_workers(folder: Path, settings: FinetuneConfig) -> float:
    """Images per second of two workers together."""
    (folder / "meet").unlink(missing_ok=True)
    spawn: Any = torch.multiprocessing.spawn  # type: ignore[attr-defined]  # no stubs
    spawn(shared, (2, str(folder), settings), 2)
    return float(json.loads((folder / "shared.json").read_text()))


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """What ImageFolder with Resize, ToTensor and Normalize gives."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted(root.rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[i]) as opened:
            image = np.array(opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        mean = torch.tensor(backbone.MEAN).view(3, 1, 1)
        std = torch.tensor(backbone.STD).view(3, 1, 1)
        return (pixels - mean) / std, int(self.paths[i].parent.name)


def tutorial(folder: Path) -> float:
    """The plain loop, all layers: images per second of a pass, after one to warm up."""
    torch.manual_seed(0)
    net = nn.Sequential(
        backbone.Convolutions(), Head(backbone.E, RECIPE.widths, LABELS, RECIPE.dropout)
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4)
    loader = DataLoader(
        Folder(folder / "images"), BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        for images, labels in loader:
            optimiser.zero_grad()
            nn.functional.nll_loss(net(images), labels).backward()
            optimiser.step()
        seconds = time.perf_counter() - began
    return IMAGES / seconds


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Images per second, a figure per round."""
    make_images(folder)
    task = task_in(folder)
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for layers in ("all", "conv3+"):
            settings = FinetuneConfig(layers=layers)
            for name, measured in (
                ("this loop", lambda s=settings: one_worker(task, s, False)),
                ("limit", lambda s=settings: one_worker(task, s, True)),
                ("two workers", lambda s=settings: two_workers(folder, s)),
            ):
                found.setdefault(f"{layers}, {name}", []).append(measured())
        found.setdefault("tutorial", []).append(tutorial(folder))
        print(number, {name: round(values[-1], 1) for name, values in found.items()}, flush=True)
    return found


def ratios(found: dict[str, list[float]]) -> dict[str, list[float]]:
    """Ratios within each round."""
    pairs = {
        f"{layers}, this loop over {other}": (f"{layers}, this loop", f"{layers}, {other}")
        for layers in ("all", "conv3+")
        for other in ("limit",)
    }
    pairs |= {
        f"{layers}, two workers over one": (f"{layers}, two workers", f"{layers}, this loop")
        for layers in ("all", "conv3+")
    }
    pairs["all, this loop over tutorial"] = ("all, this loop", "tutorial")
    return {
        name: [a / b for a, b in zip(found[one], found[other], strict=True)]
        for name, (one, other) in pairs.items()
    }


def table(tree: dict[str, Any]) -> str:
    """The tables of README."""

    def row(name: str, values: list[float], digits: int) -> str:
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        return f"| {name} | {np.mean(values):.{digits}f} ± {spread:.{digits}f} |"

    lines = ["| images per second | mean ± spread |", "| --- | --- |"]
    lines += [row(name, values, 1) for name, values in tree["images_per_second"].items()]
    lines += ["", "| ratio within a round | mean ± spread |", "| --- | --- |"]
    lines += [row(name, values, 2) for name, values in tree["ratios"].items()]
    lines += ["", f"n = {tree['rounds']} rounds; {tree['hardware']}; `{tree['command']}`"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        found = measure(rounds, Path(folder))
    tree = {
        "images_per_second": found,
        "ratios": ratios(found),
        "rounds": rounds,
        "images": IMAGES,
        "batch": BATCH,
        "hardware": hardware(),
        "command": " ".join(["python", *sys.argv]),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "finetune.json").write_text(json.dumps(tree, indent=1) + "\n")
    (RESULTS / "finetune.md").write_text(table(tree))
    print(table(tree))


if __name__ == "__main__":
    main()

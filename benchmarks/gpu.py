"""What does a GPU gain, and does it compute the same as the processor?

Where there is no CUDA device it says so and ends. Each part is measured ``--repeats`` times:

* **agreement**: features of the same images in float32 on the processor, and by the GPU as shipped
  (bf16); augmentations by both samplers; gradients summed over micro-batches against one batch.
* **convolutions**: frozen features of one resident batch again and again (64, as shipped, and 512),
  and of images in memory; and the first pass from JPEG files, with as many decoding threads as
  there are cores.
* **heads**: steps of a head on 512 principal components, on the GPU and on one core.
* **fine-tuning**: images per second of this loop and of its limit (one resident batch).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import finetune as tuning
import numpy as np
import torch
from features import first_pass, make_images
from numpy.typing import NDArray
from shared.results import Results, markdown, parser_of, publish

from sign_ensemble.core.config import FinetuneConfig, MemberConfig
from sign_ensemble.core.device import CPU
from sign_ensemble.data import augmentation, backbone
from sign_ensemble.data.convolutions import Convolutions
from sign_ensemble.learning.finetuning import PixelBatches, finetuning_schedule, optimizer_of
from sign_ensemble.learning.network import Head
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.training_loop import FeatureBatches, MicroBatch, fit, head_schedule

GPU = torch.device("cuda")
SIDE, COMPONENTS, LABELS = 224, 512, 27


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of several calls, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def blobs(count: int) -> NDArray[np.uint8]:
    """Images of smooth random shapes (N, H, W, 3)."""
    coarse = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, 9, 9), np.uint8))
    fine = torch.nn.functional.interpolate(coarse.float(), SIDE, mode="bicubic").clamp(0, 255)
    return fine.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def agreement(images: NDArray[np.uint8], folder: Path) -> dict[str, float]:
    """How far the GPU's results are from the processor's."""
    some = images[: backbone.BATCH]
    shipped = backbone.load()
    layers = Convolutions()
    layers.load_state_dict(shipped.layers.state_dict())
    plain = replace(shipped, layers=layers.eval().requires_grad_(False), device=CPU, half=False)
    exact, half = plain.of_images(some).head_ND, shipped.of_images(some).head_ND
    again = shipped.of_images(some).head_ND
    keys = [str(i) for i in range(len(some))]
    drawn = augmentation.augment(some, keys, 1, False)
    by_gpu = augmentation.augment(torch.from_numpy(some).to(GPU), keys, 1, False).cpu().numpy()
    off = np.abs(drawn.astype(int) - by_gpu.astype(int))
    return {
        "features, relative distance": relative(half, exact),
        "features, the same to the bit in a second pass": float((half == again).all()),
        "augmentation, mean difference in levels": float(off.mean()),
        "augmentation, share of pixels off by more than a level": float((off > 1).mean()),
        "weights after a pass in micro-batches of 16 instead of 64, relative distance": relative(
            *(learned(folder, micro_batch_size) for micro_batch_size in (16, 64))
        ),
    }


def relative(found: NDArray[Any], right: NDArray[Any]) -> float:
    """‖found − right‖ / ‖right‖."""
    found, right = found.astype(np.float64), right.astype(np.float64)
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def learned(folder: Path, micro_batch_size: int) -> NDArray[np.float32]:
    """What one pass changed of the weights, in one row."""
    settings = FinetuneConfig(layers="all", epochs=1)
    net = tuning.network(settings).to(GPU)
    before = torch.cat([value.flatten() for value in net.learned().values()]).clone()
    given = batches(folder, settings, micro_batch_size)
    fit(net, given, finetuning_schedule(settings, 0.0), optimizer_of(net, settings), GPU)
    after = torch.cat([value.flatten() for value in net.learned().values()])
    return (after - before).cpu().numpy()


class Resident:
    """One batch again and again: what the network alone can do."""

    steps = tuning.IMAGES // tuning.BATCH

    def __init__(self, of: PixelBatches) -> None:
        (self.micro_batches, *_) = of.epoch(1, 0)

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        """The same batch in every step."""
        for _ in range(begin, self.steps):
            yield self.micro_batches


def batches(folder: Path, settings: FinetuneConfig, micro_batch_size: int) -> PixelBatches:
    """This loop's batches for one worker with the GPU."""
    task, recipe = tuning.task_in(folder), tuning.RECIPE
    rows = np.arange(tuning.IMAGES)
    return PixelBatches(
        task, rows, settings, micro_batch_size, recipe.widths, recipe.dropout, 0, 0, 1, GPU
    )


def convolutions(images: NDArray[np.uint8], folder: Path, repeats: int) -> dict[str, list[float]]:
    """Pictures per second."""
    net = backbone.load()
    half = torch.autocast(net.device.type, dtype=torch.bfloat16, enabled=net.half)

    def resident(size: int) -> list[float]:
        batch = backbone.as_input(torch.from_numpy(images[:size]).to(GPU), net.half)
        batch = batch.contiguous(memory_format=torch.channels_last)
        passes = len(images) // size

        def work() -> None:
            with torch.inference_mode(), half:
                for _ in range(passes):
                    net.layers(batch)

        return [passes * size / s for s in timed(work, repeats)]

    rows = make_images(folder / "files", len(images) // 2, (640, 480))
    loaded = timed(lambda: net.of_images(images), repeats)
    return {
        "resident batch of 64": resident(64),
        "resident batch of 512": resident(512),
        "images in memory": [len(images) / s for s in loaded],
        "first pass of files, no augmentation": [
            first_pass(rows, folder / "files", 0) for _ in range(3)
        ],
        "first pass of files, 4 augmented copies": [
            first_pass(rows, folder / "files", 4) for _ in range(3)
        ],
    }


def heads(repeats: int) -> dict[str, list[float]]:
    """Milliseconds of a step of 32 and of 256 rows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2048, 5, COMPONENTS)).astype(np.float16)
    labels = np.arange(len(rows)) % LABELS
    found = {}
    for size in (32, 256):
        for device in (GPU, CPU):
            recipe = replace(MemberConfig(), batch_size=size, epochs=1)
            head = Head(COMPONENTS, recipe.widths, LABELS, recipe.dropout).to(device)
            given = FeatureBatches(rows, np.arange(len(rows)), labels, size, 1.0, rng)
            optimizer = adamw_for((head, 1e-4), weight_decay=0.01)
            threads = torch.get_num_threads()
            torch.set_num_threads(1)

            work = partial(fit, head, given, head_schedule(recipe), optimizer, device)
            seconds = timed(work, repeats)
            torch.set_num_threads(threads)
            where = "GPU" if device == GPU else "one core"
            found[f"{where}, {size} rows"] = [1000 * s / given.steps for s in seconds]
    return found


def finetuning(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Images per second of a pass."""
    found = {}
    for layers in ("all", "conv3+"):
        settings = FinetuneConfig(layers=layers, epochs=1)
        for name in ("this loop", "limit"):
            net = tuning.network(settings).to(GPU)
            given: Any = batches(folder, settings, 64)
            if name == "limit":
                given = Resident(given)
            optimizer, schedule = optimizer_of(net, settings), finetuning_schedule(settings, 0.0)
            work = partial(fit, net, given, schedule, optimizer, GPU)
            found[f"{layers}, {name}"] = [tuning.IMAGES / s for s in timed(work, repeats)]
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Every part in turn."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here: nothing to measure")
    images = blobs(arguments.images)
    results: Results = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        tuning.make_images(folder)
        for part, work in (
            ("agreement", lambda: agreement(images, folder)),
            ("convolutions", lambda: convolutions(images, folder, arguments.repeats)),
            ("heads", lambda: heads(arguments.repeats)),
            ("finetuning", lambda: finetuning(folder, arguments.repeats)),
        ):
            began = time.monotonic()
            results[part] = work()
            print(f"{part}, {time.monotonic() - began:.0f} s: {results[part]}", flush=True)
    return {**results, "repeats": arguments.repeats}


def table(results: Results) -> str:
    """A table per part."""
    text = ""
    for part, heading, digits in (
        ("convolutions", "frozen convolutions, pictures per second", 0),
        ("heads", "a head's step, ms", 2),
        ("finetuning", "fine-tuning, images per second", 0),
    ):
        rows = []
        for name, values in results[part].items():
            low, mid, high = (f"{f(values):,.{digits}f}" for f in (min, np.median, max))
            rows.append([name, f"{mid} ({low}–{high})"])
        text += markdown([heading, "median (lowest–highest)"], rows) + "\n"
    rows = [[name, f"{value:.2g}"] for name, value in results["agreement"].items()]
    return text + (
        markdown(["GPU against processor", ""], rows)
        + f"\nn = {results['repeats']}; {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    publish("gpu", parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()

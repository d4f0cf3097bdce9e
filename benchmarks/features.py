"""Frozen features: the first pass against the convolutions alone, and the second run's reading.

    python benchmarks/features.py [--images 1024 --rounds 5]

* **first pass**: ``features_of_rows`` with an empty cache: JPEG files of random shapes read,
  decoded, made square, their views drawn, convolved, written and indexed.
* **limit**: the same convolutions with the same precision on one normalised batch of 64 in memory,
  channels last, as often as it takes for as many pictures: by torch as it comes, all of whose
  threads make each pass together, and with a pass on each thread, as the package makes them.
* **second run**: a cache of --cache-gb, written by the package itself with drawn rows, opened and
  every row read; from the page cache, and after the kernel was asked to forget the file.

Every round measures all of them in turn, each limit before the first pass and after it (their mean
counts: a busy host's speed drifts within seconds); ratios are taken within a round. A picture is an
image or a view of one. Writes results/features.json and results/features.md, or features_bf16
where the processor multiplies bf16 and --float32 is not given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import torch
from hardware import hardware
from numpy.typing import NDArray
from PIL import Image
from tables import spread

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.config import DataConfig
from sign_ensemble.data import backbone
from sign_ensemble.data.feature_cache import features_of_rows
from sign_ensemble.data.row_cache import CachedArray, RowSchema, cached_rows

RESULTS = Path(__file__).parent / "results"
SIDE = 224
PASS, LIMIT, EACH = "first pass", "limit", "limit, a pass on each thread"
KIND = RowSchema("features.f16", (1, backbone.ALL_FEATURES), "float16", {})


def make_images(folder: Path, count: int, size: tuple[int, int]) -> pa.Table:
    """JPEG files of random shapes, as manifest rows."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        path = folder / f"{i}.jpg"
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        rows.append({"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    return pa.Table.from_pylist(rows)


def first_pass(rows: pa.Table, root: Path, augmentations: int) -> float:
    """Pictures per second of the stage, into a new cache."""
    with TemporaryDirectory(dir=root.parent) as cache:
        began = time.perf_counter()
        features_of_rows(rows, root, DataConfig(augmentations=augmentations), Path(cache))
        return len(rows) * (1 + augmentations) / (time.perf_counter() - began)


def limit(pictures: int, threads: int = 1) -> float:
    """Pictures per second of the convolutions alone.

    Args:
        pictures: How many, rounded up to whole passes.
        threads: How many make passes of their own at the same time; torch's are shared out among
            them.
    """
    net = backbone.load()
    levels = np.random.default_rng(0).integers(0, 256, (backbone.BATCH, 3, SIDE, SIDE), np.uint8)
    batch = backbone.normalised(torch.from_numpy(levels).to(net.device))
    batch = batch.contiguous(memory_format=torch.channels_last)
    batch = batch.bfloat16() if net.half else batch
    passes, before = -(-pictures // backbone.BATCH), torch.get_num_threads()

    def some(count: int) -> float:
        half = torch.autocast(net.device.type, dtype=torch.bfloat16, enabled=net.half)
        with torch.inference_mode(), half:
            for _ in range(count):
                found = net.layers.avgpool(net.layers.features(batch)).flatten(1)
            return float(found[0, 0])  # on a GPU this waits for all of them

    shares = [passes // threads + (i < passes % threads) for i in range(threads)]
    share = max(1, before // threads)
    with ThreadPoolExecutor(threads, "", torch.set_num_threads, (share,)) as pool:
        list(pool.map(some, [1] * threads))  # to warm up
        began = time.perf_counter()
        list(pool.map(some, shares))
        taken = time.perf_counter() - began
    torch.set_num_threads(before)
    return passes * backbone.BATCH / taken


def write_cache(folder: Path, gigabytes: float) -> Sequence[str]:
    """A cache of drawn rows; their keys."""
    keys = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(rows_in(gigabytes))]
    drawn = np.random.default_rng(0).normal(size=(64, KIND.bytes // 2)).astype(np.float16)

    def make(pairs: Sequence[tuple[str, int]]) -> Iterator[NDArray[np.float16]]:
        return (drawn[slot % len(drawn)] for _, slot in pairs)

    cached_rows(folder, KIND, keys, make)
    return keys


def rows_in(gigabytes: float) -> int:
    """Rows of a cache without views."""
    return int(gigabytes * 1e9) // KIND.bytes


def second_run(folder: Path, keys: Sequence[str], forgotten: bool) -> float:
    """Seconds per GB to open the cache and read every row of it."""
    if forgotten:
        with (folder / KIND.file).open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def make(pairs: Sequence[tuple[str, int]]) -> NoReturn:
        raise AssertionError(f"{len(pairs)} rows of the cache are missing")

    began = time.perf_counter()
    found = cached_rows(folder, KIND, keys, make)
    read = read_all(found)
    return (time.perf_counter() - began) / (read / 1e9)


def read_all(found: CachedArray) -> int:
    """Bytes copied out of the file, a few hundred rows at a time."""
    rows, read = found.open(), 0
    for start in range(0, len(found.row_N), 512):
        read += rows[found.row_N[start : start + 512]].nbytes
    return read


def measure(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A figure per round of everything."""
    cases = [
        (size, augmentations) for size in chosen.sizes for augmentations in chosen.augmentations
    ]
    files = {size: make_images(folder / size, chosen.images, pixels(size)) for size in chosen.sizes}
    keys = write_cache(folder / "cache", chosen.cache_gb)
    limit(backbone.BATCH)  # to warm up
    passes: dict[str, dict[str, list[float]]] = {}
    cores = torch.get_num_threads()
    reads: dict[str, list[float]] = {"from the page cache": [], "from the disk": []}
    for number in range(chosen.rounds):
        for size, augmentations in cases:
            found = passes.setdefault(
                f"{size}, {augmentations} views", {PASS: [], LIMIT: [], EACH: []}
            )
            count = chosen.images * (1 + augmentations)
            alone = [(limit(count // 2), limit(count // 2, cores))]
            found[PASS].append(first_pass(files[size], folder / size, augmentations))
            alone += [(limit(count // 2), limit(count // 2, cores))]
            for name, rates in zip((LIMIT, EACH), zip(*alone, strict=True), strict=True):
                found[name].append(2 / sum(1 / rate for rate in rates))
        reads["from the disk"].append(second_run(folder / "cache", keys, True))
        reads["from the page cache"].append(second_run(folder / "cache", keys, False))
        print(number, {case: [f"{v[-1]:.1f}" for v in p.values()] for case, p in passes.items()})
    return {"pictures_per_second": passes, "seconds_per_gb": reads}


def pixels(size: str) -> tuple[int, int]:
    """640x480 → (640, 480).

    Raises:
        argparse.ArgumentTypeError: it is not of that form, or too small.
    """
    parts = size.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) >= 16 for part in parts):
        raise argparse.ArgumentTypeError(f"{size} is not WIDTHxHEIGHT, each from 16")
    return int(parts[0]), int(parts[1])


def sized(size: str) -> str:
    """A size that was checked."""
    pixels(size)
    return size


def table(results: dict[str, Any]) -> str:
    """results/features.md: what README quotes."""
    lines = [
        "| images | first pass, pictures/s | convolutions alone, pictures/s "
        "| with a pass on each thread | first pass over convolutions alone | over the other |",
        "| --- |" + " --- |" * 5,
    ]
    for case, found in results["pictures_per_second"].items():
        rates = [spread(found[name], 1) for name in (PASS, LIMIT, EACH)]
        ratios = [
            spread([a / b for a, b in zip(found[PASS], found[name], strict=True)], 3)
            for name in (LIMIT, EACH)
        ]
        lines.append(f"| {case} | {' | '.join(rates + ratios)} |")
    lines += ["", "| second run reads the cache | seconds per GB |", "| --- | --- |"]
    lines += [f"| {k} | {spread(v, 2)} |" for k, v in results["seconds_per_gb"].items()]
    lines += [
        "",
        f"{results['images']} images a case, a picture is an image or a view of one; cache of "
        f"{results['cache_gb']:g} GB; {results['precision']}; n = {results['rounds']} rounds, "
        f"median (lowest–highest); {results['hardware']}; `{results['command']}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--images", type=int, default=1024, help="a multiple of 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=sized, nargs="+", default=["200x200", "640x480"])
    parser.add_argument("--views", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--float32", action="store_true", help="as where a processor does not multiply bf16"
    )
    parser.add_argument("--cache-gb", type=float, default=2.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    if chosen.images < 64 or chosen.images % 64:
        parser.error(f"--images {chosen.images}: must be a multiple of 64, the size of a batch")
    if chosen.rounds < 1 or min(chosen.augmentations) < 0:
        parser.error(f"--rounds {chosen.rounds} --views {chosen.augmentations}: from 1 and from 0")
    if rows_in(chosen.cache_gb) < 512:
        parser.error(f"--cache-gb {chosen.cache_gb}: must hold 512 rows of {KIND.bytes} bytes")
    if chosen.float32:
        vars(backbone)["bf16_is_fast"] = lambda device: False
    with TemporaryDirectory() as folder:
        found = measure(chosen, Path(folder))
    results = {
        "command": " ".join(["python benchmarks/features.py", *sys.argv[1:]]),
        "hardware": hardware(),
        "images": chosen.images,
        "cache_gb": chosen.cache_gb,
        "rounds": chosen.rounds,
        "precision": "bfloat16" if backbone.load().half else "float32",
        **found,
    }
    chosen.results.mkdir(parents=True, exist_ok=True)
    name = "features_bf16" if backbone.load().half else "features"
    write_json(chosen.results / f"{name}.json", results)
    text = table(json.loads((chosen.results / f"{name}.json").read_text()))
    (chosen.results / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

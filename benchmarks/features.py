"""How fast is the first pass over images, against the convolutions alone, and how fast the cache?

* **first pass**: ``features_of_rows`` with an empty cache: JPEG files of random shapes are read,
  decoded, made square, augmented, convolved, written and indexed.
* **limit**: the same convolutions with the same precision on one normalised batch of 64 in memory:
  by torch as it comes, all of whose threads share each pass, and with a pass on each thread, as the
  package makes them.
* **second run**: a cache of --cache-gb written by the package with drawn rows, opened and read;
  from the page cache, and after the kernel was told to forget the file.

Every round measures all in turn, each limit before and after the first pass; ratios are taken
within a round. A picture is an image or an augmented copy of one. Results are features, or
features_bf16 where the processor multiplies bf16 and --float32 is not given.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from shared.pictures import SIDE, write_jpeg
from shared.results import Results, at_least, markdown, parser_of, publish, spread

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.device import CPU, bf16_is_fast
from sign_ensemble.data import backbone
from sign_ensemble.data.feature_cache import features_of_rows
from sign_ensemble.data.row_cache import RowSchema, cached_rows

PASS, LIMIT, EACH = "first pass", "limit", "limit, a pass on each thread"
SCHEMA = RowSchema("features.f16", (1, backbone.ALL_FEATURES), "float16", {})
COPIES = {0: "no augmentation", 1: "1 augmented copy"}


def make_images(folder: Path, count: int, size: tuple[int, int]) -> pa.Table:
    """JPEG files of random shapes, as manifest rows."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        path = folder / f"{i}.jpg"
        write_jpeg(path, rng, size)
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
    drawn = np.random.default_rng(0).normal(size=(64, SCHEMA.bytes // 2)).astype(np.float16)

    def make(pairs: Sequence[tuple[str, int]]) -> Iterator[NDArray[np.float16]]:
        return (drawn[row % len(drawn)] for _, row in pairs)

    cached_rows(folder, SCHEMA, keys, make)
    return keys


def rows_in(gigabytes: float) -> int:
    """Rows of a cache without augmented copies."""
    return int(gigabytes * 1e9) // SCHEMA.bytes


def second_run(folder: Path, keys: Sequence[str], forgotten: bool) -> float:
    """Seconds per GB to open the cache and read every row of it."""
    if forgotten:
        with (folder / SCHEMA.file).open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def make(pairs: Sequence[tuple[str, int]]) -> NoReturn:
        raise AssertionError(f"{len(pairs)} rows of the cache are missing")

    began = time.perf_counter()
    found = cached_rows(folder, SCHEMA, keys, make)
    rows, read = found.open(), 0
    for start in range(0, len(found.row_N), 512):
        read += rows[found.row_N[start : start + 512]].nbytes
    return (time.perf_counter() - began) / (read / 1e9)


def measure(arguments: argparse.Namespace) -> Results:
    """A figure per round of everything."""
    passes: dict[str, dict[str, list[float]]] = {}
    reads: dict[str, list[float]] = {"from the page cache": [], "from the disk": []}
    cores = torch.get_num_threads()
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            size: make_images(folder / size, arguments.images, pixels(size))
            for size in arguments.sizes
        }
        keys = write_cache(folder / "cache", arguments.cache_gb)
        limit(backbone.BATCH)  # to warm up
        for number in range(arguments.rounds):
            for size, copies in [(s, n) for s in arguments.sizes for n in arguments.augmentations]:
                case = f"{size}, {COPIES.get(copies, f'{copies} augmented copies')}"
                found = passes.setdefault(case, {PASS: [], LIMIT: [], EACH: []})
                count = arguments.images * (1 + copies)
                alone = [(limit(count // 2), limit(count // 2, cores))]
                found[PASS].append(first_pass(files[size], folder / size, copies))
                alone += [(limit(count // 2), limit(count // 2, cores))]
                for limited, rates in zip((LIMIT, EACH), zip(*alone, strict=True), strict=True):
                    found[limited].append(2 / sum(1 / rate for rate in rates))
            reads["from the disk"].append(second_run(folder / "cache", keys, True))
            reads["from the page cache"].append(second_run(folder / "cache", keys, False))
            print(
                number, {case: [f"{v[-1]:.1f}" for v in p.values()] for case, p in passes.items()}
            )
    return {
        "images": arguments.images,
        "cache_gb": arguments.cache_gb,
        "rounds": arguments.rounds,
        "precision": "bfloat16" if backbone.load().half else "float32",
        "pictures_per_second": passes,
        "seconds_per_gb": reads,
    }


def pixels(size: str) -> tuple[int, int]:
    """640x480 → (640, 480).

    Raises:
        argparse.ArgumentTypeError: it is not of that form, or too small.
    """
    parts = size.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) >= 16 for part in parts):
        raise argparse.ArgumentTypeError(f"{size} is not WIDTHxHEIGHT, each from 16")
    return int(parts[0]), int(parts[1])


def checked_size(size: str) -> str:
    """A size that :func:`pixels` takes."""
    pixels(size)
    return size


def table(results: Results) -> str:
    """Rates and their ratios within a round; then the reading of the cache."""
    header = [
        "images", "first pass, pictures/s", "convolutions alone, pictures/s",
        "with a pass on each thread", "first pass over convolutions alone", "over the other",
    ]  # fmt: skip
    rows = [
        [
            case,
            *(spread(found[name], 1) for name in (PASS, LIMIT, EACH)),
            *(
                spread([a / b for a, b in zip(found[PASS], found[name], strict=True)], 3)
                for name in (LIMIT, EACH)
            ),
        ]
        for case, found in results["pictures_per_second"].items()
    ]
    reads = [[k, spread(v, 2)] for k, v in results["seconds_per_gb"].items()]
    return (
        markdown(header, rows)
        + "\n"
        + markdown(["second run reads the cache", "seconds per GB"], reads)
        + f"\n{results['images']} images a case, a picture is an image or an augmented copy of "
        f"one; cache of {results['cache_gb']:g} GB; {results['precision']}; n = "
        f"{results['rounds']} rounds, median (lowest–highest); {results['hardware']}; "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=1024, help="a multiple of 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=checked_size, nargs="+", default=["200x200", "640x480"])
    parser.add_argument("--augmentations", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--float32", action="store_true", help="as where a processor does not multiply bf16"
    )
    parser.add_argument("--cache-gb", type=float, default=2.0)
    arguments = parser.parse_args()
    if arguments.images < 64 or arguments.images % 64:
        parser.error(f"--images {arguments.images}: must be a multiple of 64, the size of a batch")
    at_least(parser, arguments, rounds=1, cache_gb=512 * SCHEMA.bytes / 1e9)
    if min(arguments.augmentations) < 0:
        parser.error(f"--augmentations {arguments.augmentations}: none may be below 0")
    if arguments.float32:
        vars(backbone)["bf16_is_fast"] = lambda device: False
    half = not arguments.float32 and bf16_is_fast(CPU)
    publish("features_bf16" if half else "features", arguments, measure, table)


if __name__ == "__main__":
    main()

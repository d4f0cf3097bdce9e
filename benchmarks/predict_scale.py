"""Does the command predict answer many images as fast as they can be seen, in constant memory?

The command answers --images images (files repeated) into a Parquet table. Every --every pieces it
is stopped (SIGSTOP), and what any reader of hands must do, decoding, finding hands and the
convolutions alone, runs on as many of the same images in this process, a piece per core as there.
Then the command goes on. At a tenth and at a fifth of the images it is killed and started again.
Its resident memory is noted at each stop, and at the end each row must be there once, in order.

Speed counts from the first part that a process writes: loading is not in them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from shared.results import DATA, ROOT, Results, at_least, markdown, parser_of, publish, spread

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data.hand_features import features_of_pictures
from sign_ensemble.data.images import read_image
from sign_ensemble.data.picture_files import pictures_below
from sign_ensemble.serving.prediction_pieces import IMAGES

KILLED_AT = (0.1, 0.2)  # of the images


@dataclass
class Running:
    """The command in a process, and what was seen of it."""

    arguments: list[str]
    parts: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, or start it again."""
        quiet = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            self.arguments, env=quiet, stdout=subprocess.DEVNULL, cwd=ROOT
        )

    def done(self) -> int:
        """How many parts are written."""
        return len(list(self.parts.glob("0*.parquet")))

    def wait_for(self, parts: int) -> bool:
        """Wait until so many are there, or it has ended; whether it runs."""
        while self.process.poll() is None and self.done() < parts:
            time.sleep(0.02)
        if self.process.poll():
            raise SystemExit(f"predict ended with {self.process.returncode}")
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill it at once, if it runs."""
        self.process.kill()
        self.process.wait()

    def resident_mib(self) -> float:
        """Its memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def seen_only(paths: Sequence[Path], data: DataConfig) -> float:
    """Seconds to decode, find hands and compute features, a piece per core at a time."""
    threads = torch.get_num_threads()

    def see(piece: Sequence[Path]) -> None:
        torch.set_num_threads(1)
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(lambda path: read_image(path, data), piece))
        features_of_pictures(np.stack(pictures), data)

    pieces = [paths[start : start + IMAGES] for start in range(0, len(paths), IMAGES)]
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(see, pieces))
    taken = time.perf_counter() - began
    torch.set_num_threads(threads)
    return taken


def blocks_of(command: Running, paths: list[Path], data: DataConfig, every: int) -> Results:
    """Alternate between the command and seeing alone until the command has ended."""
    blocks: list[dict[str, float]] = []
    total, kills = -(-len(paths) // IMAGES), [share * len(paths) / IMAGES for share in KILLED_AT]
    processes = 0
    command.start()
    running = command.wait_for(1)
    while running:
        first, began = command.done(), time.perf_counter()
        running = command.wait_for(min(first + every, total))
        parts, taken = command.done() - first, time.perf_counter() - began
        if not running or parts < every:
            break
        command.process.send_signal(signal.SIGSTOP)
        memory, here = command.resident_mib(), paths[first * IMAGES : (first + every) * IMAGES]
        alone = len(here) / seen_only(here, data)
        command.process.send_signal(signal.SIGCONT)
        blocks.append(
            {"process": processes, "predict": parts * IMAGES / taken, "alone": alone,
             "resident_mib": memory, "at": (first + parts) * IMAGES}
        )  # fmt: skip
        print(blocks[-1], flush=True)
        if kills and command.done() >= kills[0]:
            kills.pop(0)
            command.kill()
            processes += 1
            before = command.done()
            command.start()
            running = command.wait_for(before + 1)
    if command.process.wait():
        raise SystemExit(f"predict ended with {command.process.returncode}")
    return {"blocks": blocks, "killed": processes}


def measure(arguments: argparse.Namespace) -> Results:
    """Run the command, and check its table."""
    data = load_config(RunFolder(arguments.run)).data
    files = pictures_below((arguments.data / "massey-asl").absolute()).files
    paths = list(islice(cycle(files), arguments.images))
    seen_only(paths[: 2 * IMAGES], data)
    with TemporaryDirectory() as folder:
        out, table = Path(folder) / "answers.parquet", Path(folder) / "images.parquet"
        pq.write_table(pa.table({"path": list(map(str, paths))}), table)
        program = [sys.executable, "-m", "sign_ensemble.predict"]
        command = Running(
            [*program, str(table), "--run", str(arguments.run.absolute()), "--out", str(out)],
            Path(folder) / f".{out.name}.parts",
        )
        try:
            found = blocks_of(command, paths, data, arguments.every)
        finally:
            with suppress(AttributeError):
                command.kill()
        named = pq.read_table(out, columns=["path"]).column("path").to_pylist()
        if named != list(map(str, paths)):
            raise SystemExit("the rows are not those of the images, each once and in order")
    return {"images": arguments.images, **found}


def slope(blocks: list[dict[str, Any]]) -> float:
    """Growth of the last process's memory, MiB per 10,000 images, by least squares over all of its
    stops but the first fifth.
    """
    last = [block for block in blocks if block["process"] == blocks[-1]["process"]]
    last = last[len(last) // 5 :]
    if len(last) < 2:
        return float("nan")
    at, mib = (np.array([block[name] for block in last]) for name in ("at", "resident_mib"))
    return float(np.polyfit(at / 10_000, mib, 1)[0])


def table(results: Results) -> str:
    """Images per second, their ratio, memory."""
    blocks = results["blocks"]
    predict, alone = ([block[name] for block in blocks] for name in ("predict", "alone"))
    ratios = [ours / limit for ours, limit in zip(predict, alone, strict=True)]
    rows = [
        ["images per second, predict", spread(predict, 1)],
        ["decoding, hands and convolutions alone", spread(alone, 1)],
        ["predict over these, in each block", spread(ratios, 3)],
        ["most resident memory, MiB", f"{max(block['resident_mib'] for block in blocks):.0f}"],
        ["its growth, MiB per 10,000 images", f"{slope(blocks):.1f}"],
    ]
    return (
        markdown([f"{results['images']:,} images", "median (lowest–highest)"], rows)
        + f"\nKilled and started again {results['killed']} times; each row is there once, in "
        f"order. n = {len(blocks)} blocks; {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="a finished run's folder")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=16, help="pieces between two stops")
    arguments = parser.parse_args()
    at_least(parser, arguments, images=2 * IMAGES, every=torch.get_num_threads())
    publish("predict_scale", arguments, measure, table)


if __name__ == "__main__":
    main()

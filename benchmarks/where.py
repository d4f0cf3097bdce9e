"""Where the main job's time goes: a sampling profiler on the whole command and its workers.

    python benchmarks/where.py [--config configs/demo.yaml ...]

py-spy looks at every Python process of ``python -m sign_ensemble.tune`` fifty times a second and
notes the stacks of the threads that compute; processes of Ray's own that are not Python's are not
seen, and neither is what waits. A stack belongs to the innermost of its frames that one of PARTS
names. The feature cache is empty at the start. All arguments are handed to ``tune``; by default it
is make demo's job, whose pictures must be there.

Writes results/where.json and results/where.md.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from commands import seconds_of
from hardware import hardware

from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.run_folder import RunFolder

RESULTS = Path(__file__).parent / "results"
RATE = 50
PARTS = {  # what is found in a frame's file or function; the first that fits
    "loading of modules": ("<frozen importlib", "<frozen zipimport"),
    "reading and decoding images": ("data/images.py", "PIL/", "data/manifest.py"),
    "views": ("data/augmentation.py", "data/hand_removal.py"),
    "convolutions": (
        "data/convolutions.py", "data/backbone.py", "data/feature_cache.py", "data/row_cache.py",
    ),
    "self-made negatives": ("data/negatives.py",),
    "principal directions": ("learning/principal_components.py",),
    "optimiser's steps": ("learning/optimizer.py", "torch/optim/", "clip_grad"),
    "heads: forward and backward": ("learning/training_loop.py", "learning/network.py"),
    "heads: reading others": ("learning/head_training.py", "metrics/"),
    "choice of members": ("search/selection.py", "pipeline/members.py"),
    "distances to training images": (
        "rejection/nearest_neighbours.py", "rejection/class_gaussians.py",
        "rejection/gda_predictions.py",
    ),
    "rule and its choice": (
        "rejection/choose.py", "rejection/rule.py", "pipeline/calibration.py",
        "pipeline/held_out_labels.py",
    ),
    "evaluation": (
        "pipeline/metrics_tree.py", "pipeline/report_details.py", "pipeline/evaluation.py",
    ),
    "report": ("sign_ensemble/report/", "matplotlib/"),
    "W&B": ("sign_ensemble/tracking/", "wandb/"),
    "Ray and Optuna": ("/ray/", "/optuna/", "search/"),
}  # fmt: skip
OTHER = "everything else"


def part_of(stack: str) -> str:
    """Which part a stack, outermost frame first and separated by ``;``, belongs to."""
    for frame in reversed(stack.split(";")):
        for part, marks in PARTS.items():
            if any(mark in frame for mark in marks):
                return part
    return OTHER


def profiled(more: list[str]) -> dict[str, Any]:
    """Seconds by part, over all processes, and by stage."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "stacks.txt"
        command = [
            str(Path(sys.executable).parent / "py-spy"), "record", "--subprocesses",
            "--full-filenames",
            "--rate", str(RATE), "--format", "raw", "--output", str(out), "--",
            sys.executable, "-m", "sign_ensemble.tune", *more,
            "--data.cache", f"{folder}/features", "--run.root", f"{folder}/runs",
            "--run.name", "job",
        ]  # fmt: skip
        taken = seconds_of(command)
        timings = RunFolder(Path(folder) / "runs" / "job").timings
        if not timings.is_file():  # py-spy ends well whatever becomes of the command
            raise SystemExit(f"{' '.join(command)} left no {timings}")
        counted: Counter[str] = Counter()
        for line in out.read_text(encoding="utf-8").splitlines():
            stack, _, count = line.rpartition(" ")
            counted[part_of(stack)] += int(count)
        return {
            "seconds": taken,
            "stages": read_json(timings),
            "parts": {part: count / RATE for part, count in counted.most_common()},
        }


def table(results: dict[str, Any]) -> str:
    """results/where.md: what README quotes."""
    total = sum(results["parts"].values())
    lines = ["| part | seconds of a core | share |", "| --- | --- | --- |"]
    for part, seconds in results["parts"].items():
        lines.append(f"| {part} | {seconds:.1f} | {100 * seconds / total:.0f} % |")
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in results["stages"].items())
    lines += [
        f"| all | {total:.1f} | |",
        "",
        f"The whole command took {results['seconds']:.0f} s under the profiler; stages by the "
        f"clock: {stages}. n = 1; {results['hardware']}; `{results['command']}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    more = sys.argv[1:] or ["--config", "configs/demo.yaml"]
    if {"-h", "--help"} & set(more):
        print(__doc__)
        return
    results = {
        "command": " ".join(["python benchmarks/where.py", *sys.argv[1:]]),
        "hardware": hardware(),
        **profiled(more),
    }
    write_json(RESULTS / "where.json", results)
    results = json.loads((RESULTS / "where.json").read_text())
    (RESULTS / "where.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()

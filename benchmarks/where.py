"""Where does the main job's time go?

py-spy looks at every Python process of ``python -m sign_ensemble.tune`` fifty times a second and
notes the stacks of the threads that compute; processes of Ray's own that are not Python's are not
seen, and neither is what waits. A stack belongs to the innermost of its frames that one of PARTS
names. The feature cache is empty at the start. Unknown settings go to ``tune``; without any it is
make demo's job, whose pictures must be there.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.commands import TUNE, seconds_of
from shared.results import Results, markdown, parse_with_settings, parser_of, publish

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder

RATE = 50
PARTS = {  # what is found in a frame's file or function; the first that fits
    "loading of modules": ("<frozen importlib", "<frozen zipimport"),
    "reading and decoding images": ("data/images.py", "PIL/", "data/manifest.py"),
    "augmentation": ("data/augmentation.py", "data/hand_count_negatives.py"),
    "convolutions": (
        "data/convolutions.py", "data/backbone.py", "data/feature_cache.py", "data/row_cache.py",
    ),
    "principal components": ("learning/principal_components.py",),
    "optimizer's steps": ("learning/optimizer.py", "torch/optim/", "clip_grad"),
    "heads: forward and backward": ("learning/training_loop.py", "learning/network.py"),
    "heads: evaluation": ("learning/fold_models.py", "metrics/"),
    "choice of members": ("search/selection.py", "pipeline/members.py"),
    "distances to the reference set": (
        "rejection/nearest_neighbours.py", "rejection/class_gaussians.py",
        "rejection/regional_mahalanobis.py", "rejection/gda_predictions.py",
    ),
    "rule": ("rejection/", "pipeline/rule_calibration.py", "pipeline/held_out_labels.py"),
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


def measure(arguments: argparse.Namespace) -> Results:
    """Seconds by part, over all processes, and by stage."""
    settings = arguments.settings or ["--config", "configs/demo.yaml"]
    with TemporaryDirectory() as folder:
        out = Path(folder) / "stacks.txt"
        command = [
            str(Path(sys.executable).parent / "py-spy"), "record", "--subprocesses",
            "--full-filenames",
            "--rate", str(RATE), "--format", "raw", "--output", str(out), "--",
            *TUNE, *settings, "--data.cache", f"{folder}/features",
            "--run.root", f"{folder}/runs", "--run.name", "job",
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


def table(results: Results) -> str:
    """A row per part."""
    total = sum(results["parts"].values())
    rows = [
        [part, f"{seconds:.1f}", f"{100 * seconds / total:.0f} %"]
        for part, seconds in results["parts"].items()
    ]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in results["stages"].items())
    return markdown(
        ["part", "seconds of a core", "share"], [*rows, ["all", f"{total:.1f}", ""]]
    ) + (
        f"\nThe whole command took {results['seconds']:.0f} s under the profiler; stages by the "
        f"clock: {stages}. n = 1; {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    publish("where", parse_with_settings(parser_of(__doc__)), measure, table)


if __name__ == "__main__":
    main()

"""How does the main job's cost grow with images and with trials?

Whole commands, ``python -m sign_ensemble.tune``, on drawn pictures of five signers and eight
labels, with an empty feature cache each. Every head is trained for as many epochs, so that a trial
is as much work whatever it learns. A stage's seconds are those of its timings.json; *start and end*
are the rest of the command. Seconds that at most double where the work doubles are linear or
better. Writes docs/growth.png too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from shared.commands import TUNE, seconds_of
from shared.results import ROOT, Results, at_least, markdown, parser_of, publish

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.search.records import read_records

matplotlib.use("agg")
import matplotlib.pyplot as plt

SIGNERS, LABELS, EPOCHS, COPIES = 5, 8, 5, 2
CELLS = SIGNERS * LABELS
STAGES = ("features", "search", "members", "rule", "evaluation")
REST = "start and end"
WORK = ("images", "trials")


def make_pictures(root: Path, each: int) -> None:
    """``<signer>/<label>/<n>.jpg``: a label's coarse pattern, with a signer's light and noise."""
    for signer in range(SIGNERS):
        for label in range(LABELS):
            folder = root / f"signer-{signer}" / f"label-{label}"
            folder.mkdir(parents=True)
            pattern = np.random.default_rng(label).integers(60, 200, (12, 16, 3))
            for number in range(each):
                rng = np.random.default_rng([signer, label, number])
                levels = pattern + 8 * signer + rng.integers(-40, 40, pattern.shape)
                coarse = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
                picture = coarse.resize((640, 480), Image.Resampling.BICUBIC)
                picture.save(folder / f"{number}.jpg", quality=90)


def job(root: Path, work: Path, trials: int) -> dict[str, Any]:
    """Seconds of a whole command and of its stages."""
    command = [
        *TUNE, "--data.root", str(root),
        "--data.test_signers", "[signer-4]", "--data.augmentations", str(COPIES),
        "--data.cache", str(work / "features"), "--run.root", str(work / "runs"),
        "--run.name", "job", "--search.trials", str(trials), "--search.epochs", f"[{EPOCHS}]",
        "--member.epochs", str(EPOCHS), "--member.validation_share", "0", "--ensemble.size", "3",
        "--evaluate.near={}", "--evaluate.far={}", "--evaluate.images", "50",
        "--evaluate.bootstrap", "100", "--rejection.held_out_groups", "1",
        "--finetune.layers", "none", "--wandb.mode", "disabled",
    ]  # fmt: skip
    taken = seconds_of(command)
    run = RunFolder(work / "runs" / "job")
    stages = {stage: read_json(run.timings)[stage] for stage in STAGES}
    return {
        "seconds": taken,
        "stages": {**stages, REST: taken - sum(stages.values())},
        "heads": sum(len(record.folds) for record in read_records(run)),
    }


def measure(arguments: argparse.Namespace) -> Results:
    """Every job: what grew, how many times, images, trials and seconds."""
    found: list[dict[str, Any]] = []
    for what, times in [(what, times) for what in WORK for times in arguments.scales]:
        if what == "trials" and times == 1:
            found.append({**found[0], "what": what})  # the same job
            continue
        of = {"images": arguments.images, "trials": arguments.trials}
        of[what] *= times
        with TemporaryDirectory() as folder:
            root = Path(folder) / "signs"
            make_pictures(root, of["images"] // CELLS)
            seen = job(root, Path(folder), of["trials"])
        found.append({"what": what, "times": times, **of, **seen})
        print(json.dumps(found[-1]), flush=True)
    return {"images": arguments.images, "trials": arguments.trials, "jobs": found}


def seconds_by_stage(jobs: list[dict[str, Any]], stage: str) -> list[float]:
    """Seconds of a stage in each job; "" is the whole command."""
    return [one["stages"][stage] if stage else one["seconds"] for one in jobs]


def per_doubling(jobs: list[dict[str, Any]], stage: str) -> list[float]:
    """By what each doubling of the work multiplied a stage's seconds."""
    seconds, times = seconds_by_stage(jobs, stage), [one["times"] for one in jobs]
    return [
        float((b / a) ** (1 / np.log2(t / s)))
        for a, b, s, t in zip(seconds, seconds[1:], times, times[1:], strict=False)
    ]


def table(results: Results) -> str:
    """A table per kind of work, a row per stage."""
    text = ""
    for what in WORK:
        jobs = [one for one in results["jobs"] if one["what"] == what]
        rows = [
            [
                stage or "whole command, s",
                *(f"{s:.1f}" for s in seconds_by_stage(jobs, stage)),
                ", ".join(f"{factor:.2f}" for factor in per_doubling(jobs, stage)),
            ]
            for stage in ("", *STAGES, REST)
        ]
        text += markdown([what, *(f"{one[what]:,}" for one in jobs), "per doubling"], rows) + "\n"
    return text + (
        f"Seconds of whole commands and their stages; {results['trials']} trials while images "
        f"grow, {results['images']:,} images while trials grow; four training signers, {LABELS} "
        f"labels, {COPIES} augmented copies, {EPOCHS} epochs. 2.00 per doubling is linear. n = 1; "
        f"{results['hardware']}; `{results['command']}`\n"
    )


def plot(results: Results, path: Path) -> None:
    """Seconds of each stage against the work, both axes logarithmic, with a linear slope."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), sharey=True, constrained_layout=True)
    for axis, what in zip(axes, WORK, strict=True):
        jobs = [one for one in results["jobs"] if one["what"] == what]
        amounts = [one[what] for one in jobs]
        total = seconds_by_stage(jobs, "")
        axis.plot(amounts, total, "o-", color="black", label="whole command")
        for stage in STAGES:
            axis.plot(amounts, seconds_by_stage(jobs, stage), "o-", label=stage)
        slope = [total[0] * one["times"] for one in jobs]
        axis.plot(amounts, slope, ":", color="gray", label="twice the work, twice the time")
        axis.set(xscale="log", yscale="log", xlabel=what)
        axis.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=320, help=f"a multiple of {CELLS}")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "growth.png")
    arguments = parser.parse_args()
    at_least(parser, arguments, images=4 * CELLS, trials=3)
    if arguments.images % CELLS:
        parser.error(f"--images {arguments.images}: must be a multiple of {CELLS}")
    if arguments.scales[0] != 1 or sorted(set(arguments.scales)) != arguments.scales:
        parser.error(f"--scales {arguments.scales}: must begin with 1 and rise")
    plot(publish("growth", arguments, measure, table), arguments.plot)


if __name__ == "__main__":
    main()

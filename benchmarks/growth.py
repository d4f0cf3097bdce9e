"""How the main job's cost grows with images and with trials.

    python benchmarks/growth.py [--images 320 --trials 4 --scales 1 2 4 8]

Whole commands, ``python -m sign_ensemble.tune``, on drawn pictures of five signers and eight
labels, with an empty feature cache each: with so many times the images, and with so many times the
trials. Every head is trained for as many passes (none stops early), so that a trial is as much work
whatever it learns. A stage's seconds are those of its timings.json; *start and end* are what the
command took beside them. With each step that doubles the work, seconds that double at most are
linear or better.

Writes results/growth.json, results/growth.md and docs/growth.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
from commands import seconds_of
from hardware import hardware
from PIL import Image

from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.search.records import read_records

matplotlib.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
SIGNERS, LABELS, EPOCHS, VIEWS = 5, 8, 5, 2
STAGES = ("features", "search", "members", "rule", "evaluation")
BESIDE = "start and end"
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
        sys.executable, "-m", "sign_ensemble.tune", "--data.root", str(root),
        "--data.test_signers", "[signer-4]", "--data.augmentations", str(VIEWS),
        "--data.cache", str(work / "features"), "--run.root", str(work / "runs"),
        "--run.name", "job", "--search.trials", str(trials), "--search.epochs", f"[{EPOCHS}]",
        "--member.epochs", str(EPOCHS), "--member.validation_share", "0", "--ensemble.size", "3",
        "--evaluate.near={}", "--evaluate.far={}", "--evaluate.images", "50",
        "--evaluate.bootstrap", "100", "--rejection.negatives", "10",
        "--rejection.held_out_groups", "1", "--finetune.layers", "none", "--wandb.mode", "disabled",
    ]  # fmt: skip
    taken = seconds_of(command)
    run = RunFolder(work / "runs" / "job")
    stages = {stage: read_json(run.timings)[stage] for stage in STAGES}
    records = read_records(run)
    return {
        "seconds": taken,
        "stages": {**stages, BESIDE: taken - sum(stages.values())},
        "heads": sum(len(record.folds) for record in records),
    }


def grown(images: int, trials: int, scales: list[int]) -> list[dict[str, Any]]:
    """Every job: what grew, how many times, images, trials and seconds."""
    found: list[dict[str, Any]] = []
    for what, times in [(what, times) for what in WORK for times in scales]:
        if what == "trials" and times == 1:
            found.append({**found[0], "what": what})  # the same job
            continue
        of = {"images": images, "trials": trials}
        of[what] *= times
        with TemporaryDirectory() as folder:
            root = Path(folder) / "signs"
            make_pictures(root, of["images"] // (SIGNERS * LABELS))
            found.append(
                {"what": what, "times": times, **of, **job(root, Path(folder), of["trials"])}
            )
        print(json.dumps(found[-1]), flush=True)
    return found


def per_doubling(jobs: list[dict[str, Any]], stage: str) -> list[float]:
    """By what each doubling of the work multiplied a stage's seconds; "" is the whole command."""
    seconds = [one["stages"][stage] if stage else one["seconds"] for one in jobs]
    times = [one["times"] for one in jobs]
    return [
        float((b / a) ** (1 / np.log2(t / s)))
        for a, b, s, t in zip(seconds, seconds[1:], times, times[1:], strict=False)
    ]


def table(results: dict[str, Any]) -> str:
    """results/growth.md: what README quotes."""
    lines = []
    for what in WORK:
        jobs = [one for one in results["jobs"] if one["what"] == what]
        lines += [
            f"| {what} | " + " | ".join(f"{one[what]:,}" for one in jobs) + " | per doubling |",
            "| --- |" + " --- |" * (len(jobs) + 1),
        ]
        for stage in ("", *STAGES, BESIDE):
            seconds = [one["stages"][stage] if stage else one["seconds"] for one in jobs]
            factors = ", ".join(f"{factor:.2f}" for factor in per_doubling(jobs, stage))
            name = stage or "whole command, s"
            lines.append(
                f"| {name} | " + " | ".join(f"{s:.1f}" for s in seconds) + f" | {factors} |"
            )
        lines += [""]
    lines.append(
        f"Seconds of whole commands and their stages; {results['trials']} trials while images "
        f"grow, {results['images']:,} images while trials grow; four training signers, {LABELS} "
        f"labels, {VIEWS} views, {EPOCHS} passes. 2.00 per doubling is linear. n = 1; "
        f"{results['hardware']}; `{results['command']}`"
    )
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """Seconds of each stage against the work, both axes logarithmic, with a line's slope."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), sharey=True, constrained_layout=True)
    for axis, what in zip(axes, WORK, strict=True):
        jobs = [one for one in results["jobs"] if one["what"] == what]
        amounts = [one[what] for one in jobs]
        whole = [one["seconds"] for one in jobs]
        axis.plot(amounts, whole, "o-", color="black", label="whole command")
        for stage in STAGES:
            axis.plot(amounts, [one["stages"][stage] for one in jobs], "o-", label=stage)
        slope = [whole[0] * one["times"] for one in jobs]
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
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "growth.png")
    chosen = parser.parse_args()
    cells = SIGNERS * LABELS
    if chosen.images < 4 * cells or chosen.images % cells:
        parser.error(
            f"--images {chosen.images}: must be a multiple of {cells}, at least {4 * cells}"
        )
    if chosen.trials < 3:
        parser.error(f"--trials {chosen.trials}: must be 3 or more, one per member")
    if chosen.scales[0] != 1 or sorted(set(chosen.scales)) != chosen.scales:
        parser.error(f"--scales {chosen.scales}: must begin with 1 and rise")
    results = {
        "command": " ".join(["python benchmarks/growth.py", *sys.argv[1:]]),
        "hardware": hardware(),
        "images": chosen.images,
        "trials": chosen.trials,
        "jobs": grown(chosen.images, chosen.trials, chosen.scales),
    }
    chosen.results.mkdir(parents=True, exist_ok=True)
    write_json(chosen.results / "growth.json", results)
    results = json.loads((chosen.results / "growth.json").read_text())
    (chosen.results / "growth.md").write_text(table(results))
    plot(results, chosen.plot)
    print(table(results))


if __name__ == "__main__":
    main()

"""Protocol M: leave each of five signers out and run the main job on the other four.

    python benchmarks/protocol_m.py --data ../shared/data [--search.trials 10 ...]

What it does not know itself goes to the main job; runs that are there already are not made again.
Beside the main job's own figures it measures an ordinary implementation on the same splits: the
default recipe on plain features (no views), one model with max-prob, and five such models of varied
width, dropout and learning rate with entropy and with mutual information. Writes
results/protocol_m.json, and results/protocol_m.md from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from heads import fifth_alone
from strangers import KNOWN, error_at, images_of_stranger

from sign_ensemble import metrics
from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.config import Config, MemberConfig
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data import manifest
from sign_ensemble.data.feature_cache import features_of_images, features_of_rows
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.network import logits_of
from sign_ensemble.learning.task import Task
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.scores import disagreement, max_prob, total_uncertainty

RESULTS = Path(__file__).parent / "results"
COVERAGE = 0.88
ORDINARY = [
    MemberConfig(validation_share=0.0, components=0),
    MemberConfig(widths=(512, 256), learning_rate=2e-4, validation_share=0.0, components=0),
    MemberConfig(widths=(1024, 256), dropout=0.3, validation_share=0.0, components=0),
    MemberConfig(widths=(512, 512), dropout=0.6, validation_share=0.0, components=0),
    MemberConfig(
        widths=(256, 128), dropout=0.4, learning_rate=3e-4, validation_share=0.0, components=0
    ),
]


def main_job(
    data: Path, runs: Path, signer: int, more: list[str]
) -> tuple[RunFolder, float | None]:
    """Run the main job as a user does; the run, and its seconds unless it only went on."""
    name = f"protocol-m-{signer}"
    command = [
        sys.executable, "-m", "sign_ensemble.tune", "--config", "configs/massey.yaml",
        "--data.root", str(data / "massey-asl"), "--data.test_signers", f"[{signer}]",
        "--evaluate.far", f"foreign-hands={data}/asl-digits/[134578]",
        "--run.root", str(runs), "--run.name", name, "--wandb.mode", "disabled", *more,
    ]  # fmt: skip
    fresh = not (runs / name).exists()
    began = time.monotonic()
    subprocess.run(command, check=True)
    return RunFolder(runs / name), time.monotonic() - began if fresh else None


def ordinary(run: RunFolder, data: Path, runs: Path) -> dict[str, Any]:
    """The ordinary implementation on the run's own split: figures per row of the table."""
    config = load_config(run)
    data_alone = replace(config.data, augmentations=0)
    listed = manifest.read(run.manifest)
    rows = listed.rows("train")
    both = features_of_rows(rows, listed.root, data_alone, runs / "features")
    features = fifth_alone(both, Path(both.path).with_name("fifth.f16"))
    labels = listed.labels
    labels_N = np.array([labels.index(label) for label in rows.column("label").to_pylist()])
    task = Task(features, labels_N, np.zeros(len(rows), np.int64), ("",), tuple(labels), "", 0)
    heads = [
        fit_rows(task, recipe, np.arange(len(rows)), i)[0] for i, recipe in enumerate(ORDINARY)
    ]

    def evidence(images: np.ndarray) -> EnsembleOutput:
        values = features_of_images(images, data_alone.weights).fifth_ND
        logits = np.stack([logits_of(head, values) for head in heads])
        return EnsembleOutput(logits, np.ones(len(heads)), *np.zeros((4, len(values))))

    images, truth = images_of_stranger(run, data)
    known = evidence(images.pop(KNOWN))
    strange = {name: evidence(each) for name, each in images.items()}

    def one(each: EnsembleOutput) -> np.ndarray:
        return np.exp(each.log_probs_MNK[0])

    scores = {
        "one model, max-prob": lambda each: max_prob(one(each)),
        "ensemble, entropy": total_uncertainty,
        "ensemble, mutual information": disagreement,
    }
    found = {}
    for name, score in scores.items():
        probs = one(known) if name.startswith("one") else known.probs_NK
        found[name] = {
            "accuracy": float(metrics.accuracy(probs, truth)),
            "sets": {
                key: {
                    "auroc": float(metrics.auroc(score(known), score(each))),
                    "fpr95": float(metrics.fpr95(score(known), score(each))),
                    "overconfident": float(np.mean(one(each).max(-1) >= 0.9)),
                }
                for key, each in strange.items()
            },
        }
    return found


def shipped(run: RunFolder) -> dict[str, Any]:
    """The main job's figures, without their intervals."""
    tree = read_json(run.metrics)

    def values(part: dict[str, Any]) -> dict[str, Any]:
        return {
            "known": {key: figure["value"] for key, figure in part["known"].items()},
            "sets": {
                name: {k: v["value"] for k, v in figures.items() if isinstance(v, dict)}
                for name, figures in part["sets"].items()
            },
        }

    return {
        "ensemble": values(tree),
        "single": values(tree["single"]),
        "scores": {name: values(part) for name, part in tree["scores"].items()},
        "error_at": error_at(run, COVERAGE),
        "combination": tree["about"]["rule"],
        "n": {
            "known": tree["known"]["accuracy"]["n"],
            **{name: figures["n"] for name, figures in tree["sets"].items()},
        },
    }


def cell(values: list[float], worst: Any) -> str:
    """Mean and worst over the signers."""
    return f"{np.mean(values):.3f} / {worst(values):.3f}"


def table(results: dict[str, Any]) -> str:
    """results/protocol_m.md: everything that README quotes."""
    signers = results["signers"]
    names = list(signers)
    sets = list(next(iter(signers.values()))["shipped"]["ensemble"]["sets"])
    lines = ["| | " + " | ".join(f"hand{name}" for name in names) + " | mean | worst |"]
    lines.append("| --- |" + " --- |" * (len(names) + 2))

    def row(title: str, values: list[float], worst: Any) -> None:
        cells = [f"{value:.3f}" for value in [*values, float(np.mean(values)), worst(values)]]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")

    def of(*path: str) -> list[float]:
        out = []
        for signer in signers.values():
            value: Any = signer
            for step in path:
                value = value[step]
            out.append(float(value))
        return out

    for kind in ("one model, max-prob", "ensemble, entropy"):
        row(f"ordinary: accuracy, {kind.split(',')[0]}", of("ordinary", kind, "accuracy"), min)
    row("accuracy, best single member", of("shipped", "single", "known", "accuracy"), min)
    ours = ("shipped", "ensemble")
    row("**accuracy, ensemble**", of(*ours, "known", "accuracy"), min)
    row("coverage by the shipped rule (asked for: 0.95)", of(*ours, "known", "coverage"), min)
    row("error among the accepted", of(*ours, "known", "selective_risk"), max)
    row(
        f"error among the accepted where the rule's p-values keep {100 * COVERAGE:.0f} %",
        of("shipped", "error_at"),
        max,
    )
    row("ECE, 15 equal-mass bins", of(*ours, "known", "ece"), max)
    row("AURC, wrong gestures as failures", of(*ours, "known", "aurc"), max)
    row("AUGRC, wrong gestures as failures", of(*ours, "known", "augrc"), max)
    row(
        "wrong-gesture AUROC, shipped combination", of(*ours, "sets", "wrong-gesture", "auroc"), min
    )
    lines += ["", "Per set, mean / worst over the five signers:", ""]
    lines.append(
        "| set | ordinary FPR95: max-prob | entropy | mutual information | shipped FPR95 "
        "| shipped AUROC | accepted by the shipped rule | one model ≥ 0.90 sure "
        "| accepted and ≥ 0.90 sure |"
    )
    lines.append("| --- |" + " --- |" * 8)
    for name in sets:
        cells = [
            cell(of("ordinary", kind, "sets", name, "fpr95"), max)
            for kind in (
                "one model, max-prob", "ensemble, entropy", "ensemble, mutual information",
            )
        ]  # fmt: skip
        cells += [
            "**" + cell(of(*ours, "sets", name, "fpr95"), max) + "**",
            cell(of(*ours, "sets", name, "auroc"), min),
            cell(of(*ours, "sets", name, "accepted"), max),
            cell(of("ordinary", "one model, max-prob", "sets", name, "overconfident"), max),
            cell(of(*ours, "sets", name, "overconfident"), max),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    seconds = [float(s["seconds"]) for s in signers.values() if s["seconds"] is not None]
    trials = sorted({s["settings"]["trials"] for s in signers.values()})
    of_all = f"{np.min(seconds):.0f} to {np.max(seconds):.0f} s per signer" if seconds else ""
    if len(seconds) == 1:
        of_all = f"{seconds[0]:.0f} s for the one signer whose run was timed whole"
    took = (
        f"The main job took {of_all} (n = {len(seconds)}), beside other work on the same cores."
        if seconds
        else "The main job's time is not known here: its runs were there already."
    )
    lines += [
        "",
        "Combinations chosen: "
        + "; ".join(f"hand{n}: {s['shipped']['combination']}" for n, s in signers.items())
        + ".",
        f"Trials per search: {', '.join(map(str, trials))} (default {Config().search.trials}). "
        f"{took} Hardware: {results['hardware']}.",
        f"FPR95 is the share of a strange set accepted when the threshold keeps 95 % of the test "
        f"signer's signs. Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every signer not measured yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    arguments, more = parser.parse_known_args()
    path = RESULTS / "protocol_m.json"
    results = read_json(path) if path.exists() else {"signers": {}}
    if not arguments.table:
        for signer in arguments.signers:
            run, seconds = main_job(arguments.data, arguments.runs, signer, more)
            used = load_config(run)
            settings = {
                "rejection": vars(used.rejection),
                "trials": used.search.trials,
                "members": used.ensemble.size,
                "layers": used.finetune.layers,
                "seed": used.search.seed,
            }
            before = results["signers"].get(str(signer), {})
            if seconds is None and before.get("settings") == settings:
                seconds = before["seconds"]
            torch.set_num_threads(2)
            results["signers"][str(signer)] = {
                "seconds": seconds,
                "settings": settings,
                "shipped": shipped(run),
                "ordinary": before.get("ordinary") or ordinary(run, arguments.data, arguments.runs),
            }
            results["signers"] = dict(sorted(results["signers"].items()))
            results.pop("settings", None)  # of all signers, in older files
            results["hardware"] = hardware()
            results["command"] = " ".join(["python benchmarks/protocol_m.py", *more])
            write_json(path, results)
    text = table(results)
    (RESULTS / "protocol_m.md").write_text(text)
    print(text)
    print(json.dumps({"written": str(path)}))


if __name__ == "__main__":
    main()

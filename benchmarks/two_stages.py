"""Protocol M: members fine-tuned in a second stage against members on frozen features.

    python benchmarks/two_stages.py --data ../shared/data [--signers 5 4] [--search.trials 10 ...]

For each signer left out the main job runs with configs/frozen.yaml, plainly, and plainly with
built-in signers to learn from too (--built-in, all by default); what this benchmark does not know
itself goes to each, and runs that are there already are not made again.
Writes results/two_stages.json after every signer, and results/two_stages.md from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hardware import hardware
from protocol_m import COVERAGE, main_job
from strangers import error_at

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import Recipe

RESULTS = Path(__file__).parent / "results"
FROZEN = ["--config", "configs/frozen.yaml"]
WITH_BUILT_IN = "with built-in signers"
STAGES: dict[str, list[str]] = {"frozen": FROZEN, "two stages": [], WITH_BUILT_IN: []}
BUILT_IN = Recipe(width=256, height=192, hand_only=True)
SIGNERS, EACH = 12, 4  # many people matter more than many pictures of each
AT = f"error where p-values keep {100 * COVERAGE:.0f} %"
ROWS = {  # row: the figure's place in metrics.json, and whether more is better
    "accuracy": (("known", "accuracy"), True),
    "coverage by the shipped rule": (("known", "coverage"), True),
    "error among the accepted": (("known", "selective_risk"), False),
    "NLL": (("known", "nll"), False),
    "wrong-gesture AUROC": (("sets", "wrong-gesture", "auroc"), True),
    "wrong-gesture FPR95": (("sets", "wrong-gesture", "fpr95"), False),
}


def figures_of(run: RunFolder) -> dict[str, Any]:
    """What the table shows of one run; minutes are those of its stages, whoever called for them."""
    tree = read_json(run.metrics)
    found: dict[str, Any] = {"minutes": sum(read_json(run.timings).values()) / 60}
    for name, (place, _) in ROWS.items():
        part = tree
        for key in place:
            part = part[key]
        found[name] = part["value"]
    found[AT] = error_at(run, COVERAGE)
    sets = tree["sets"].values()
    found["worst far FPR95"] = max(s["fpr95"]["value"] for s in sets if s["kind"] == "far")
    found["members"] = tree["about"]["members"]
    found["gains"] = read_json(run.members / "index.json").get("gains")
    return found


def table(tree: dict[str, Any]) -> str:
    """A row per figure and stage."""
    signers = sorted(tree["signers"])
    lines = [
        f"| | {' | '.join(f'hand{signer}' for signer in signers)} | mean | worst |",
        "| --- |" + " --- |" * (len(signers) + 2),
    ]
    better = {name: more for name, (_, more) in ROWS.items()}
    better |= {"worst far FPR95": False, AT: False}
    for name, more in better.items():
        for stage in STAGES:
            found = tree["runs"][stage]
            values = [found[str(s)][name] for s in signers if str(s) in found]
            if not values:
                continue
            each = [f"{found[str(s)][name]:.3f}" if str(s) in found else "–" for s in signers]
            whole = [np.mean(values), min(values) if more else max(values)]
            both = [f"{v:.3f}" if len(values) == len(signers) else "–" for v in whole]
            lines.append(f"| {name}, {stage} | {' | '.join(each + both)} |")
    for stage in STAGES:
        times = [tree["runs"][stage].get(str(signer), {}).get("minutes") for signer in signers]
        if all(times):
            cells = " | ".join(f"{value:.1f}" for value in [*times, np.mean(times), max(times)])
            lines.append(f"| minutes, {stage} | {cells} |")
    gains = [tree["runs"]["two stages"][str(signer)]["gains"] for signer in signers]
    before, after = (
        np.mean([gain[stage]["accuracy"] for gain in gains]) for stage in ("heads", "finetuned")
    )
    told = (
        f"Built-in signers: {SIGNERS}, {EACH} pictures of each label; the photographs of all five "
        "people had been looked at when their poses were drawn, so these rows are not held out as "
        "the others are. "
    )
    told = told if tree["runs"][WITH_BUILT_IN] else ""
    lines += [
        "",
        f"On training signers whom a network had not seen, fine-tuning raised accuracy from "
        f"{before:.3f} to {after:.3f} (mean over the runs; judges, one network each). "
        f"Trials per search: {tree['trials']}; {tree['settings']}. Strangers measured: "
        f"{len(signers)} of 5. {told}{tree['hardware']}. Made by `{tree['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/two-stages"))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--built-in", type=int, nargs="*", help="default: as --signers")
    known, more = parser.parse_known_args()
    pictures = (known.runs / "built-in").resolve()
    built_in = known.signers if known.built_in is None else known.built_in
    if built_in:
        synthesize(pictures, BUILT_IN, SIGNERS, EACH, 0, None)
    runs: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    cache = ["--data.cache", str((known.runs / "features").resolve())]
    for signer in known.signers:
        for stage, settings in STAGES.items():
            if stage == WITH_BUILT_IN:
                if signer not in built_in:
                    continue
                settings = [*settings, "--data.extra_signers", str(pictures / "signs")]
            root = (known.runs / stage.replace(" ", "-")).resolve()
            run, _ = main_job(known.data, root, signer, [*settings, *cache, *more])
            runs[stage][str(signer)] = figures_of(run)
        config = load_config(run)
        tree = {
            "signers": known.signers[: known.signers.index(signer) + 1],
            "runs": runs,
            "trials": config.search.trials,
            "settings": f"layers {config.finetune.layers}, {config.finetune.epochs} passes, "
            f"{config.ensemble.size} members",
            "hardware": hardware(),
            "command": " ".join(
                ["python benchmarks/two_stages.py --signers", *map(str, known.signers)]
                + (["--built-in", *map(str, built_in)] if known.built_in is not None else [])
                + more
            ),
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "two_stages.json").write_text(json.dumps(tree, indent=1) + "\n")
        (RESULTS / "two_stages.md").write_text(table(tree))
        print(table(tree), file=sys.stderr)


if __name__ == "__main__":
    main()

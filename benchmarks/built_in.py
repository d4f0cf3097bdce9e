"""The shipped rule, untouched, on built-in signers: each of some signers held out in turn.

    python benchmarks/built_in.py [--shipped] [--runs runs/built-in] [--held-out 1 2] [settings]

Renders five signers, 12 pictures of each of the 27 labels at 256×192, and 100 of each strange set
(once), and runs the main job for each signer held out: with configs/frozen.yaml, or with --shipped
as it comes, fine-tuned. What this benchmark does not know itself goes to the main job, and runs
that are there already are not made again.
Wrong gestures are the near set; no hand, two hands and cropped hands the far ones. The same answers
are looked at with the rules of ``parts.py`` too, whichever the training signers chose. Writes
results/built_in.json and results/built_in.md, with --shipped built_in_shipped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hardware import hardware
from parts import RULES, on_strangers

from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import Recipe

RESULTS = Path(__file__).parent / "results"
RECIPE = Recipe(seed=0, spread=1.0, width=256, height=192)
SIGNERS, EACH, STRANGE_EACH = 5, 12, 100
NEAR = {"wrong gestures": "wrong-gesture"}
FAR = {"no hand, things": "no-hand", "two hands": "two-hands", "cropped hands": "cropped"}


def main_job(pictures: Path, runs: Path, signer: str, shipped: bool, more: list[str]) -> RunFolder:
    """Run the main job as a user does."""
    run = RunFolder(runs / f"{'shipped-' * shipped}without-{signer}")
    config = [] if shipped else ["--config", "configs/frozen.yaml"]
    strange = {name: str(pictures / "strange" / folder) for name, folder in {**NEAR, **FAR}.items()}
    command = [
        sys.executable, "-m", "sign_ensemble.tune", *config,
        "--data.root", str(pictures / "signs"), "--data.test_signers", f"[{signer}]",
        "--evaluate.near", str({name: strange[name] for name in NEAR}),
        "--evaluate.far", str({name: strange[name] for name in FAR}),
        "--data.cache", str(runs / "features"), "--run.root", str(runs),
        "--run.name", run.path.name, "--wandb.mode", "disabled", *more,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return run


def figures_of(run: RunFolder) -> dict[str, Any]:
    """What the table shows of one run."""
    tree = read_json(run.metrics)
    return {
        "known": {name: tree["known"][name]["value"] for name in ("accuracy", "coverage")},
        "n": tree["known"]["accuracy"]["n"],
        "combination": tree["about"]["rule"],
        "sets": {
            name: {
                "n": found["n"],
                **{k: found[k]["value"] for k in ("auroc", "fpr95", "accepted", "overconfident")},
            }
            for name, found in tree["sets"].items()
        },
        "rules": {name: on_strangers(run, candidate) for name, candidate in RULES.items()},
    }


def table(results: dict[str, Any]) -> str:
    """results/built_in.md: a row per set, mean and worst over the signers held out."""
    found = list(results["held_out"].values())
    lines = [
        "| images | n | AUROC | FPR95 | answered | answered, ≥ .90 sure |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in found[0]["sets"]:
        each = [one["sets"][name] for one in found]

        def cell(figure: str, worst: Any, each: list[dict[str, float]] = each) -> str:
            values = [one[figure] for one in each]
            return f"{np.mean(values):.3f} / {worst(values):.3f}"

        cells = [cell("auroc", min), *(cell(k, max) for k in ("fpr95", "accepted"))]
        lines.append(
            f"| {name} | {each[0]['n']} | {' | '.join(cells)} | {cell('overconfident', max)} |"
        )
    accuracy, coverage = (
        np.mean([one["known"][name] for one in found]) for name in ("accuracy", "coverage")
    )
    lines += [
        "",
        "| what decides beside the guard | wrong gestures: AUROC | FPR95 | answered | "
        "worst far set, answered | signs answered |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    worst_of = {"auroc": min, "fpr95": max, "gestures": max, "far": max, "signs": min}
    for name in RULES:
        rules = [one["rules"][name] for one in found]
        shown = (
            f"{np.mean([rule[k] for rule in rules]):.3f} / {worst(rule[k] for rule in rules):.3f}"
            for k, worst in worst_of.items()
        )
        lines.append(f"| {name} | {' | '.join(shown)} |")
    lines += [
        "",
        "Chosen on training signers: " + "; ".join(one["combination"] for one in found) + ".",
        f"Mean / worst over {len(found)} built-in signers held out in turn, of {SIGNERS}; "
        f"{found[0]['n']} signs of each: accuracy {accuracy:.3f}, {coverage:.3f} answered. "
        f"{results['members']}; {results['hardware']}. Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Render what is missing, run, measure, write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/built-in"))
    parser.add_argument("--shipped", action="store_true", help="fine-tune, as the main job comes")
    parser.add_argument("--held-out", type=int, nargs="+", default=[1, 2])
    known, more = parser.parse_known_args()
    runs = known.runs.resolve()
    pictures = runs / "pictures"
    synthesize(pictures, RECIPE, SIGNERS, EACH, STRANGE_EACH, None)
    signers = sorted(path.name for path in (pictures / "signs").iterdir())
    held_out = {}
    for number in known.held_out:
        signer = signers[number - 1]
        held_out[signer] = figures_of(main_job(pictures, runs, signer, known.shipped, more))
    results = {
        "command": " ".join(
            [
                f"python benchmarks/built_in.py {'--shipped ' * known.shipped}--held-out",
                *map(str, known.held_out),
                *more,
            ]
        ),
        "members": "Fine-tuned members" if known.shipped else "Heads on frozen features",
        "hardware": hardware(),
        "held_out": held_out,
    }
    name = "built_in_shipped" if known.shipped else "built_in"
    write_json(RESULTS / f"{name}.json", results)
    (RESULTS / f"{name}.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()

"""How good is the rule on built-in signers, which nothing was chosen on?

Renders five signers, 12 pictures of each of the 27 labels at 256×192 and 100 of each
out-of-distribution set (once), and runs the main job as it comes for each signer held out. Unknown
settings go to the main job. Wrong gestures are the near set; no hand, two hands and cropped hands
far ones.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from shared.commands import TUNE
from shared.results import (
    Results,
    markdown,
    mean_worst,
    parse_with_settings,
    parser_of,
    publish,
)

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import Recipe

RECIPE = Recipe(seed=0, spread=1.0, width=256, height=192)
SIGNERS, EACH, OOD_EACH = 5, 12, 100
NEAR = {"wrong gestures": "wrong-gesture"}
FAR = {"no hand, things": "no-hand", "two hands": "two-hands", "cropped hands": "cropped"}
WORST: dict[str, Any] = {"auroc": min, "fpr95": max, "accepted": max, "overconfident": max}


def main_job(pictures: Path, signer: str, arguments: argparse.Namespace) -> RunFolder:
    """Run the main job as a user does."""
    runs = arguments.runs.resolve()
    run = RunFolder(runs / f"without-{signer}")
    ood = {name: str(pictures / "ood" / folder) for name, folder in {**NEAR, **FAR}.items()}
    command = [
        *TUNE, "--data.root", str(pictures / "signs"), "--data.test_signers", f"[{signer}]",
        "--evaluate.near", str({name: ood[name] for name in NEAR}),
        "--evaluate.far", str({name: ood[name] for name in FAR}),
        "--data.cache", str(runs / "features"), "--run.root", str(runs),
        "--run.name", run.path.name, "--wandb.mode", "disabled", *arguments.settings,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return run


def figures_of(run: RunFolder) -> dict[str, Any]:
    """What the table shows of one run."""
    tree = read_json(run.metrics)
    return {
        "known": {name: tree["known"][name]["value"] for name in ("accuracy", "coverage")},
        "n": tree["known"]["accuracy"]["n"],
        "rule": tree["about"]["rule"],
        "sets": {
            name: {"n": found["n"], **{figure: found[figure]["value"] for figure in WORST}}
            for name, found in tree["sets"].items()
        },
    }


def measure(arguments: argparse.Namespace) -> Results:
    """Every signer held out in turn."""
    pictures = arguments.runs.resolve() / "pictures"
    synthesize(pictures, RECIPE, SIGNERS, EACH, OOD_EACH, None)
    signers = sorted(path.name for path in (pictures / "signs").iterdir())
    held_out = [signers[number - 1] for number in arguments.held_out]
    return {
        "held_out": {
            signer: figures_of(main_job(pictures, signer, arguments)) for signer in held_out
        },
    }


def table(results: Results) -> str:
    """A row per set, mean and worst over the signers held out."""
    found = list(results["held_out"].values())
    rows = [
        [
            name,
            str(found[0]["sets"][name]["n"]),
            *(mean_worst([one["sets"][name][k] for one in found], WORST[k]) for k in WORST),
        ]
        for name in found[0]["sets"]
    ]
    accuracy, coverage = (
        np.mean([one["known"][name] for one in found]) for name in ("accuracy", "coverage")
    )
    header = ["images", "n", "AUROC", "FPR95", "accepted", "accepted, ≥ .90 confident"]
    rules = dict.fromkeys(one["rule"] for one in found)
    return markdown(header, rows) + (
        f"\nRule: {', and with the second signer '.join(rules)}.\n"
        f"Mean / worst over {len(found)} built-in signers held out in turn, of {SIGNERS}; "
        f"{found[0]['n']} signs of each: accuracy {accuracy:.3f}, {coverage:.3f} accepted. "
        f"{results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/built-in"))
    parser.add_argument("--held-out", type=int, nargs="+", default=[1, 2])
    arguments = parse_with_settings(parser)
    publish("built_in", arguments, measure, table)


if __name__ == "__main__":
    main()

"""Protocol M: what the search and the selection of members lower, the loss or what a rule answers.

    python benchmarks/two_stages.py ...       first: makes the runs, --runs/frozen
    python benchmarks/objectives.py --data ../shared/data [--signers 5 1]

For each signer left out, runs of ``configs/frozen.yaml``: as it is (the best trials by their loss);
members chosen greedily by the ensemble's loss, or by what the usual rule answers, of the same
trials; and a search by two objectives. Runs that are there already are not made again. Writes
results/objectives.json and results/objectives.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from hardware import hardware
from protocol_m import main_job

from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.run_folder import RunFolder

RESULTS = Path(__file__).parent / "results"
FROZEN = ["--config", "configs/frozen.yaml"]
AS_IT_IS = "the loss; its best trials"
GREEDY = ["--ensemble.method", "greedy"]
VARIANTS = {
    AS_IT_IS: [],
    "the loss; members by the ensemble's loss": GREEDY,
    "the loss; members by what the rule answers": [*GREEDY, "--ensemble.lowers", "augrc"],
    "both; the first of those unbeaten": ["--search.objective", "nll+augrc"],
}
ROWS = {  # figure: the place in metrics.json
    "accuracy": ("known", "accuracy"),
    "NLL": ("known", "nll"),
    "AUGRC, wrong gestures as failures": ("known", "augrc"),
    "wrong-gesture AUROC": ("sets", "wrong-gesture", "auroc"),
    "wrong-gesture FPR95": ("sets", "wrong-gesture", "fpr95"),
    "error among the accepted": ("known", "selective_risk"),
}


def figures_of(run: RunFolder) -> dict[str, Any]:
    """What the table shows of one run."""
    tree = read_json(run.metrics)
    found: dict[str, Any] = {}
    for name, place in ROWS.items():
        part = tree
        for key in place:
            part = part[key]
        found[name] = part["value"]
    members = read_json(run.members / "index.json")["members"]
    return found | {"members": len(members), "votes": sum(each["votes"] for each in members)}


def table(results: dict[str, Any]) -> str:
    """results/objectives.md: a row per variant, the mean over strangers."""
    lines = [
        f"| lowered by search and selection | members | {' | '.join(ROWS)} |",
        "| --- |" + " --- |" * (len(ROWS) + 1),
    ]
    for name, found in results["variants"].items():
        members = ", ".join(str(each["members"]) for each in found.values())
        cells = [f"{np.mean([each[row] for each in found.values()]):.3f}" for row in ROWS]
        lines.append(f"| {name} | {members} | {' | '.join(cells)} |")
    signers = next(iter(results["variants"].values()))
    lines += [
        "",
        f"Means over strangers {', '.join(f'hand{signer}' for signer in signers)}, one run of "
        f"heads on frozen features each; {results['hardware']}. Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, measure, write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/two-stages"))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    known, more = parser.parse_known_args()
    runs = known.runs.resolve()
    cache = ["--data.cache", str(runs / "features")]
    variants: dict[str, dict[str, Any]] = {name: {} for name in VARIANTS}
    for signer in known.signers:
        for number, (name, settings) in enumerate(VARIANTS.items()):
            root = runs / ("frozen" if name == AS_IT_IS else f"objectives-{number}")
            trials = root / f"protocol-m-{signer}" / "trials"
            if settings[:2] == GREEDY and not trials.exists():
                copytree(runs / "frozen" / f"protocol-m-{signer}" / "trials", trials)
            run, _ = main_job(known.data, root, signer, [*FROZEN, *cache, *settings, *more])
            variants[name][str(signer)] = figures_of(run)
    results = {
        "variants": variants,
        "hardware": hardware(),
        "command": " ".join(
            ["python benchmarks/objectives.py --signers", *map(str, known.signers), *more]
        ),
    }
    write_json(RESULTS / "objectives.json", results)
    (RESULTS / "objectives.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()

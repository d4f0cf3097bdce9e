"""Protocol M: the part that fits worst against the whole, as what tells wrong gestures from signs.

    python benchmarks/two_stages.py ...       first: makes the runs, --runs/frozen
    python benchmarks/parts.py [--runs runs/two-stages/frozen --signers 5 1]

Runs of ``configs/frozen.yaml``, one a stranger; no image is read again. Four rules: the distance of
the whole or of the worst part, with both guards, and either with total uncertainty beside it (what
members of heads have) or without (what ranks images where members are fine-tuned; these asked
whether a sign is read surely as a second question). On training signers: what the choice of
witnesses saw, signs whose labels were left out standing for wrong gestures. On strangers: what
evaluate saw. Writes results/parts.json and results/parts.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from confidence import columns_of, scores_of
from hardware import hardware
from strangers import KNOWN

from sign_ensemble import metrics
from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.config import RejectionConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.negatives import NO_HAND
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.candidates import FAR, Candidate, set_of
from sign_ensemble.rejection.choose import LEFT_OUT
from sign_ensemble.rejection.rule import UNSURE, accepts
from sign_ensemble.rejection.vetoes import HANDS

RESULTS = Path(__file__).parent / "results"
PART, WHOLE = "part_mahalanobis", "relative_mahalanobis"
RULES = {
    "whole, total uncertainty": Candidate((UNSURE, WHOLE, *HANDS, FAR), "guarded"),
    "**worst part, total uncertainty**": Candidate((UNSURE, PART, *HANDS, FAR), "guarded"),
    "whole": Candidate((WHOLE, *HANDS, FAR), "guarded"),
    "**worst part**": Candidate((PART, *HANDS, FAR), "guarded"),
}


def on_training_signers(run: RunFolder, candidate: Candidate) -> dict[str, float]:
    """What the choice of witnesses had seen of a candidate."""
    rows = read_json(run.rule)["choice"]["candidates"]
    (row,) = [
        row
        for row in rows
        if set_of(candidate)
        == (
            frozenset(row["combination"].split(" (")[0].split("+")),
            row["combination"].split(" (")[-1].rstrip(")"),
        )
    ]
    without_hand = max(row["accepted"][kind] for kind in NO_HAND)
    return {
        "augrc": row["cost"] - without_hand,
        "left_out": row["accepted"][LEFT_OUT],
        "without_hand": without_hand,
    }


def on_strangers(run: RunFolder, candidate: Candidate) -> dict[str, float]:
    """Figures of the run's answers with another rule over the same scores."""
    own = rule_file.load(run.rule)
    second = 0.0 if UNSURE in candidate.witnesses else RejectionConfig().uncertainty_share
    rule = replace(own, witnesses=candidate.witnesses, joined=candidate.joined, unsure=second)
    seen = columns_of(run, own)
    scores = scores_of(seen)
    strange_N, accepted_N = (
        rule.statistic(scores),
        accepts(rule.p_values(scores), rule.target_coverage),
    )
    known_N, near_N = (seen["kind"] == kind for kind in (KNOWN, "near"))
    failed_N = ~seen["right"]
    both_N = known_N | near_N
    far = [seen["set"] == name for name in np.unique(seen["set"][seen["kind"] == "far"])]
    return {
        "auroc": float(metrics.auroc(strange_N[known_N], strange_N[near_N])),
        "fpr95": float(metrics.fpr95(strange_N[known_N], strange_N[near_N])),
        "augrc": float(metrics.augrc(rule.doubt(scores)[both_N], failed_N[both_N])),
        "gestures": float(accepted_N[near_N].mean()),
        "signs": float(accepted_N[known_N].mean()),
        "errors": float(failed_N[known_N & accepted_N].mean()),
        "far_fpr95": max(float(metrics.fpr95(strange_N[known_N], strange_N[of])) for of in far),
        "far": max(float(accepted_N[of].mean()) for of in far),
    }


def table(results: dict[str, Any]) -> str:
    """results/parts.md: what README quotes."""
    columns = [
        "what decides beside the guard", "training signers: AUGRC",
        "left-out labels answered at 95 % of signs", "worst kind without a hand, worst split",
        "strangers: wrong gestures' AUROC, mean / worst", "FPR95, mean / worst", "AUGRC",
        "gestures answered", "signs answered", "errors among them", "worst far FPR95",
    ]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- |" + " --- |" * (len(columns) - 1)]
    for name, found in results["rules"].items():
        training, strangers = found["training"], found["strangers"]

        def mean(each: list[dict[str, float]], figure: str) -> str:
            return f"{np.mean([one[figure] for one in each]):.3f}"

        def worst(figure: str, of: Any, each: list[dict[str, float]] = strangers) -> str:
            return f"{of(one[figure] for one in each):.3f}"

        cells = [
            mean(training, "augrc"),
            mean(training, "left_out"),
            worst("without_hand", max, training),
            f"{mean(strangers, 'auroc')} / {worst('auroc', min)}",
            f"{mean(strangers, 'fpr95')} / {worst('fpr95', max)}",
            *(mean(strangers, name) for name in ("augrc", "gestures", "signs", "errors")),
            worst("far_fpr95", max),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Heads on frozen features, strangers {', '.join(results['strangers'])}, each read by one "
        f"run (n = {len(results['strangers'])}); {results['hardware']}. "
        "Made by `python benchmarks/parts.py`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Look at the runs and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/two-stages/frozen"))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    chosen = parser.parse_args()
    runs = [RunFolder(chosen.runs / f"protocol-m-{signer}") for signer in chosen.signers]
    results = {
        "strangers": [f"hand{signer}" for signer in chosen.signers],
        "rules": {
            name: {
                "training": [on_training_signers(run, candidate) for run in runs],
                "strangers": [on_strangers(run, candidate) for run in runs],
            }
            for name, candidate in RULES.items()
        },
        "hardware": hardware(),
    }
    write_json(RESULTS / "parts.json", results)
    text = table(json.loads((RESULTS / "parts.json").read_text()))
    (RESULTS / "parts.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""Protocol M: how sure strangers' answers are, with and without counting that there may be no sign.

    python benchmarks/two_stages.py ...       first: makes the runs, --runs/frozen
    python benchmarks/confidence.py [--runs runs/two-stages/frozen --signers 5 1]

Runs of ``configs/frozen.yaml`` on protocol M, one a stranger; no image is read again. Each is
looked at with its own rule, and with the rule that fine-tuned members have: the two distances. How
likely an image is to be a sign asks no member then: whatever fine-tuned members say, no larger
share of wrong gestures is answered surely than is that likely. Of an equal mixture of the
stranger's signs and wrong gestures: what share is right of the answers that are so sure, refused
ones counted too. Writes results/confidence.json and results/confidence.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hardware import hardware
from numpy.typing import NDArray
from strangers import KNOWN

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.pipeline.calibration import believed
from sign_ensemble.pipeline.hand_count_pictures import hand_count_images
from sign_ensemble.pipeline.held_out_labels import left_out_distances
from sign_ensemble.pipeline.out_of_signer import reference_rows, reference_set_of
from sign_ensemble.pipeline.preparation import prepare
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.answers_table import SCORE
from sign_ensemble.rejection.candidates import USUAL_FINETUNED
from sign_ensemble.rejection.rule import Rule, accepts

RESULTS = Path(__file__).parent / "results"
SURE = 0.9
BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)
OWN_RULE, DISTANCES = "three usual witnesses", "two distances, as with fine-tuned members"
ROWS = {
    "wrong gestures answered": ("near", None),
    "wrong gestures answered, a label ≥ .90 probable": ("near", "probability"),
    "wrong gestures answered, ≥ .90 sure": ("near", "confidence"),
    "wrong gestures answered, ≥ .90 likely to be signs": ("near", "sign"),
    "signs answered": (KNOWN, None),
    "signs answered, a label ≥ .90 probable": (KNOWN, "probability"),
    "signs answered, ≥ .90 sure": (KNOWN, "confidence"),
    "signs answered, ≥ .90 likely to be signs": (KNOWN, "sign"),
    "far images answered, ≥ .90 sure": ("far", "confidence"),
}
Columns = dict[str, NDArray[Any]]


def columns_of(run: RunFolder, rule: Rule) -> Columns:
    """answers.parquet as arrays; whether an answer is right, and how likely the image is a sign."""
    table = pq.read_table(run.answers).drop_columns(["picture"]).to_pydict()
    found = {name: np.array(values) for name, values in table.items()}
    found["right"] = (found["kind"] == KNOWN) & (found["answer"] == found["label"])
    if not rule.belief:
        raise SystemExit(f"{run.path}: its rule does not count that an image may be no sign")
    found["sign"] = rule.belief.of(rule.statistic(scores_of(found)))
    return found


def scores_of(seen: Columns) -> dict[str, NDArray[np.float64]]:
    """Every witness's scores."""
    return {name[len(SCORE) :]: v for name, v in seen.items() if name.startswith(SCORE)}


def by_distances(run: RunFolder, rule: Rule, seen: Columns) -> Columns:
    """The same images with the rule that fine-tuned members have."""
    prepared = prepare(load_config(run))
    chosen = reference_rows(prepared)
    bank = reference_set_of(prepared.task, chosen, hand_count_images(prepared))
    left_out = left_out_distances(prepared, bank, chosen)
    settings, scores = prepared.config.rejection, scores_of(seen)
    other = replace(
        rule,
        witnesses=USUAL_FINETUNED.witnesses,
        joined=USUAL_FINETUNED.joined,
        unsure=settings.uncertainty_share,
        belief=believed(USUAL_FINETUNED, left_out, settings.ood_prior),
    )
    assert other.belief  # as the run's own rule has one
    sign_N = other.belief.of(other.statistic(scores))
    return seen | {
        "accepted": accepts(other.p_values(scores), other.target_coverage),
        "sign": sign_N,
        "confidence": seen["confidence"] / seen["sign"] * sign_N,
    }


def shares(seen: Columns) -> list[float]:
    """A figure for each of ROWS."""
    found = []
    for kind, column in ROWS.values():
        answered = seen["accepted"] & (seen[column] >= SURE if column else True)
        found.append(float(answered[seen["kind"] == kind].mean()))
    return found


def reliability(each: Sequence[Columns], column: str) -> list[dict[str, float]]:
    """By how sure an answer is: the weight, mean sureness and share right of signs and wrong
    gestures, every stranger weighing the same and half of each being gestures.
    """
    sure, right, weights = [], [], []
    for seen in each:
        for kind in (KNOWN, "near"):
            mine = seen["kind"] == kind
            sure.append(seen[column][mine])
            right.append(seen["right"][mine])
            weights.append(np.full(mine.sum(), 0.5 / (len(each) * mine.sum())))
    sure_N, right_N, weights_N = (np.concatenate(part) for part in (sure, right, weights))
    bins = np.clip(np.searchsorted(BINS, sure_N, side="right") - 1, 0, len(BINS) - 2)
    return [
        {
            "from": BINS[i],
            "share": float(weights_N[bins == i].sum()),
            "sure": float(np.average(sure_N[bins == i], weights=weights_N[bins == i])),
            "right": float(np.average(right_N[bins == i], weights=weights_N[bins == i])),
        }
        for i in range(len(BINS) - 1)
        if (bins == i).any()
    ]


def table(results: dict[str, Any]) -> str:
    """results/confidence.md: what README quotes."""
    strangers = results["strangers"]
    lines = []
    for rule, figures in results["shares"].items():
        lines.append(f"| {rule} | {' | '.join(strangers)} | mean |")
        lines.append("| --- |" + " --- |" * (len(strangers) + 1))
        for name, values in zip(ROWS, np.array(figures).T.tolist(), strict=True):
            cells = " | ".join(f"{value:.3f}" for value in [*values, float(np.mean(values))])
            lines.append(f"| {name} | {cells} |")
        lines.append("")
    lines += [
        "| of signs and as many wrong gestures | share | mean | right |",
        "| --- | --- | --- | --- |",
    ]
    for name, bins in results["reliability"].items():
        for at in bins:
            lines.append(
                f"| {name} from {at['from']:.2f} | {at['share']:.3f} | {at['sure']:.3f} "
                f"| {at['right']:.3f} |"
            )
    lines += [
        "",
        f"Heads on frozen features; n = {len(strangers)} runs, one a stranger; "
        f"{results['hardware']}. Made by `python benchmarks/confidence.py`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Look at the runs and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/two-stages/frozen"))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    seen: dict[str, list[Columns]] = {OWN_RULE: [], DISTANCES: []}
    for signer in chosen.signers:
        run = RunFolder(chosen.runs / f"protocol-m-{signer}")
        rule = rule_file.load(run.rule)
        columns = columns_of(run, rule)
        seen[OWN_RULE].append(columns)
        seen[DISTANCES].append(by_distances(run, rule, columns))
    results = {
        "strangers": [f"hand{signer}" for signer in chosen.signers],
        "shares": {rule: [shares(each) for each in of] for rule, of in seen.items()},
        "reliability": {
            "probability": reliability(seen[OWN_RULE], "probability"),
            "confidence": reliability(seen[OWN_RULE], "confidence"),
            "confidence by two distances": reliability(seen[DISTANCES], "confidence"),
        },
        "hardware": hardware(),
    }
    chosen.results.mkdir(parents=True, exist_ok=True)
    write_json(chosen.results / "confidence.json", results)
    text = table(json.loads((chosen.results / "confidence.json").read_text()))
    (chosen.results / "confidence.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

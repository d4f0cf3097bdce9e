"""The comparison: this project's shipped rule against other libraries' ways, on protocol M.

    python benchmarks/protocol_m.py ...     first: makes the runs
    python benchmarks/rejection.py --data ../shared/data [--seeds 0 1 2]

Rivals learn from the same training signers' frozen features and views, their heads by this
project's loop, or are detectors on one of the run's fine-tuned members; what each reads and scores
is in rivals.py. FPR95 has an oracle's threshold for
every method alike. What is measured already is kept, so that seeds can be added. Needs
``pip install lightning``, which torch-uncertainty imports and does not bring. Writes
results/rejection.json, results/rejection.md and docs/rejection.png.
"""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from confidence import columns_of, scores_of
from disagreeing import FIRST, disagreeing
from hardware import hardware
from kept import SHOWN, curves, mean_curves, plot
from numpy.typing import NDArray
from rivals import Found, Shown, finetuned, let_torchvision_load, rivals
from strangers import KNOWN, NEAR, images_of_stranger

from sign_ensemble import metrics
from sign_ensemble.core.atomic_files import read_arrays, read_json, write_json
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data.feature_cache import features_of_images, plain_features
from sign_ensemble.pipeline.finetuned_members import pixel_task
from sign_ensemble.pipeline.preparation import prepare
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.ensemble import load_ensemble

RESULTS = Path(__file__).parent / "results"
PLOT = Path(__file__).parents[1] / "docs" / "rejection.png"
OURS = "sign_ensemble, shipped"


def figures(name: str, found: Found, truth_N: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy on the signs, AUGRC with wrong gestures as failures, AUROC and FPR95 by set; curves
    of what the plot shows.
    """
    answers_N, scores = found
    wrong_N = answers_N != truth_N
    failed = np.concatenate([wrong_N, np.ones(len(scores[NEAR]), bool)])
    return {
        "accuracy": float(1 - wrong_N.mean()),
        "augrc": float(metrics.augrc(np.concatenate([scores[KNOWN], scores[NEAR]]), failed)),
        "sets": {
            name: {
                "auroc": float(metrics.auroc(scores[KNOWN], values)),
                "fpr95": float(metrics.fpr95(scores[KNOWN], values)),
            }
            for name, values in scores.items()
            if name != KNOWN
        },
        **({"curves": curves(scores, wrong_N)} if name in SHOWN else {}),
    }


def shipped(run: RunFolder) -> dict[str, Any]:
    """The same figures of the run's own evaluation, and curves of its rule."""
    tree, rule = read_json(run.metrics), rule_file.load(run.rule)
    seen = columns_of(run, rule)
    strange_N, doubt_N = rule.statistic(scores_of(seen)), rule.doubt(scores_of(seen))
    strange, doubts = (
        {str(name): by_N[seen["set"] == name] for name in np.unique(seen["set"])}
        for by_N in (strange_N, doubt_N)
    )
    wrong_N = ~seen["right"][seen["set"] == KNOWN]
    return {
        "accuracy": tree["known"]["accuracy"]["value"],
        "augrc": tree["known"]["augrc"]["value"],
        "sets": {
            name: {key: each[key]["value"] for key in ("auroc", "fpr95")}
            for name, each in tree["sets"].items()
        },
        "curves": curves(strange, wrong_N, doubts),
    }


def measure(
    run: RunFolder, data: Path, kept: dict[str, dict[str, Any]], seeds: list[int]
) -> dict[str, dict[str, Any]]:
    """Seed → method → figures of one stranger, what is measured already among them."""
    prepared = prepare(load_config(run))
    weights = prepared.config.data.weights
    images, truth_N = images_of_stranger(run, data)
    features = {name: features_of_images(x, weights).head_ND for name, x in images.items()}
    plain_NE = plain_features(prepared.task.features)
    member = load_ensemble(run.members, weights).members[0]
    made, _ = read_arrays(run.negatives)
    found = dict(kept)
    for seed in seeds:
        shown = Shown(prepared.task, made["features"], features, plain_NE, seed)
        ways = disagreeing(shown)
        if str(seed) not in kept:
            ways = chain(rivals(shown), ways)
            if member.card.learned:
                ways = chain(ways, finetuned(shown, member, images, pixel_task(prepared)))
        new = {name: figures(name, each, truth_N) for name, each in ways}
        found[str(seed)] = {**kept.get(str(seed), {}), **new}
    return found


def table(results: dict[str, Any]) -> str:
    """results/rejection.md: a row per method, over signers; ± over seeds."""
    strangers = results["strangers"]
    seeds = sorted({seed for each in strangers.values() for seed in each["rivals"]})
    measured = [each["rivals"][seeds[0]] for each in strangers.values()]
    methods = list(dict.fromkeys(method for found in measured for method in found))
    lines = [
        "| method | accuracy, mean / worst | wrong gestures: AUROC, mean / worst | FPR95, mean / "
        "worst | far sets: FPR95, mean / worst set and signer | AUGRC |",
        "| --- |" + " --- |" * 5,
    ]

    def cells(by_seed: list[list[dict[str, Any]]]) -> str:
        """By seed, then by signer."""

        def cell(of: Any, worst: Any) -> str:
            means = [float(np.mean([of(each) for each in signers])) for signers in by_seed]
            worsts = [worst(of(each) for each in signers) for signers in by_seed]
            spread = f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else ""
            return f"{np.mean(means):.3f}{spread} / {np.mean(worsts):.3f}"

        def far(each: dict[str, Any], pick: Any) -> float:
            return float(pick([v["fpr95"] for k, v in each["sets"].items() if k != NEAR]))

        worst_far = np.mean([max(far(each, max) for each in signers) for signers in by_seed])
        mean_far = np.mean([[far(each, np.mean) for each in signers] for signers in by_seed])
        return " | ".join(
            [
                cell(lambda each: each["accuracy"], min),
                cell(lambda each: each["sets"][NEAR]["auroc"], min),
                cell(lambda each: each["sets"][NEAR]["fpr95"], max),
                f"{mean_far:.3f} / {worst_far:.3f}",
                cell(lambda each: each["augrc"], max).split(" / ")[0],
            ]
        )

    for method in methods:
        there = {
            name: each["rivals"] for name, each in strangers.items()
            if all(method in each["rivals"].get(seed, {}) for seed in seeds)
        }  # fmt: skip
        by_seed = [[found[seed][method] for found in there.values()] for seed in seeds]
        who = f" (hand{', hand'.join(there)})" if len(there) < len(strangers) else ""
        lines.append(f"| {method}{who} | {cells(by_seed)} |")
    lines.append(f"| **{OURS}** | {cells([[each['shipped'] for each in strangers.values()]])} |")
    lines += [
        "",
        f"Protocol M, strangers hand{', hand'.join(strangers)}; rivals n = {len(seeds)} "
        f"seed{'s' if len(seeds) > 1 else ''}, the shipped default n = 1. One model and the deep "
        "ensemble are heads with views as the members have, not searched for; the fine-tuned model "
        "is the first of the shipped members; LogitNorm, outlier exposure, random priors and D-BAT "
        "are three heads each; detectors are "
        f"pytorch-ood's {results['versions']['pytorch-ood']}, MC dropout and packed ensembles "
        f"torch-uncertainty's {results['versions']['torch-uncertainty']}. {results['hardware']}. "
        f"Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is not measured yet, then write the table."""
    from importlib.metadata import version

    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only the runs are read anew"
    )
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    chosen = parser.parse_args()
    path = RESULTS / "rejection.json"
    results = read_json(path) if path.exists() else {"strangers": {}}
    if not chosen.table:
        let_torchvision_load()
        torch.set_num_threads(2)
        for signer in chosen.signers:
            run = RunFolder(chosen.runs / f"protocol-m-{signer}")
            if not run.metrics.exists():
                raise SystemExit(f"{run.path} has no evaluation: run benchmarks/protocol_m.py")
            kept = results["strangers"].get(str(signer), {"rivals": {}})["rivals"]
            seeds = [seed for seed in chosen.seeds if FIRST not in kept.get(str(seed), {})]
            found = measure(run, chosen.data, kept, seeds) if seeds else kept
            results["strangers"][str(signer)] = {"shipped": shipped(run), "rivals": found}
            results["strangers"] = dict(sorted(results["strangers"].items()))
            results["hardware"] = hardware()
            results["versions"] = {
                name: version(name) for name in ("pytorch-ood", "torch-uncertainty")
            }
            if chosen.seeds:
                numbers = " ".join(map(str, chosen.seeds))
                results["command"] = f"python benchmarks/rejection.py --seeds {numbers}"
            write_json(path, results)
            print(json.dumps({"measured": signer, "seeds": seeds}), flush=True)
    text = table(results)
    (RESULTS / "rejection.md").write_text(text)
    strangers = results["strangers"].values()
    by_method: dict[str, list[dict[str, Any]]] = {OURS: [each["shipped"] for each in strangers]}
    for each in chain.from_iterable(stranger["rivals"].values() for stranger in strangers):
        for name in SHOWN:
            by_method.setdefault(name, []).append(each[name])
    plot({name: mean_curves(each) for name, each in by_method.items()}, OURS, PLOT)
    print(text)


if __name__ == "__main__":
    main()

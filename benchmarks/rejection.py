"""How does the rule compare with other libraries' ways to reject, on protocol M?

Needs the runs of protocol_m.py, and ``pip install lightning``, which torch-uncertainty imports and
does not bring. Rivals learn from the same training signers' frozen features and augmented copies,
their heads by this project's loop, or are detectors on one of the run's fine-tuned members; see
shared/rivals.py and shared/disagreeing.py. FPR95 has the unseen signer's own threshold for every
method alike. What is measured already is kept, so that seeds can be added. Writes
docs/rejection.png too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared.comparison_plot import SHOWN, curves, mean_curves, plot
from shared.disagreeing import FIRST, disagreeing
from shared.results import ROOT, Results, markdown, protocol_parser, publish, save, stored
from shared.rivals import Found, Shown, finetuned, let_torchvision_load, rivals
from shared.unseen_signer import KNOWN, NEAR, answers_of, images_of_unseen_signer

from sign_ensemble import metrics
from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data.feature_cache import features_of_images, plain_features
from sign_ensemble.data.hand_count_negatives import SIGNS, pictures_of_fold
from sign_ensemble.learning.task import seed_of
from sign_ensemble.pipeline.finetuned_members import pixel_task
from sign_ensemble.pipeline.preparation import Prepared, prepare, read_images
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.answers_table import SCORE
from sign_ensemble.rejection.ensemble import read_ensemble

NAME = "rejection"
OURS = "sign_ensemble, shipped"
Figures = dict[str, Any]


def figures(name: str, found: Found, truth_N: NDArray[np.int64]) -> Figures:
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


def shipped(run: RunFolder) -> Figures:
    """The same figures of the run's own evaluation, and curves of its rule."""
    tree, seen, (rule, _) = read_json(run.metrics), answers_of(run), rule_file.load(run.rule)
    scores = {name[len(SCORE) :]: v for name, v in seen.items() if name.startswith(SCORE)}
    ood, rejection = (
        {str(name): by_N[seen["set"] == name] for name in np.unique(seen["set"])}
        for by_N in (rule.statistic(scores), rule.rejection_score(scores))
    )
    wrong_N = ~seen["right"][seen["set"] == KNOWN]
    return {
        "accuracy": tree["known"]["accuracy"]["value"],
        "augrc": tree["known"]["augrc"]["value"],
        "sets": {
            name: {key: each[key]["value"] for key in ("auroc", "fpr95")}
            for name, each in tree["sets"].items()
        },
        "curves": curves(ood, wrong_N, rejection),
    }


def negatives_of(prepared: Prepared) -> NDArray[np.float16]:
    """Features (G, D) of pictures of no hand and of two, made of every fold's signs."""
    config, task = prepared.config, prepared.task
    each = config.rejection.hand_count_images
    parts = []
    for fold in range(task.folds):
        rows = np.flatnonzero(task.folds_N == fold).tolist()
        signs = read_images(prepared.rows, prepared.manifest.root, config.data, rows)
        pictures = pictures_of_fold(each, seed_of(task.seed, fold), signs)
        parts.append(pictures[np.repeat(SIGNS, each) != 1])
    return features_of_images(np.concatenate(parts), config.data.weights).head_ND


def measured(
    run: RunFolder, arguments: argparse.Namespace, kept: dict[str, Figures], seeds: list[int]
) -> dict[str, Figures]:
    """Seed → method → figures of one unseen signer, what is measured already among them."""
    prepared = prepare(load_config(run))
    weights = prepared.config.data.weights
    images, truth_N = images_of_unseen_signer(run, arguments.data)
    features = {name: features_of_images(x, weights).head_ND for name, x in images.items()}
    plain_ND = plain_features(prepared.task.features)
    member = read_ensemble(run.members, weights).members[0]
    negatives_GD = negatives_of(prepared)
    found = dict(kept)
    for seed in seeds:
        shown = Shown(prepared.task, negatives_GD, features, plain_ND, seed)
        ways = disagreeing(shown)
        if str(seed) not in kept:
            ways = chain(rivals(shown), ways)
            if member.card.learned:
                ways = chain(ways, finetuned(shown, member, images, pixel_task(prepared)))
        new = {name: figures(name, each, truth_N) for name, each in ways}
        found[str(seed)] = {**kept.get(str(seed), {}), **new}
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Every signer, what is not measured yet."""
    let_torchvision_load()
    torch.set_num_threads(2)
    results = stored(arguments, NAME)
    if results.get("protocol") != "M2":  # figures of protocol M do not mix with these
        results = {"protocol": "M2", "signers": {}}
    for signer in arguments.signers:
        run = RunFolder(arguments.runs / f"protocol-m-{signer}")
        if not run.metrics.exists():
            raise SystemExit(f"{run.path} has no evaluation: run benchmarks/protocol_m.py")
        kept = results["signers"].get(str(signer), {"rivals": {}})["rivals"]
        seeds = [seed for seed in arguments.seeds if FIRST not in kept.get(str(seed), {})]
        found = measured(run, arguments, kept, seeds) if seeds else kept
        results["signers"][str(signer)] = {"shipped": shipped(run), "rivals": found}
        results["signers"] = dict(sorted(results["signers"].items()))
        results["versions"] = {name: version(name) for name in ("pytorch-ood", "torch-uncertainty")}
        save(arguments, NAME, results)
    return results


def cells(by_seed: list[list[Figures]]) -> list[str]:
    """A method's cells, its figures given by seed, then by signer; ± over seeds."""

    def cell(of: Callable[[Figures], float], worst: Callable[[Sequence[float]], float]) -> str:
        means = [float(np.mean([of(each) for each in signers])) for signers in by_seed]
        worsts = [worst([of(each) for each in signers]) for signers in by_seed]
        spread = f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else ""
        return f"{np.mean(means):.3f}{spread} / {np.mean(worsts):.3f}"

    far = [
        [[v["fpr95"] for k, v in each["sets"].items() if k != NEAR] for each in signers]
        for signers in by_seed
    ]
    mean_far = np.mean([[np.mean(sets) for sets in signers] for signers in far])
    worst_far = np.mean([max(max(sets) for sets in signers) for signers in far])
    return [
        cell(lambda each: each["accuracy"], min),
        cell(lambda each: each["sets"][NEAR]["auroc"], min),
        cell(lambda each: each["sets"][NEAR]["fpr95"], max),
        f"{mean_far:.3f} / {worst_far:.3f}",
        cell(lambda each: each["augrc"], max).split(" / ")[0],
    ]


def table(results: Results) -> str:
    """A row per method, over signers; ± over seeds."""
    signers = results["signers"]
    seeds = sorted({seed for each in signers.values() for seed in each["rivals"]})
    methods = dict.fromkeys(
        method for each in signers.values() for method in each["rivals"][seeds[0]]
    )
    rows = []
    for method in methods:
        there = {
            name: each["rivals"] for name, each in signers.items()
            if all(method in each["rivals"].get(seed, {}) for seed in seeds)
        }  # fmt: skip
        by_seed = [[found[seed][method] for found in there.values()] for seed in seeds]
        who = f" (hand{', hand'.join(there)})" if len(there) < len(signers) else ""
        rows.append([f"{method}{who}", *cells(by_seed)])
    rows.append([f"**{OURS}**", *cells([[each["shipped"] for each in signers.values()]])])
    header = [
        "method", "accuracy, mean / worst", "wrong gestures: AUROC, mean / worst",
        "FPR95, mean / worst", "far sets: FPR95, mean / worst set and signer", "AUGRC",
    ]  # fmt: skip
    return markdown(header, rows) + (
        f"\nProtocol {results['protocol']}, unseen signers hand{', hand'.join(signers)}; rivals n "
        f"= {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, the shipped default n = 1. One model "
        "and the deep ensemble are heads with augmentation as the members have, not searched for; "
        "the fine-tuned model is the first of the shipped members; LogitNorm, outlier exposure, "
        "random priors and D-BAT are three heads each; detectors are pytorch-ood's "
        f"{results['versions']['pytorch-ood']}, MC dropout and packed ensembles "
        f"torch-uncertainty's {results['versions']['torch-uncertainty']}. {results['hardware']}; "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure, write and draw."""
    parser = protocol_parser(__doc__)
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only the runs are read anew"
    )
    results = publish(NAME, parser.parse_args(), measure, table)
    signers = results["signers"].values()
    by_method: dict[str, list[Figures]] = {OURS: [each["shipped"] for each in signers]}
    for each in chain.from_iterable(signer["rivals"].values() for signer in signers):
        for name in SHOWN:
            by_method.setdefault(name, []).append(each[name])
    mean = {name: mean_curves(each) for name, each in by_method.items()}
    plot(mean, OURS, ROOT / "docs" / "rejection.png")


if __name__ == "__main__":
    main()

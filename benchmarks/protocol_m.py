"""How good is the main job on five real people, each held out in turn?

Protocol M2: Massey University's letters; the main job learns from four people, the fifth one's
letters are the signs, and the digits 3, 4, 5, 7 and 8 of that person the wrong gestures. (Rows of
protocol M had the digit 1 too, which is the hand of Z.) Unknown settings go to the main job, and
runs that are there are not made again. An ordinary implementation is measured on the same
splits: the default recipe on plain features, one model with max-prob, and five such models of
varied width, dropout and learning rate with entropy and with mutual information.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared.commands import protocol_m_run
from shared.heads import entropy, fifth_alone, max_prob, mean_probs, mutual_information
from shared.results import (
    Results,
    markdown,
    mean_worst,
    parse_with_settings,
    protocol_parser,
    publish,
    save,
    stored,
)
from shared.unseen_signer import KNOWN, accepted_at, error_at, images_of_unseen_signer

from sign_ensemble import metrics
from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.config import Config, MemberConfig
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data import manifest
from sign_ensemble.data.feature_cache import features_of_images, features_of_rows
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.network import logits_of
from sign_ensemble.learning.task import Task

NAME, PROTOCOL = "protocol_m", "M2"
COVERAGE = 0.88
TARGETS = (0.95, 0.9, 0.85, 0.8, 0.75)
NEAR, FOREIGN = "wrong-gesture", "foreign-hands"
PLAIN = MemberConfig(validation_share=0.0, components=0)
ORDINARY = [
    PLAIN,
    replace(PLAIN, widths=(512, 256), learning_rate=2e-4),
    replace(PLAIN, widths=(1024, 256), dropout=0.3),
    replace(PLAIN, widths=(512, 512), dropout=0.6),
    replace(PLAIN, widths=(256, 128), dropout=0.4, learning_rate=3e-4),
]
ONE, ENTROPY, INFORMATION = (
    "one model, max-prob", "ensemble, entropy", "ensemble, mutual information",
)  # fmt: skip
SCORES = {ONE: (1, max_prob), ENTROPY: (5, entropy), INFORMATION: (5, mutual_information)}


def ordinary(run: RunFolder, data: Path, runs: Path) -> dict[str, Any]:
    """The ordinary implementation on the run's own split: figures by score."""
    config = load_config(run)
    plain = replace(config.data, augmentations=0, crop="none")
    listed = manifest.read(run.manifest)
    rows, labels = listed.rows("train"), listed.labels
    both = features_of_rows(rows, listed.root, plain, runs / "features")
    features = fifth_alone(both, Path(both.path).with_name("fifth.f16"))
    labels_N = np.array([labels.index(label) for label in rows.column("label").to_pylist()])
    task = Task(features, labels_N, np.zeros(len(rows), np.int64), ("",), tuple(labels), 0)
    heads = [
        fit_rows(task, recipe, np.arange(len(rows)), i)[0] for i, recipe in enumerate(ORDINARY)
    ]

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = features_of_images(images, plain.weights).fifth_ND
        return np.stack([logits_of(head, values) for head in heads])

    images, truth_N = images_of_unseen_signer(run, data)
    sets = {name: logits(each) for name, each in images.items()}
    known = sets.pop(KNOWN)
    return {
        name: {
            "accuracy": float(metrics.accuracy(mean_probs(known[:members]), truth_N)),
            "sets": {
                key: {
                    "auroc": float(metrics.auroc(score(known[:members]), score(each[:members]))),
                    "fpr95": float(metrics.fpr95(score(known[:members]), score(each[:members]))),
                    "overconfident": float(np.mean(mean_probs(each[:1]).max(-1) >= 0.9)),
                }
                for key, each in sets.items()
            },
        }
        for name, (members, score) in SCORES.items()
    }


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
        "at_targets": accepted_at(run, TARGETS),
        "n": {
            "known": tree["known"]["accuracy"]["n"],
            **{name: figures["n"] for name, figures in tree["sets"].items()},
        },
    }


def measure(arguments: argparse.Namespace) -> Results:
    """Every signer; what is measured of the ordinary implementation already is kept."""
    there = stored(arguments, NAME).get("signers", {})  # of protocol M2 alone: the two do not mix
    results: Results = {"signers": {k: v for k, v in there.items() if v["protocol"] == PROTOCOL}}
    for signer in arguments.signers:
        run, seconds = protocol_m_run(arguments.data, arguments.runs, signer, arguments.settings)
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
            "protocol": PROTOCOL,
            "seconds": seconds,
            "settings": settings,
            "rule": read_json(run.metrics)["about"]["rule"],
            "shipped": shipped(run),
            "ordinary": before.get("ordinary") or ordinary(run, arguments.data, arguments.runs),
        }
        results["signers"] = dict(sorted(results["signers"].items()))
        save(arguments, NAME, results)
    return results


def table(results: Results) -> str:
    """A row per figure, then a row per out-of-distribution set."""
    signers = results["signers"]
    each = signers.values()

    def of(*path: str) -> list[float]:
        found = []
        for value in each:
            for step in path:
                value = value[step]
            found.append(float(value))
        return found

    def row(title: str, values: list[float], worst: Any) -> list[str]:
        numbers = [*values, float(np.mean(values)), worst(values)]
        return [title, *(f"{value:.3f}" for value in numbers)]

    ours = ("shipped", "ensemble")
    known = (*ours, "known")
    asked_for = next(iter(each))["settings"]["rejection"]["target_coverage"]
    rows = [
        *(
            row(f"ordinary: accuracy, {title}", of("ordinary", name, "accuracy"), min)
            for name, title in ((ONE, "one model"), (ENTROPY, "ensemble"))
        ),
        row("accuracy, best single member", of("shipped", "single", "known", "accuracy"), min),
        row("**accuracy, ensemble**", of(*known, "accuracy"), min),
        row(f"coverage (target {asked_for})", of(*known, "coverage"), min),
        row("error among the accepted", of(*known, "selective_risk"), max),
        row(
            f"error among the accepted at the p-value that accepts {100 * COVERAGE:.0f} %",
            of("shipped", "error_at"),
            max,
        ),
        row("ECE, 15 equal-mass bins", of(*known, "ece"), max),
        row("AURC, wrong gestures as failures", of(*known, "aurc"), max),
        row("AUGRC, wrong gestures as failures", of(*known, "augrc"), max),
        row("AUROC of wrong gestures", of(*ours, "sets", "wrong-gesture", "auroc"), min),
    ]
    header = ["", *(f"hand{name}" for name in signers), "mean", "worst"]
    sets = []
    for name in next(iter(each))["shipped"]["ensemble"]["sets"]:
        plain = (mean_worst(of("ordinary", kind, "sets", name, "fpr95"), max) for kind in SCORES)
        sets.append(
            [
                name,
                *plain,
                f"**{mean_worst(of(*ours, 'sets', name, 'fpr95'), max)}**",
                mean_worst(of(*ours, "sets", name, "auroc"), min),
                mean_worst(of(*ours, "sets", name, "accepted"), max),
                mean_worst(of("ordinary", ONE, "sets", name, "overconfident"), max),
                mean_worst(of(*ours, "sets", name, "overconfident"), max),
            ]
        )
    at = [*ours[:1], "at_targets"]
    targets = [
        [
            str(target),
            *(f"{value:.3f}" for value in of(*at, str(target), KNOWN)),
            *(f"{np.mean(of(*at, str(target), name)):.3f}" for name in (NEAR, FOREIGN)),
        ]
        for target in TARGETS
    ]
    set_header = [
        "set", "ordinary FPR95: max-prob", "entropy", "mutual information", "FPR95 of the rule",
        "AUROC of the rule", "accepted by the rule", "one model ≥ 0.90 confident",
        "accepted and ≥ 0.90 confident",
    ]  # fmt: skip
    seconds = [float(s["seconds"]) for s in each if s["seconds"] is not None]
    took = (
        f"The main job took {min(seconds):.0f} to {max(seconds):.0f} s per signer (n = "
        f"{len(seconds)}). "
        if seconds
        else ""
    )
    digits = {"M": "digits 1, 3, 4, 5, 7, 8", PROTOCOL: "digits 3, 4, 5, 7, 8"}
    (protocol,) = {s["protocol"] for s in each}
    trials = ", ".join(map(str, sorted({s["settings"]["trials"] for s in each})))
    return (
        markdown(header, rows)
        + "\nPer set, mean / worst over the signers:\n\n"
        + markdown(set_header, sets)
        + "\nSigns of each signer answered, and other sets in the mean, had another target "
        "coverage been asked for (by the same p-values):\n\n"
        + markdown(["target", *(f"hand{name}" for name in signers), NEAR, FOREIGN], targets)
        + f"\nProtocol {protocol}: wrong gestures are {digits[protocol]}. "
        f"Rule: {'; '.join(sorted({s['rule'] for s in each}))}. "
        f"Trials per search: {trials} (default {Config().search.trials}). {took}"
        "FPR95 is the share of a set that is accepted where the threshold accepts 95 % of the "
        f"signer's signs. n = {len(signers)} runs, one seed; {results['hardware']}; "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = protocol_parser(__doc__)
    arguments = parse_with_settings(parser)
    publish(NAME, arguments, measure, table)


if __name__ == "__main__":
    main()

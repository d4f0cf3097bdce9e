"""What do heads gain by learning along principal components of their features?

Protocol M's training signers alone: the held-out signer's images are not read. Each of the other
four is left out in turn, and heads of the default recipe are measured on it: on all features of
both layers, along fewer and fewer components, and along components of the fifth layer alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.heads import fifth_alone
from shared.results import (
    Results,
    markdown,
    parse_with_settings,
    protocol_parser,
    publish,
    save,
    stored,
)

from sign_ensemble.core.command_line import config_of, parser_for
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.learning.fold_models import fit_fold
from sign_ensemble.learning.task import seed_of
from sign_ensemble.pipeline.preparation import Prepared, prepare

NAME = "principal_components"
RECIPE = MemberConfig(augment_prob=0.7, epochs=15)
FIFTH = "512 components of the fifth layer alone"
CASES = {  # what the first layer reads, and how many components that is (0: all features)
    "all 12,672 features": 0, "512 components": 512, "128 components": 128, FIFTH: 512,
}  # fmt: skip
FIGURES = ("accuracy", "nll", "seconds")


def prepared_without(signer: int, arguments: argparse.Namespace) -> Prepared:
    """Protocol M's training images of the other four, with features and folds."""
    parser = parser_for("tune", "")
    given = [
        "--config", "configs/massey.yaml", "--data.root", str(arguments.data / "massey-asl"),
        "--data.test_signers", f"[{signer}]", "--run.root", str(arguments.runs),
        "--run.name", f"components-{signer}", "--wandb.mode", "disabled", *arguments.settings,
    ]  # fmt: skip
    return prepare(config_of(parser, parser.parse_args(given)))


def of_signer(prepared: Prepared, seeds: list[int]) -> dict[str, dict[str, list[float]]]:
    """Case → FIGURES of each head, fold by fold and seed by seed."""
    found: dict[str, dict[str, list[float]]] = {
        case: {figure: [] for figure in FIGURES} for case in CASES
    }
    task = prepared.task
    fifth = replace(
        task, features=fifth_alone(task.features, Path(str(prepared.run.path)) / "fifth.f16")
    )
    for fold in range(task.folds):
        for seed in seeds:
            for case, count in CASES.items():
                recipe, of = replace(RECIPE, components=count), fifth if case == FIFTH else task
                result, _ = fit_fold(of, recipe, fold, seed_of(seed, 0, fold))
                for name, values in found[case].items():
                    values.append(float(getattr(result, name)))
                print(f"fold {fold}, {case}: {result.nll:.3f} in {result.seconds:.1f} s")
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Every signer."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {"signers": stored(arguments, NAME).get("signers", {})}
    for signer in arguments.signers:
        prepared = prepared_without(signer, arguments)
        results["signers"][str(signer)] = of_signer(prepared, arguments.seeds)
        save(arguments, NAME, results)
    return results


def table(results: Results) -> str:
    """A row per case and signer."""
    rows = []
    for case in CASES:
        for signer, found in results["signers"].items():
            accuracy, nll, seconds = (float(np.mean(found[case][name])) for name in FIGURES)
            rows.append([case, f"hand{signer}", f"{accuracy:.3f}", f"{nll:.3f}", f"{seconds:.1f}"])
    heads = {len(found[FIFTH]["nll"]) for found in results["signers"].values()}
    header = ["first layer reads", "protocol M without", "accuracy", "NLL", "seconds per head"]
    return markdown(header, rows) + (
        f"\nMeans of n = {', '.join(map(str, sorted(heads)))} heads a row, each measured on a "
        f"training signer that it had not seen; one thread, {results['hardware']}; "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = protocol_parser(__doc__)
    parser.set_defaults(signers=[1, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    publish(NAME, parse_with_settings(parser), measure, table)


if __name__ == "__main__":
    main()

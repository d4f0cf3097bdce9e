"""What heads gain by learning along principal directions, on protocol M's training signers alone.

    python benchmarks/directions.py --data ../shared/data [--signers 1 5 --seeds 0]

The stranger's images are not looked at: of the other four each is left out in turn, and heads of
the default recipe with views are judged on it: along all features of both layers, along fewer and
fewer directions, and along directions of the fifth layer alone. Writes results/directions.json,
signer by signer, and results/directions.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from heads import fifth_alone
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_json, write_json
from sign_ensemble.core.command_line import config_of, parser_for
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.learning.head_training import fit_fold
from sign_ensemble.learning.task import seed_of
from sign_ensemble.pipeline.preparation import Prepared, prepare

RESULTS = Path(__file__).parent / "results"
RECIPE = MemberConfig(augment_prob=0.7, epochs=15)
FIFTH = "512 directions of the fifth layer alone"
CASES = {  # what the first layer learns along, and how many directions that is (0: all)
    "all 12,672 features": 0, "512 directions": 512, "128 directions": 128, FIFTH: 512,
}  # fmt: skip
NONE_GE: NDArray[np.float16] = np.zeros((0, HEAD_FEATURES), np.float16)


def prepared_without(signer: int, data: Path, runs: Path, more: list[str]) -> Prepared:
    """Protocol M's training images of the other four, with features and folds."""
    parser = parser_for("tune", "")
    arguments = [
        "--config", "configs/massey.yaml", "--data.root", str(data / "massey-asl"),
        "--data.test_signers", f"[{signer}]", "--run.root", str(runs),
        "--run.name", f"directions-{signer}", "--wandb.mode", "disabled", *more,
    ]  # fmt: skip
    return prepare(config_of(parser, parser.parse_args(arguments)))


def measured(prepared: Prepared, seeds: list[int]) -> dict[str, dict[str, list[float]]]:
    """Case → accuracy, nll and seconds of each head, fold by fold and seed by seed."""
    found: dict[str, dict[str, list[float]]] = {
        case: {"accuracy": [], "nll": [], "seconds": []} for case in CASES
    }
    task = prepared.task
    fifth = replace(
        task, features=fifth_alone(task.features, Path(str(prepared.run.path)) / "fifth.f16")
    )
    for fold in range(prepared.task.folds):
        for seed in seeds:
            for case, count in CASES.items():
                recipe, of = replace(RECIPE, components=count), fifth if case == FIFTH else task
                none = NONE_GE[:, : of.features.shape[1]]
                result, _ = fit_fold(of, recipe, fold, seed_of(seed, 0, fold), none)
                for name, values in found[case].items():
                    values.append(float(getattr(result, name)))
                print(f"fold {fold}, {case}: {result.nll:.3f} in {result.seconds:.1f} s")
    return found


def table(results: dict[str, Any]) -> str:
    """results/directions.md: what README quotes."""
    lines = [
        "| first layer along | protocol M without | accuracy | NLL | seconds a head |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        for signer, found in results["signers"].items():
            mean = {name: float(np.mean(values)) for name, values in found[case].items()}
            lines.append(
                f"| {case} | hand{signer} | {mean['accuracy']:.3f} | {mean['nll']:.3f} "
                f"| {mean['seconds']:.1f} |"
            )
    heads = {len(found[FIFTH]["nll"]) for found in results["signers"].values()}
    lines += [
        "",
        f"Means of n = {', '.join(map(str, sorted(heads)))} heads a row, each judged on a training "
        f"signer left out; one thread, {results['hardware']}. Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every signer asked for, then write the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen, more = parser.parse_known_args()
    torch.set_num_threads(1)
    path = RESULTS / "directions.json"
    results = read_json(path) if path.exists() else {"signers": {}}
    for signer in chosen.signers:
        prepared = prepared_without(signer, chosen.data, chosen.runs, more)
        results["signers"][str(signer)] = measured(prepared, chosen.seeds)
        seeds = " ".join(map(str, chosen.seeds))
        signers = " ".join(results["signers"])
        results["command"] = f"python benchmarks/directions.py --signers {signers} --seeds {seeds}"
        results["hardware"] = hardware()
        write_json(path, results)
    (RESULTS / "directions.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()

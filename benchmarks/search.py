"""How long does a search take, against a tutorial's search and against its limit?

The letters of four of Massey's signers; the fifth is left out by all. Every round measures in turn:

* **this search**: ``python -m sign_ensemble.tune --until search`` with an empty feature cache and
  the defaults but for --trials and --epochs; unknown settings go there.
* **tutorial**: ``shared/tutorial.py``, and **tutorial without Ray**, its objective in Optuna's own
  loop. Fewer trials may be run: the seconds of the search itself are then multiplied. With --add
  the tutorials are left out, and the rounds are added to those in the results.
* **limit**: the heads that this search trained, once more, by one process per core that has all
  features in memory and has trained on every fold before: no Ray, no files, no start. For the
  whole command also the convolutions of one pass over images and augmented copies in memory. Timed
  once more with the start of these processes, which import torch and this package and find each
  fold's principal components for themselves (the search finds them once, for all its workers).
* **limit without components**: the same heads for as many steps on the features as they are.

Afterwards the best settings of each are trained anew with other seeds, as in the search that found
them, on every three of the four signers, and measured on the fourth: the mean over the four.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from features import limit as convolutions
from shared.commands import TUNE, seconds_of
from shared.results import (
    DATA,
    ROOT,
    Results,
    at_least,
    markdown,
    parse_with_settings,
    parser_of,
    publish,
    spread,
    stored,
)
from shared.tutorial import BATCH, LETTERS, learn, loss_on, make_head
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data.backbone import FIFTH_FEATURES
from sign_ensemble.data.feature_cache import plain_features
from sign_ensemble.learning.fold_models import fit_fold
from sign_ensemble.learning.head_training import fit_rows, recipe_of
from sign_ensemble.learning.task import Task, seed_of
from sign_ensemble.pipeline.preparation import prepare
from sign_ensemble.search.records import read_records
from sign_ensemble.search.selection import ranked

SIGNERS, LEFT_OUT, VALIDATED = (1, 2, 3, 4), 5, 4
OURS, TUTORIAL, PLAIN, LIMIT = "this search", "tutorial", "tutorial without Ray", "limit"
ON_FEATURES = "limit without components"
COUNTS = ("heads", "shown")
Job = tuple[MemberConfig, int, int]  # recipe, fold, seed


def images_of(data: Path, signers: Sequence[int]) -> int:
    """How many letters these signers show."""
    return sum(len(list(data.glob(f"[a-z]/hand{signer}_*"))) for signer in signers)


def this_search(
    data: Path, work: Path, trials: int, epochs: int, more: list[str]
) -> tuple[RunFolder, dict[str, Any]]:
    """The command as a user gives it."""
    command = [
        *TUNE, "--until", "search",
        "--config", "configs/massey.yaml", "--data.root", str(data),
        "--data.test_signers", f"[{LEFT_OUT}]", "--data.cache", str(work / "features"),
        "--run.root", str(work / "runs"), "--run.name", "search", "--wandb.mode", "disabled",
        "--search.trials", str(trials), "--search.epochs", f"[{epochs}]",
        "--member.epochs", str(epochs), "--ensemble.size", str(min(5, trials)), *more,
    ]  # fmt: skip
    taken = seconds_of(command)
    run = RunFolder(work / "runs" / "search")
    records = read_records(run)
    images = images_of(data, SIGNERS)
    return run, {
        "seconds": taken,
        "stages": read_json(run.timings),
        "heads": sum(len(record.folds) for record in records),
        "shown": sum(f["epochs"] * (images - f["n"]) for r in records for f in r.folds),
        "pruned": sum(record.status == "pruned" for record in records),
        "nll": ranked(records)[0].nll,
    }


def tutorial(
    data: Path, work: Path, trials: int, run: int, epochs: int, *more: str
) -> dict[str, Any]:
    """The rival: ``run`` trials, and the seconds that ``trials`` would have taken."""
    out = work / "tutorial.json"
    command = [
        sys.executable, "-m", "shared.tutorial", "--data", str(data), "--out", str(out),
        "--signers", *map(str, SIGNERS), "--validated", str(VALIDATED),
        "--trials", str(run), "--epochs", str(epochs), *more,
    ]  # fmt: skip
    taken = seconds_of(command, PYTHONPATH=str(ROOT / "benchmarks"))
    found = json.loads(out.read_text())
    return {
        "seconds": scaled(taken, found["seconds"], trials / run),
        "measured": taken,
        "heads": trials,
        "shown": trials * epochs * images_of(data, [s for s in SIGNERS if s != VALIDATED]),
        "best": found["best"],
        "nll": found["nll"],
    }


def scaled(end_to_end: float, search: float, times: float) -> float:
    """Seconds of a command whose search, a part of it, would be so many times as long."""
    return end_to_end - search + times * search


_task: Task


def warm(task: Task, default: MemberConfig, ready: Any) -> None:
    """Make a process of the limit ready: it has trained once on every fold."""
    global _task
    _task = task
    torch.set_num_threads(1)
    for fold in range(task.folds):
        one_head((replace(default, epochs=1), fold, 0))
    ready.wait()


def cold(task: Task) -> None:
    """Make a process of the limit ready as far as it cannot be without."""
    global _task
    _task = task
    torch.set_num_threads(1)


def one_head(job: Job) -> None:
    """The steps of one head of the search."""
    recipe, fold, seed = job
    fit_rows(_task, recipe, np.flatnonzero(_task.folds_N != fold), seed)


def on_features(job: Job, epochs: int) -> Job:
    """The same head on the features as they are, for as many epochs as it had."""
    recipe, fold, seed = job
    return replace(recipe, components=0, epochs=epochs, patience=epochs), fold, seed


def seconds_of_heads(task: Task, jobs: list[Job], before: MemberConfig | None) -> float:
    """Seconds of heads alone, a process per core; from these processes' start, unless they train by
    a recipe before the clock starts.
    """
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores + 1)
    begin = (warm, (task, before, ready)) if before else (cold, (task,))
    began = time.perf_counter()
    with context.Pool(cores, *begin) as pool:
        if before:
            ready.wait()
            began = time.perf_counter()
        for _ in pool.imap_unordered(one_head, jobs):
            pass
        return time.perf_counter() - began


def limits(run: RunFolder, task: Task) -> dict[str, dict[str, float]]:
    """Seconds of the heads that the search trained, without all else; with the start of the
    processes that train them; and of the same heads on the features as they are.
    """
    default = load_config(run).member
    jobs, without = [], []
    for record in read_records(run):
        for fold, found in enumerate(record.folds):
            recipe = recipe_of(default, record.params)
            jobs.append((recipe, fold, seed_of(task.seed, record.number, fold)))
            without.append(on_features(jobs[-1], found["epochs"]))
    return {
        LIMIT: {
            "seconds": seconds_of_heads(task, jobs, default),
            "started": seconds_of_heads(task, jobs, None),
        },
        ON_FEATURES: {"seconds": seconds_of_heads(task, without, replace(default, components=0))},
    }


def nll_of_ours(run: RunFolder, task: Task, seed: int) -> float:
    """NLL of this search's best settings on unseen signers, trained with a seed of its own."""
    recipe = recipe_of(load_config(run).member, ranked(read_records(run))[0].params)
    seeds = [seed_of(seed, fold, 1) for fold in range(task.folds)]
    return float(np.mean([fit_fold(task, recipe, i, s)[0].nll for i, s in enumerate(seeds)]))


def nll_of_tutorial(best: dict[str, Any], epochs: int, task: Task, seed: int) -> float:
    """The same of the tutorial's, trained by its own loop on the plain images' fifth layer, which
    is all that it reads.
    """
    labels_N = torch.tensor([LETTERS.index(task.labels[label]) for label in task.labels_N])
    features_ND = torch.from_numpy(plain_features(task.features)[:, :FIFTH_FEATURES]).float()
    losses = []
    for fold in range(task.folds):
        torch.manual_seed(seed_of(seed, fold, 1))
        in_fold_N = torch.from_numpy(task.folds_N == fold)
        others: Any = DataLoader(
            TensorDataset(features_ND[~in_fold_N], labels_N[~in_fold_N]), BATCH, True
        )
        shown: Any = DataLoader(TensorDataset(features_ND[in_fold_N], labels_N[in_fold_N]), BATCH)
        head = make_head(best)
        optimizer = torch.optim.Adam(head.parameters(), lr=best["learning_rate"])
        for _ in range(epochs):
            learn(head, optimizer, nn.Identity(), others)
        losses.append(loss_on(head, nn.Identity(), shown))
    return float(np.mean(losses))


def one_round(data: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """All in turn, each with nothing left by another."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        run, ours = this_search(data, work, chosen.trials, chosen.epochs, chosen.settings)
        found: dict[str, Any] = {OURS: ours}
        print(f"{OURS}: {ours['seconds']:.1f} s", flush=True)
        rivals = {} if chosen.add else {TUTORIAL: (), PLAIN: ("--without-ray",)}
        for name, option in rivals.items():
            sizes = chosen.trials, chosen.tutorial_trials, chosen.epochs
            found[name] = tutorial(data, work, *sizes, *option)
            print(f"{name}: {found[name]['measured']:.1f} s", flush=True)
        task = prepare(load_config(run)).task
        counted = {name: ours[name] for name in COUNTS}
        found |= {name: {**part, **counted} for name, part in limits(run, task).items()}
        torch.set_num_threads(os.cpu_count() or 1)
        pictures = images_of(data, SIGNERS) * task.features.shape[0]
        convolutions(BATCH)  # to warm up
        seconds = pictures / convolutions(pictures)
        for name in (LIMIT, ON_FEATURES):
            found[name]["convolutions"] = seconds
            print(f"{name}: {found[name]['seconds']:.1f} s", flush=True)
        if rivals:
            found[OURS]["nll_of_seeds"] = [
                nll_of_ours(run, task, seed) for seed in range(chosen.seeds)
            ]
        for name in rivals:
            found[name]["nll_of_seeds"] = [
                nll_of_tutorial(found[name]["best"], chosen.epochs, task, seed)
                for seed in range(chosen.seeds)
            ]
    return found


def few_images(data: Path, most: int, folder: Path) -> Path:
    """A folder with at most so many images of each label and signer, to try this out."""
    for signer in (*SIGNERS, LEFT_OUT):
        for label in sorted(path.name for path in data.iterdir() if path.is_dir()):
            for path in sorted((data / label).glob(f"hand{signer}_*"))[:most]:
                (folder / label).mkdir(exist_ok=True)
                shutil.copy(path, folder / label)
    return folder


def ratios_of(rounds: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Ratios within each round."""

    def each(name: str, other: str, what: Any) -> list[float]:
        return [
            what(found[name]) / what(found[other])
            for found in rounds
            if name in found and other in found
        ]

    def end_to_end(part: dict[str, Any]) -> float:
        return float(part["seconds"])

    def with_convolutions(part: dict[str, Any]) -> float:
        return end_to_end(part) + float(part["convolutions"])

    def of_trials(part: dict[str, Any]) -> float:
        return float(part["stages"]["search"])

    def over(name: str, ours: Any, limit: Any) -> list[float]:
        return [ours(found[OURS]) / limit(found[name]) for found in rounds if name in found]

    def per_image(part: dict[str, Any]) -> float:
        return end_to_end(part) / part["shown"]

    return {
        "tutorial over this search, whole commands": each(TUTORIAL, OURS, end_to_end),
        "tutorial over this search, per image shown to a head": each(TUTORIAL, OURS, per_image),
        "tutorial without Ray over this search, whole commands": each(PLAIN, OURS, end_to_end),
        "tutorial without Ray over this search, per image shown": each(PLAIN, OURS, per_image),
        "this search over the limit, whole command": each(OURS, LIMIT, end_to_end),
        **{
            f"this search over the {name}{what}": over(name, ours, limit)
            for what, ours, limit in (
                (" and its convolutions, whole command", end_to_end, with_convolutions),
                (", its stage of trials alone", of_trials, end_to_end),
            )
            for name in (LIMIT, ON_FEATURES)
        },
        "its stage of trials over the limit with the start of its processes": [
            of_trials(found[OURS]) / found[LIMIT]["started"]
            for found in rounds
            if "started" in found[LIMIT]
        ],
    }


def measure(arguments: argparse.Namespace) -> Results:
    """Rounds, after those that are there with --add."""
    before = stored(arguments, "search") if arguments.add else {}
    with TemporaryDirectory() as folder:
        data = arguments.data.resolve()
        if arguments.per_label:
            data = few_images(data, arguments.per_label, Path(folder))
        images = f"{images_of(data, SIGNERS):,} images"
        given = {"trials": arguments.trials, "epochs": arguments.epochs, "images": images}
        for name, value in given.items():
            if before and before[name] != value:
                raise SystemExit(f"--add: the results are of {name} {before[name]}, not {value}")
        rounds = [one_round(data, arguments) for _ in range(arguments.rounds)]
    rounds = [*before.get("rounds", []), *rounds]
    kept = {"tutorial_trials": arguments.tutorial_trials, "seeds": arguments.seeds}
    kept = {name: before.get(name, value) for name, value in kept.items()}
    command = {"command": f"{before['command']}, then with --add"} if before else {}
    return {**command, **given, **kept, "rounds": rounds, "ratios": ratios_of(rounds)}


def table(results: Results) -> str:
    """A row per way to search, then ratios."""
    rounds, trials = results["rounds"], results["trials"]
    rows = []
    for name in (OURS, TUTORIAL, PLAIN, LIMIT, ON_FEATURES):
        parts = [found[name] for found in rounds if name in found]
        heads, shown = (float(np.median([part[key] for part in parts])) for key in COUNTS)
        losses = [value for part in parts for value in part.get("nll_of_seeds", [])]
        rows.append(
            [
                name,
                spread([part["seconds"] for part in parts], 1),
                f"{heads:.0f}",
                f"{shown:,.0f}",
                spread([1000 * p["seconds"] / p["shown"] for p in parts], 3),
                spread(losses, 3) if losses else "–",
            ]
        )
    header = [
        "", "seconds, whole command", "heads trained", "images shown to heads",
        "seconds per 1,000 shown", "best trial's NLL on unseen signers",
    ]  # fmt: skip
    ratios = [[name, spread(values, 2)] for name, values in results["ratios"].items()]
    run, stages = results["tutorial_trials"], rounds[-1][OURS]["stages"]
    times = (
        f"The tutorial's {trials} trials are {run}, the seconds of its search multiplied by "
        f"{trials / run:g}. "
        if run != trials
        else ""
    )
    return (
        markdown(header, rows)
        + "\n"
        + markdown(["ratio within a round", "median (lowest–highest)"], ratios)
        + f"\n{trials} trials, {results['epochs']} epochs, letters of four signers "
        f"({results['images']}). {times}"
        "This search trains a head per fold, each on three of the four signers with augmentation, "
        "validates it on the fourth, stops heads that no longer improve and prunes poor settings "
        "after a fold or two; the tutorial trains one head per trial and validates it on one "
        f"signer (hand{VALIDATED}), each epoch from the files. So a command of the tutorial "
        "learns less about every setting; images shown to heads (each epoch counts) are what both "
        f"did. In the last round features took {stages['features']:.1f} s of this search and "
        f"trials {stages['search']:.1f} s. NLL on unseen signers: the best trial's settings "
        f"trained anew with {results['seeds']} other seeds, predicted for all four signers in "
        f"turn, in nats per image. n = {len(rounds)} rounds, "
        f"{sum(TUTORIAL in found for found in rounds)} of them with the tutorials; "
        f"median (lowest–highest); {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, default=DATA / "massey-asl")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--tutorial-trials", type=int, help="fewer, scaled; by default --trials")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each best trial")
    parser.add_argument(
        "--add", action="store_true", help="rounds without the tutorials, to those in the results"
    )
    parser.add_argument("--per-label", type=int, help="images of a label and signer, to try it out")
    arguments = parse_with_settings(parser)
    if arguments.tutorial_trials is None:
        arguments.tutorial_trials = arguments.trials
    at_least(parser, arguments, rounds=1, trials=1, epochs=1, tutorial_trials=1, seeds=1)
    if arguments.per_label is not None:
        at_least(parser, arguments, per_label=2)
    cores = os.cpu_count() or 1
    if arguments.tutorial_trials > arguments.trials:
        parser.error(f"--tutorial-trials {arguments.tutorial_trials}: at most --trials")
    if arguments.tutorial_trials < arguments.trials and arguments.tutorial_trials % cores:
        parser.error(
            f"--tutorial-trials {arguments.tutorial_trials}: must be a multiple of the {cores} "
            "cores, else cores that wait at its end would be multiplied too"
        )
    publish("search", arguments, measure, table)


if __name__ == "__main__":
    main()

"""What does an answer cost beyond the convolutions, and training from 100,000 images in memory?

* **answers**: blocks of 512 random images in memory, as evaluate and predict read them, through
  each of these in turn: the convolutions alone; one member, five members (heads of the default
  widths) on the same features; one and five members with all scores and GDA predictions (a
  reference set of drawn images). Members and reference images are drawn: what they answer does not
  change what it costs. The rule's p-values of all images together are timed once and shared out.
* **evaluation**: the figures and intervals that evaluate makes of as many answers, half of them
  signs and half an out-of-distribution set.
* **memory**: one epoch of the default recipe over a cache of --rows images without augmentation,
  really written and memory-mapped, by a process of its own: its most resident memory, and the most
  of it that is not the file's pages, which the kernel takes back at need.

Ratios are taken within a block.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared.results import Results, at_least, markdown, parser_of, publish, spread

from sign_ensemble.core.config import DataConfig, EvaluateConfig, MemberConfig
from sign_ensemble.data import backbone
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.member import Card, Member
from sign_ensemble.learning.network import Head
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.metrics_tree import Bootstrap, OodSet, evaluate
from sign_ensemble.pipeline.report_details import details
from sign_ensemble.rejection.ensemble import Ensemble, EnsembleOutput, concatenate_outputs, stack
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.hand_count import HandCountImages
from sign_ensemble.rejection.predictor import Predictor, answer
from sign_ensemble.rejection.reference_set import ReferenceSet, fit_distance_models
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.score_models import ScoreModels
from sign_ensemble.rejection.scores import all_scores, max_prob

BLOCK, SIDE, MEMBERS = 512, 224, 5
LABELS = tuple("abcdefghijklmnopqrstuvwxyz")
FOLDS = ("ada", "ben", "cleo")
BASE = "convolutions alone"
RATIOS = {
    "one member": ("one member", BASE),
    "five members": ("five members", BASE),
    "one member, all scores": ("one member, all scores", BASE),
    "five members, all scores": ("five members, all scores", BASE),
    "five members over one": ("five members", "one member"),
    "five members over one, all scores each": (
        "five members, all scores",
        "one member, all scores",
    ),
}


def drawn_features(count: int, features: int) -> NDArray[np.float16]:
    """As convolutions give them: nothing below 0, half of it 0."""
    drawn = np.random.default_rng(0).standard_normal((count, features), np.float32)
    return np.maximum(drawn, 0).astype(np.float16)


def drawn_members(count: int) -> Ensemble:
    """Members of the default widths with random weights."""
    recipe = MemberConfig()
    members = []
    for number in range(count):
        torch.manual_seed(number)
        head = Head(backbone.HEAD_FEATURES, recipe.widths, len(LABELS), recipe.dropout)
        card = Card(LABELS, recipe, number, number, -1, 1, 0.0, {}, "")
        tensors = {name: value.numpy() for name, value in head.state_dict().items()}
        members.append(Member(card, tensors))
    return stack(members)


def drawn_predictor(size: int) -> Predictor:
    """Five members with GDA predictions, and a reference set of so many images."""
    labels_B = np.arange(size) % len(LABELS)
    pictures = HandCountImages(
        drawn_features(800, backbone.FIFTH_FEATURES), np.arange(800) % 3, np.arange(800) % 4
    )
    reference = ReferenceSet(
        drawn_features(size, backbone.FIFTH_FEATURES)[:, None],
        drawn_features(size, backbone.THIRD_FEATURES),
        drawn_features(size, backbone.FOURTH_FEATURES),
        labels_B,
        labels_B % 4,
        pictures=pictures,
    )
    models = ScoreModels(
        fit_distance_models(reference, gda=True),
        reference.fifth_BVD[:, 0],
        neighbours=5,
        gda=GdaPredictions((10.0, 100.0), 1.0),
    )
    rng = np.random.default_rng(0)
    knn_C, regional_C = rng.gamma(4, 1, (2, 600))
    calibration = EnsembleOutput(
        rng.normal(0, 3, (MEMBERS, 600, len(LABELS))).astype(np.float32),
        np.ones(MEMBERS),
        knn_C,
        regional_C,
        hand_count_N2=rng.normal(-1, 0.1, (600, 2)),
    )
    rule = Rule(
        target_coverage=0.95,
        uncertainty_share=0.5,
        calibration=all_scores(calibration),
        groups_C=np.arange(600) % 3,
        single_C=max_prob(np.exp(calibration.log_probs_MNK[0])),
        temperature=1.3,
    )
    return Predictor(drawn_members(MEMBERS), models, rule, DataConfig(crop="none"))


def answering(images: int, reference_images: int) -> dict[str, Any]:
    """Seconds per block of each way, and of what follows once for all images."""
    five = drawn_predictor(reference_images)
    one = replace(five, ensemble=stack(five.ensemble.members[:1]))
    net = backbone.load()
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (BLOCK, SIDE, SIDE, 3), np.uint8)

    def votes(predictor: Predictor) -> Callable[[NDArray[np.uint8]], Any]:
        (group,) = predictor.ensemble.groups
        return lambda some: group.heads.logits(net.of_images(some).head_ND)

    ways: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
        BASE: net.of_images,
        "one member": votes(one),
        "five members": votes(five),
        "one member, all scores": one.output,
        "five members, all scores": five.output,
    }
    for way in ways.values():
        way(shown[:64])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    parts: dict[str, list[EnsembleOutput]] = {}
    for number, start in enumerate(range(0, images, BLOCK)):
        some = np.roll(shown, number, 1)[: images - start]
        order = list(ways)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            began = time.perf_counter()
            found = ways[name](some)
            seconds[name].append(time.perf_counter() - began)
            if isinstance(found, EnsembleOutput):
                parts.setdefault(name, []).append(found)
        print(number, {name: round(each[-1], 2) for name, each in seconds.items()}, flush=True)
    ruled = {}
    for name, predictor in (("one member, all scores", one), ("five members, all scores", five)):
        began = time.perf_counter()
        answer(concatenate_outputs(parts[name]), predictor.rule)
        ruled[name] = time.perf_counter() - began
    return {
        "seconds": seconds,
        "ruled": ruled,
        "figures": figures(concatenate_outputs(parts["five members, all scores"]), five),
    }


def figures(output: EnsembleOutput, predictor: Predictor) -> float:
    """Seconds of an evaluation's figures and intervals: half the images signs, half OOD."""
    half = len(output.knn_N) // 2
    rows = np.arange(2 * half)
    known = answer(output.rows(rows[:half]), predictor.rule)
    ood = {"drawn": OodSet("far", answer(output.rows(rows[half:]), predictor.rule))}
    labels_N = np.arange(half) % len(LABELS)
    bootstrap = Bootstrap(EvaluateConfig().bootstrap, 0)
    began = time.perf_counter()
    evaluate(known, labels_N, np.array(["ada"] * half), ood, predictor.rule, 0, bootstrap)
    details(known, labels_N, ood, predictor.rule, 0, LABELS, FOLDS, bootstrap)
    return time.perf_counter() - began


def write_rows(path: Path, rows: int) -> None:
    """A cache file of so many rows, as the package lays them out without augmentation."""
    drawn = drawn_features(1000, backbone.ALL_FEATURES)
    with path.open("wb") as opened:
        for start in range(0, rows, len(drawn)):
            opened.write(drawn[: rows - start].tobytes())


def held(kind: str) -> float:
    """This process's memory of one kind (VmRSS, RssAnon, RssFile), GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 2**20


def learn_from(path: str, rows: int, out: str) -> None:
    """One epoch over a cache in this process; writes seconds and memory."""
    most, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], held("RssAnon"))

    watch = threading.Thread(target=look)
    before = held("VmRSS")
    watch.start()
    labels_N = np.arange(rows) % len(LABELS)
    features = CachedArray(
        path,
        np.arange(rows),
        (1, backbone.ALL_FEATURES),
        "float16",
        columns=(0, backbone.HEAD_FEATURES),
    )
    task = Task(features, labels_N, np.zeros(rows, np.int64), ("",), LABELS, 0)
    began = time.perf_counter()
    fit_rows(task, MemberConfig(epochs=1), np.arange(rows), 0)
    taken = time.perf_counter() - began
    over.set()
    watch.join()
    found = {
        "seconds": taken,
        "before_gib": before,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "own_gib": most[0],
        "file_gb": Path(path).stat().st_size / 1e9,
    }
    Path(out).write_text(json.dumps(found))


def memory(rows: int) -> dict[str, float]:
    """What :func:`learn_from` finds, in a process of its own."""
    with TemporaryDirectory() as folder:
        path, out = Path(folder) / "features.f16", Path(folder) / "found.json"
        write_rows(path, rows)
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=learn_from, args=(str(path), rows, str(out)))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"the pass over {rows} rows ended with {process.exitcode}")
        found: dict[str, float] = json.loads(out.read_text())
        return found


def ratios_of(found: dict[str, Any]) -> dict[str, list[float]]:
    """Ratios within each block, the rule's seconds shared out over the blocks."""
    blocks = len(found["seconds"][BASE])

    def of(name: str) -> NDArray[np.float64]:
        return np.array(found["seconds"][name]) + found["ruled"].get(name, 0.0) / blocks

    return {name: (of(top) / of(low)).tolist() for name, (top, low) in RATIOS.items()}


def measure(arguments: argparse.Namespace) -> Results:
    """Memory first, then answers."""
    seen = memory(arguments.rows)
    print(seen, flush=True)
    found = answering(arguments.images, arguments.reference_images)
    return {
        "images": arguments.images,
        "reference_images": arguments.reference_images,
        "rows": arguments.rows,
        "memory": seen,
        "answers": found,
        "ratios": ratios_of(found),
    }


def table(results: Results) -> str:
    """A row per way to answer."""
    found, n = results["answers"], len(results["answers"]["seconds"][BASE])
    rows = []
    for name, each in found["seconds"].items():
        ratio = spread(results["ratios"][name], 3) if name != BASE else "1"
        rows.append([name, f"{sum(each) + found['ruled'].get(name, 0.0):.1f}", ratio])
    five = [
        [title, spread(results["ratios"][name], 3)]
        for name, title in (
            ("five members over one", "members alone"),
            ("five members over one, all scores each", "all scores with each"),
        )
    ]
    base, seen = sum(found["seconds"][BASE]), results["memory"]
    return (
        markdown([f"{results['images']:,} images", "seconds, all", "over the convolutions"], rows)
        + "\n"
        + markdown(["five members over one", "median (lowest–highest)"], five)
        + f"\nA training epoch over {results['rows']:,} cached images ({seen['file_gb']:.1f} GB, "
        f"memory-mapped; one head, {seen['seconds']:.0f} s): at most {seen['peak_gib']:.2f} GiB "
        f"resident, {seen['own_gib']:.2f} GiB of it the process's own and the rest the file's "
        "pages. An evaluation's figures and intervals of as many answers take "
        f"{found['figures']:.1f} s, {found['figures'] / base:.3f} of the convolutions. n = {n} "
        f"blocks of {BLOCK} images, median (lowest–highest); {results['reference_images']:,} "
        f"reference images; {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--reference-images", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=100_000, help="cached images of the memory")
    arguments = parser.parse_args()
    at_least(parser, arguments, images=64, reference_images=2 * len(LABELS), rows=1000)
    publish("prediction", arguments, measure, table)


if __name__ == "__main__":
    main()

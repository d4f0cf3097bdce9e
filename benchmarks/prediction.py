"""What an answer costs beyond the convolutions, and the memory of learning from 100,000 images.

    python benchmarks/prediction.py [--images 10000 --rows 100000]

* **answers**: blocks of 512 random images in memory, as evaluate and predict read them, through
  each of these in turn: the convolutions alone; one member, five members (heads of the default
  widths) on the same features; one and five members with all witnesses and clouds that read (a
  bank of --bank drawn images). Members and training images are drawn: what they say does not
  change what it costs. The rule's p-values of all images together are timed once and shared out.
* **evaluation**: the figures and intervals that evaluate makes of as many answers, half of them
  signs and half a strange set.
* **memory**: one pass of the default recipe over a cache of --rows images without views, really
  written and memory-mapped, by a process of its own: its most resident memory, and the most of it
  that is not the file's pages, which the kernel takes back at need.

Ratios are taken within a block. Writes results/prediction.json and results/prediction.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from hardware import hardware
from numpy.typing import NDArray
from tables import spread

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.config import EvaluateConfig, MemberConfig
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

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "made"))
RESULTS = Path(__file__).parent / "results"
BLOCK, SIDE, MEMBERS = 512, 224, 5
LABELS = tuple("abcdefghijklmnopqrstuvwxyz")
BASE = "convolutions alone"
RATIOS = {
    "one member": ("one member", BASE),
    "five members": ("five members", BASE),
    "one member, all witnesses": ("one member, all witnesses", BASE),
    "five members, all witnesses": ("five members, all witnesses", BASE),
    "five members over one": ("five members", "one member"),
    "five members over one, all witnesses each": (
        "five members, all witnesses",
        "one member, all witnesses",
    ),
}


def drawn_features(count: int, features: int) -> NDArray[np.float16]:
    """What convolutions give: nothing below 0, half of it 0."""
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


def drawn_reader(size: int) -> Predictor:
    """Five members and a rule whose clouds read too, with a bank of so many images."""
    from drawn_runs import drawn_rule

    labels_B = np.arange(size) % len(LABELS)
    fifth_BVD = drawn_features(size, backbone.FIFTH_FEATURES)[:, None]
    hands = HandCountImages(
        drawn_features(800, backbone.FIFTH_FEATURES), np.arange(800) % 3, np.arange(800) % 4
    )
    places = (
        drawn_features(size, backbone.THIRD_FEATURES),
        drawn_features(size, backbone.FOURTH_FEATURES),
    )
    bank = ReferenceSet(fifth_BVD, *places, labels_B, labels_B % 4, hands)
    atlas = fit_distance_models(bank, True)
    rule = replace(
        drawn_rule(np.random.default_rng(0)),
        bank=bank.fifth_BVD[:, 0],
        clouds=atlas.third,
        parts=atlas.parts,
        hands=atlas.hands,
        fifth=atlas.fifth,
        readings=GdaPredictions((10.0, 100.0), 1.0),
    )
    return Predictor(drawn_members(MEMBERS), rule, "shipped")


def answering(images: int, bank: int) -> dict[str, Any]:
    """Seconds per block of each way, and of what follows once for all images."""
    five = drawn_reader(bank)
    one = replace(five, ensemble=stack(five.ensemble.members[:1]))
    net = backbone.load()
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (BLOCK, SIDE, SIDE, 3), np.uint8)

    def votes(reader: Predictor) -> Callable[[NDArray[np.uint8]], Any]:
        return lambda some: reader.ensemble.logits(net.of_images(some).head_ND)

    ways: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
        BASE: net.of_images,
        "one member": votes(one),
        "five members": votes(five),
        "one member, all witnesses": one.evidence,
        "five members, all witnesses": five.evidence,
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
    for name, reader in (("one member, all witnesses", one), ("five members, all witnesses", five)):
        began = time.perf_counter()
        answer(concatenate_outputs(parts[name]), reader.rule)
        ruled[name] = time.perf_counter() - began
    return {
        "seconds": seconds,
        "ruled": ruled,
        "figures": figures(concatenate_outputs(parts["five members, all witnesses"]), five),
    }


def figures(evidence: EnsembleOutput, reader: Predictor) -> float:
    """Seconds of an evaluation's figures and intervals: half the images signs, half strange."""
    half = len(evidence.neighbour_N) // 2
    rows = np.arange(2 * half)
    known = answer(evidence.rows(rows[:half]), reader.rule)
    strange = {"drawn": OodSet("far", answer(evidence.rows(rows[half:]), reader.rule))}
    labels_N = np.arange(half) % len(LABELS)
    draws = EvaluateConfig().bootstrap
    began = time.perf_counter()
    evaluate(known, labels_N, np.array(["ada"] * half), strange, reader.rule, 0, draws, 0)
    bootstrap = Bootstrap(draws, 0)
    details(known, labels_N, strange, reader.rule, 0, LABELS, bootstrap)
    return time.perf_counter() - began


def write_rows(path: Path, rows: int) -> None:
    """A cache file of so many rows, as the package lays them out without views."""
    drawn = drawn_features(1000, backbone.ALL_FEATURES)
    with path.open("wb") as opened:
        for start in range(0, rows, len(drawn)):
            opened.write(drawn[: rows - start].tobytes())


def held(kind: str) -> float:
    """This process's memory of one kind (VmRSS, RssAnon, RssFile), GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 2**20


def learn_from(path: str, rows: int, out: str) -> None:
    """One pass over a cache in this process; writes seconds and memory."""
    most, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], held("RssAnon"))

    watch = threading.Thread(target=look)
    before = held("VmRSS")
    watch.start()
    labels_N = np.arange(rows) % len(LABELS)
    features = CachedArray(
        path, np.arange(rows), (1, backbone.ALL_FEATURES), "float16", columns=backbone.HEAD_FEATURES
    )
    task = Task(features, labels_N, np.zeros(rows, np.int64), ("",), LABELS, "", 0)
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


def table(results: dict[str, Any]) -> str:
    """results/prediction.md: what README quotes."""
    found, n = results["answers"], len(results["answers"]["seconds"][BASE])

    lines = [
        f"| {results['images']:,} images | seconds, all | over the convolutions |",
        "| --- | --- | --- |",
    ]
    for name, each in found["seconds"].items():
        ratio = spread(results["ratios"][name], 3) if name != BASE else "1"
        seconds = sum(each) + found["ruled"].get(name, 0.0)
        lines.append(f"| {name} | {seconds:.1f} | {ratio} |")
    base = sum(found["seconds"][BASE])
    lines += ["", "| five members over one | median (lowest–highest) |", "| --- | --- |"]
    for name, title in (
        ("five members over one", "members alone"),
        ("five members over one, all witnesses each", "all witnesses with each"),
    ):
        lines.append(f"| {title} | {spread(results['ratios'][name], 3)} |")
    seen = results["memory"]
    lines += [
        "",
        f"A training pass over {results['rows']:,} cached images ({seen['file_gb']:.1f} GB, "
        f"memory-mapped; one head, {seen['seconds']:.0f} s): at most {seen['peak_gib']:.2f} GiB "
        f"resident, {seen['own_gib']:.2f} GiB of it the process's own and the rest the file's "
        "pages. An evaluation's figures and intervals of as many answers take "
        f"{found['figures']:.1f} s, {found['figures'] / base:.3f} of the convolutions. n = {n} "
        f"blocks of {BLOCK} images, median (lowest–highest); bank of {results['bank']:,} images; "
        f"{results['hardware']}; `{results['command']}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--bank", type=int, default=4000, help="training images of the witnesses")
    parser.add_argument("--rows", type=int, default=100_000, help="cached images of the memory")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    for name, least in (("images", 64), ("bank", 2 * len(LABELS)), ("rows", 1000)):
        if getattr(chosen, name) < least:
            parser.error(f"--{name} {getattr(chosen, name)}: must be {least} or more")
    seen = memory(chosen.rows)
    print(seen, flush=True)
    found = answering(chosen.images, chosen.bank)
    results = {
        "command": " ".join(["python benchmarks/prediction.py", *sys.argv[1:]]),
        "hardware": hardware(),
        "images": chosen.images,
        "bank": chosen.bank,
        "rows": chosen.rows,
        "memory": seen,
        "answers": found,
        "ratios": ratios_of(found),
    }
    chosen.results.mkdir(parents=True, exist_ok=True)
    write_json(chosen.results / "prediction.json", results)
    text = table(json.loads((chosen.results / "prediction.json").read_text()))
    (chosen.results / "prediction.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

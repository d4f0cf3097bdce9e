"""What does a search cost besides its heads?

* **tiny trials**: ``search_trials`` (Ray Tune, Optuna, ASHA, records, the search's table) on 48
  drawn images of four signers, heads of 16 and 8 units, one epoch. A trial's own seconds are those
  of its heads, from its record; what its core spends beyond them is the overhead.
* **sleeping trials**: the same, with ``fit_fold`` replaced in the workers by one that sleeps; a
  trial's folds sleep a second together and are all as good, so that none is stopped.
* **memory**: the driver's resident memory when each trial ends, a line through all but the first
  tenth.

Two trials compare the beginning with the end: at each, the median over the 20 nearest of how long
the cores took for as many trials as there are cores. Starting Ray is timed separately; W&B is off.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from shared.results import Results, at_least, markdown, parser_of, publish, spread

from sign_ensemble.core.config import MemberConfig, SearchConfig
from sign_ensemble.core.ray_cluster import connected_ray
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.data.row_cache import RowSchema, cached_rows
from sign_ensemble.learning.cluster_resources import concurrent_trials
from sign_ensemble.learning.fold_models import fold_result
from sign_ensemble.learning.principal_components import ProjectedImages
from sign_ensemble.learning.task import FoldResult, Kind, Task
from sign_ensemble.search import records, trials
from sign_ensemble.search.progress_table import SearchTable
from sign_ensemble.search.records import TrialRecord
from sign_ensemble.search.trials import run_trial, search_trials

FOLDS, LABELS, IMAGES = 4, 3, 48
AROUND = 20  # trials around the one that is looked at
RECIPE = MemberConfig(widths=(16, 8), epochs=1)
SLEEP = 1.0


class Watched(SearchTable):
    """The search's table, which also notes when each trial ended and what the driver held."""

    def __init__(self, count: int) -> None:
        super().__init__(count, FOLDS, [], lambda record: None)
        self.ends: list[float] = []
        self.mebibytes: list[float] = []
        self.records: list[TrialRecord] = []

    def ended(self, record: TrialRecord) -> None:
        """A trial ended."""
        super().ended(record)
        self.ends.append(time.perf_counter())
        self.mebibytes.append(resident())
        self.records.append(record)


def resident() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def tiny_task(run: RunFolder) -> Task:
    """Drawn features of 48 images."""
    rng = np.random.default_rng(0)

    def drawn(shape: tuple[int, ...]) -> NDArray[np.float16]:
        return np.maximum(rng.normal(size=shape), 0).astype(np.float16)

    kind = RowSchema("features.f16", (1, HEAD_FEATURES), "float16", {})
    features = cached_rows(
        run.path / "features",
        kind,
        [str(i) for i in range(IMAGES)],
        lambda pairs: iter(drawn((len(pairs), 1, HEAD_FEATURES))),
    )
    return Task(
        features=features,
        labels_N=np.arange(IMAGES) % LABELS,
        folds_N=np.arange(IMAGES) * FOLDS // IMAGES,
        fold_names=tuple(f"signer-{fold}" for fold in range(FOLDS)),
        labels=tuple(f"label-{label}" for label in range(LABELS)),
        seed=0,
    )


def slept(task: Task, recipe: MemberConfig, fold: int, seed: int) -> tuple[FoldResult, None]:
    """In place of ``fit_fold``: a share of a second, and no label likelier than another."""
    began = time.monotonic()
    time.sleep(SLEEP / task.folds)
    labels_N = task.labels_N[task.folds_N == fold]
    same = np.zeros((len(labels_N), len(task.labels)), np.float32)
    return fold_result(fold, labels_N, same, (1, 1), began), None


def sleeping_trial(
    config: dict[str, Any],
    run: RunFolder,
    task: Task,
    kind: Kind,
    projected: Mapping[str, ProjectedImages],
    default: MemberConfig,
    threads: int,
) -> None:
    """``run_trial``, whose folds sleep."""
    with patch.object(records, "fit_fold", slept):
        run_trial(config, run, task, kind, projected, default, threads)


def searched(count: int, sleeping: bool) -> dict[str, Any]:
    """A search of so many trials, and all that was seen of it."""
    search = SearchConfig(trials=count, epochs=(1,), batch_size=(32,), h1=(16,), h2=(8,))
    with TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        run = RunFolder(Path(folder) / "run")
        task = tiny_task(run)
        began = time.perf_counter()
        with redirect_stdout(nowhere), connected_ray():
            ready, concurrent = time.perf_counter(), concurrent_trials(search)
            table = Watched(count)
            with table:
                given = sleeping_trial if sleeping else run_trial
                with patch.object(trials, "run_trial", given):
                    search_trials(run, task, {}, {"pixels": RECIPE}, search, 1, table)
            done = time.perf_counter()
    if failed := [record.error for record in table.records if record.status == "failed"]:
        raise SystemExit(f"{len(failed)} trials failed, the first: {failed[0]}")
    own = [sum(fold["seconds"] for fold in record.folds) for record in table.records]
    return {
        "start": ready - began,
        "seconds": done - ready,
        "concurrent": concurrent,
        "own": own,
        "folds": [len(record.folds) for record in table.records],
        "ends": [end - ready for end in table.ends],
        "mebibytes": table.mebibytes,
    }


def beyond(found: dict[str, Any], count: int) -> list[float]:
    """Seconds a place spent per trial beyond the heads, at each trial from the first that follows
    another in its place: (e_k − e_{k−p}) less the mean of those p trials' own seconds.
    """
    places, ends, own = found["concurrent"], found["ends"], found["own"]
    return [
        ends[k] - ends[k - places] - float(np.mean(own[k - places + 1 : k + 1]))
        for k in range(places, count)
    ]


def around(values: list[float], number: int, places: int) -> float:
    """Median of the 20 values nearest to a trial's (from 1)."""
    middle = number - 1 - places
    first = min(max(0, middle - AROUND // 2), max(0, len(values) - AROUND))
    return float(np.median(values[first : first + AROUND]))


def growth(mebibytes: list[float]) -> float:
    """MiB per trial: the slope of a line through all but the first tenth."""
    first = len(mebibytes) // 10
    return float(np.polyfit(np.arange(len(mebibytes) - first), mebibytes[first:], 1)[0])


def figures(tiny: dict[str, Any], asleep: dict[str, Any]) -> dict[str, Any]:
    """What the table says."""
    n, places = len(tiny["own"]), tiny["concurrent"]
    each, early = beyond(tiny, n), max(places + 1, n // 10)
    least = len(asleep["own"]) * SLEEP / asleep["concurrent"]
    return {
        "per_place": (places * tiny["seconds"] - sum(tiny["own"])) / n,
        "by_the_clock": (tiny["seconds"] - sum(tiny["own"]) / places) / n,
        "with_start": (tiny["seconds"] + tiny["start"] - sum(tiny["own"]) / places) / n,
        "own": float(np.mean(tiny["own"])),
        "early": {"number": early, "seconds": around(each, early, places)},
        "late": {"number": n, "seconds": around(each, n, places)},
        "each": {"median": float(np.median(each)), "low": min(each), "high": max(each)},
        "sleeping_ratio": asleep["seconds"] / least,
        "sleeping_ratio_with_start": (asleep["seconds"] + asleep["start"]) / least,
        "growth_tiny": growth(tiny["mebibytes"]),
        "growth_sleeping": growth(asleep["mebibytes"]),
    }


def measure(arguments: argparse.Namespace) -> Results:
    """Rounds of both searches."""
    os.environ["RAY_ADDRESS"] = "local"  # never a cluster that happens to run on this machine
    seen = []
    for _ in range(arguments.rounds):
        seen.append((searched(arguments.trials, False), searched(arguments.sleeping, True)))
        print(figures(*seen[-1]), flush=True)
    first = seen[0][0]
    return {
        "trials": arguments.trials,
        "sleeping": arguments.sleeping,
        "places": first["concurrent"],
        "folds_mean": float(np.mean(first["folds"])),
        "start": first["start"],
        "figures": [figures(*pair) for pair in seen],
    }


def table(results: Results) -> str:
    """A row per figure."""
    rounds, tiny, asleep = results["figures"], results["trials"], results["sleeping"]
    places = results["places"]
    early, late = (rounds[0][when]["number"] for when in ("early", "late"))

    def row(name: str, what: Any, unit: str = " s", digits: int = 2) -> list[str]:
        return [name, spread([float(what(found)) for found in rounds], digits, unit)]

    rows = [
        row(f"overhead per trial, by the clock ({tiny} trials)", lambda f: f["by_the_clock"]),
        row("the same, Ray's start shared out too", lambda f: f["with_start"]),
        row("overhead per trial, of the core that it has", lambda f: f["per_place"]),
        row(f"of that core, around trial {early}", lambda f: f["early"]["seconds"]),
        row(f"of that core, around trial {late}", lambda f: f["late"]["seconds"]),
        row("a trial's heads themselves", lambda f: f["own"]),
        row(
            f"{asleep} trials of one second, over {asleep}/{places} s",
            lambda f: f["sleeping_ratio"],
            "",
        ),
        row("the same, with Ray's start", lambda f: f["sleeping_ratio_with_start"], ""),
        row("driver's memory per tiny trial", lambda f: f["growth_tiny"], " MiB", 3),
        row("driver's memory per sleeping trial", lambda f: f["growth_sleeping"], " MiB", 3),
    ]
    return markdown(["", "median (lowest–highest)"], rows) + (
        f"\nn = {len(rounds)} round{'s' * (len(rounds) > 1)}; {places} trials at once, {FOLDS} "
        f"folds, in the first round {results['folds_mean']:.1f} trained per tiny trial (the others "
        f"were stopped); Ray's start {results['start']:.1f} s; {results['hardware']}; "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--sleeping", type=int, default=300, help="trials of one second each")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    least = 2 * (os.cpu_count() or 1) + 2  # for a slope
    at_least(parser, arguments, trials=least, sleeping=least, rounds=1)
    publish("overhead", arguments, measure, table)


if __name__ == "__main__":
    main()

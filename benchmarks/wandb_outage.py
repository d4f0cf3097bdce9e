"""What does W&B cost a run when its server does not answer?

The main job with and without it, in turns: seconds of the whole command with wandb.mode disabled,
and online with a server at a closed port. Since whole commands differ by more than W&B costs, the
table also has what bounds that cost: seconds for which the tracker held the command up (its calls,
and the wait at the end), and processor seconds of the thread that makes wandb's calls and of
wandb's own process. Unknown settings go to ``tune``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from shared.results import ROOT, Results, parse_with_settings, parser_of, publish, save

MEASURED = "what W&B took: "
KINDS = ("held", "thread_cpu", "process_cpu")
TIMED = f"""
import json, resource, sys, time
from sign_ensemble.tracking.worker_thread import WorkerThread
from sign_ensemble.tracking.tracker import Tracker

spent = dict.fromkeys({KINDS}, 0.0)

def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

def adding(kind, clock, method):
    def call(*arguments, **more):
        began = clock()
        try:
            return method(*arguments, **more)
        finally:
            spent[kind] += clock() - began
    return call

for name in ("connect", "trial", "evaluation", "close"):
    setattr(Tracker, name, adding("held", time.perf_counter, getattr(Tracker, name)))
WorkerThread._work = adding("thread_cpu", time.thread_time, WorkerThread._work)
# Where wandb's process is ended and waited for; Ray's have ended by then.
Tracker._end_service = adding("process_cpu", children, Tracker._end_service)

from sign_ensemble.tune import main
main(sys.argv[1:])
print({MEASURED!r} + json.dumps(spent))
"""
CONFIG = ROOT / "configs" / "demo.yaml"


def seconds_of(
    data: Path, root: Path, mode: str, cache: Path, *more: str
) -> tuple[float, dict[str, float], list[str]]:
    """Seconds of a whole tune, what W&B took of them, and its lines about W&B."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "0" * 40}
    command = [
        sys.executable, "-c", TIMED, "--config", str(CONFIG),
        f"--data.root={data}", f"--data.cache={cache}", f"--run.root={root}",
        "--evaluate.near={}", "--evaluate.far={}", f"--wandb.mode={mode}", *more,
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    shutil.rmtree(root)
    lines = done.stdout.splitlines()
    (spent,) = [line.removeprefix(MEASURED) for line in lines if line.startswith(MEASURED)]
    return taken, json.loads(spent), [line for line in lines if line.startswith("W&B")]


def results_of(taken: dict[str, list[float]], spent: list[dict[str, float]]) -> Results:
    """What is written, of the pairs measured so far."""
    ratios = np.array(taken["online"]) / np.array(taken["disabled"])
    held = [each["held"] for each in spent]
    return {
        "n": len(ratios),
        "seconds": taken,
        "ratios": ratios.tolist(),
        "ratio_median": float(np.median(ratios)),
        "tracker_seconds": held,
        "tracker_share": float(np.median(np.array(held) / np.array(taken["online"]))),
        "thread_cpu_seconds": [each["thread_cpu"] for each in spent],
        "process_cpu_seconds": [each["process_cpu"] for each in spent],
    }


def measure(arguments: argparse.Namespace) -> Results:
    """Pairs in turns."""
    taken: dict[str, list[float]] = {"disabled": [], "online": []}
    spent: list[dict[str, float]] = []
    with TemporaryDirectory() as folder:
        given = arguments.data, Path(folder) / "runs"
        cache, more = Path(folder) / "features", arguments.settings
        first = ("--until=search", "--search.trials=3")  # leaves the features for all
        seconds_of(*given, "disabled", cache, *more, *first)
        for pair in range(arguments.pairs):
            order = ["disabled", "online"] if pair % 2 == 0 else ["online", "disabled"]
            for mode in order:
                seconds, of_it, lines = seconds_of(*given, mode, cache, *more)
                taken[mode].append(seconds)
                assert len(lines) == (mode == "online"), lines
                spent += [of_it] if mode == "online" else []
                parts = ", ".join(f"{kind} {of_it[kind]:.2f} s" for kind in KINDS)
                print(f"{mode}: {seconds:.1f} s; W&B: {parts}", flush=True)
            save(arguments, "wandb_outage", results_of(taken, spent))
    return results_of(taken, spent)


def table(results: Results) -> str:
    """A paragraph."""
    held, thread, process = (
        float(np.median(results[key]))
        for key in ("tracker_seconds", "thread_cpu_seconds", "process_cpu_seconds")
    )
    seconds = float(np.median(results["seconds"]["online"]))
    used = thread + process
    shared, most = (held + used / 2) / seconds, (held + used) / seconds
    return (
        "With a server that does not answer, the main job took "
        f"{results['ratio_median']:.3f} of the time without W&B (median of n = {results['n']} "
        f"pairs, {min(results['ratios']):.3f}–{max(results['ratios']):.3f}, "
        f"{results['hardware']}); W&B held it up for {held:.1f} s, "
        f"{100 * results['tracker_share']:.1f} % of it, and took {thread:.1f} s of a core for its "
        f"calls meanwhile and {process:.1f} s for its own process (medians): of {seconds:.0f} s "
        f"{100 * shared:.1f} % where two cores share it, {100 * most:.1f} % at most. "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "runs" / "demo-signs" / "signs")
    parser.add_argument("--pairs", type=int, default=3)
    publish("wandb_outage", parse_with_settings(parser), measure, table)


if __name__ == "__main__":
    main()

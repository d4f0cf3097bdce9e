"""What W&B costs a run when its server does not answer: the main job with and without it, in turns.

    python benchmarks/wandb_outage.py --data runs/demo-signs/signs

Writes results/wandb_outage.json after every pair: seconds of the whole command with wandb.mode
disabled, and online with a server at a closed port, and the median of the pairs' ratios. Since
whole commands differ by more than W&B costs, it also has what bounds that cost: seconds for which
the tracker held the command up (its calls, and the wait at the end), and processor seconds of the
thread that makes wandb's calls and of wandb's own process. Settings of ``tune`` may follow.
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
from typing import Any

import numpy as np
from hardware import hardware

from sign_ensemble.core.atomic_files import write_json

RESULTS = Path(__file__).parent / "results"
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
WorkerThread._work = adding("thread_cpu", time.thread_time, Background._work)
# Where wandb's process is ended and waited for; Ray's have ended by then.
Tracker._end_service = adding("process_cpu", children, Tracker._end_service)

from sign_ensemble.tune import main
main(sys.argv[1:])
print({MEASURED!r} + json.dumps(spent))
"""
CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"


def seconds_of(
    data: Path, root: Path, mode: str, cache: Path, *more: str
) -> tuple[float, dict[str, float], list[str]]:
    """Seconds of a whole tune, what W&B took of them, and what the command said of W&B."""
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


def table(results: dict[str, Any]) -> str:
    """results/wandb_outage.md: what README quotes; of earlier results what they have."""
    low, high = min(results["ratios"]), max(results["ratios"])
    text = (
        "With a server that does not answer, the main job took "
        f"{results['ratio_median']:.3f} of the time without W&B (median of n = {results['n']} "
        f"pairs, {low:.3f}–{high:.3f}, {results['hardware']}); "
    )
    if "thread_cpu_seconds" not in results:
        return f"{text}{100 * results['tracker_share']:.1f} % of it was spent on W&B.\n"
    held, thread, process = (
        float(np.median(results[key]))
        for key in ("tracker_seconds", "thread_cpu_seconds", "process_cpu_seconds")
    )
    seconds = float(np.median(results["seconds"]["online"]))
    used = thread + process
    shared, most = (held + used / 2) / seconds, (held + used) / seconds
    return (
        f"{text}W&B held it up for {held:.1f} s, {100 * results['tracker_share']:.1f} % of it, and "
        f"took {thread:.1f} s of a core for its calls beside it and {process:.1f} s for its own "
        f"process (medians): of {seconds:.0f} s {100 * shared:.1f} % where two "
        f"cores share it, {100 * most:.1f} % at most. "
        f"`{results['command']}`\n"
    )


def result_of(
    taken: dict[str, list[float]], spent: list[dict[str, float]], command: str
) -> dict[str, Any]:
    """What is written, of the pairs measured so far."""
    ratios = np.array(taken["online"]) / np.array(taken["disabled"])
    inside = [each["held"] for each in spent]
    return {
        "command": command,
        "hardware": hardware(),
        "n": len(ratios),
        "seconds": taken,
        "ratios": ratios.tolist(),
        "ratio_median": float(np.median(ratios)),
        "tracker_seconds": inside,
        "tracker_share": float(np.median(np.array(inside) / np.array(taken["online"]))),
        "thread_cpu_seconds": [each["thread_cpu"] for each in spent],
        "process_cpu_seconds": [each["process_cpu"] for each in spent],
    }


def main() -> None:
    """Measure in turns, and write after every pair."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    chosen, more = parser.parse_known_args()
    command = " ".join(["python benchmarks/wandb_outage.py --pairs", str(chosen.pairs), *more])
    taken: dict[str, list[float]] = {"disabled": [], "online": []}
    spent: list[dict[str, float]] = []
    with TemporaryDirectory() as folder:
        cache, root = Path(folder) / "features", Path(folder) / "runs"
        first = ("--until=search", "--search.trials=3")  # leaves the features for all
        seconds_of(chosen.data, root, "disabled", cache, *more, *first)
        for pair in range(chosen.pairs):
            order = ["disabled", "online"] if pair % 2 == 0 else ["online", "disabled"]
            for mode in order:
                seconds, of_it, said = seconds_of(chosen.data, root, mode, cache, *more)
                taken[mode].append(seconds)
                assert len(said) == (mode == "online"), said
                spent += [of_it] if mode == "online" else []
                parts = ", ".join(f"{kind} {of_it[kind]:.2f} s" for kind in KINDS)
                print(f"{mode}: {seconds:.1f} s; W&B: {parts}", flush=True)
            result = result_of(taken, spent, command)
            write_json(chosen.results / "wandb_outage.json", result)
            (chosen.results / "wandb_outage.md").write_text(table(result))
    print(f"closed port / disabled: {result['ratio_median']:.3f} (n = {chosen.pairs})")


if __name__ == "__main__":
    main()

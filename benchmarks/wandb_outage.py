"""What W&B costs a run when its server does not answer: the main job with and without it, in turns.

    python benchmarks/wandb_outage.py --data runs/demo-signs/signs

Writes results/wandb_outage.json: seconds of the whole command with wandb.mode disabled, and online
with a server at a closed port, and the pairs' ratios. Since whole commands differ by more than W&B
costs, it also writes what W&B can have cost at most: the seconds that the command spent inside the
tracker, and the processor's seconds of wandb's own process beside it (read from /proc).
"""

from __future__ import annotations

import argparse
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

from sign_ensemble.run import write_json

RESULTS = Path(__file__).parent / "results"
TIMED = """
import os, sys, time
from pathlib import Path
from sign_ensemble.tracking.tracker import Tracker
spent, beside = [0.0], [0.0]
def service():
    seconds = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if "wandb" in name and int(fields[1]) == os.getpid():
            seconds += sum(int(fields[i]) for i in (11, 12)) / os.sysconf("SC_CLK_TCK")
    return seconds
def timed(method):
    def call(*arguments):
        beside[0] = max(beside[0], service())
        began = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            spent[0] += time.perf_counter() - began
    return call
for name in ("connect", "trial", "evaluation", "close"):
    setattr(Tracker, name, timed(getattr(Tracker, name)))
from sign_ensemble.tune import main
main(sys.argv[1:])
print("inside the tracker:", spent[0])
print("its own process:", beside[0])
"""
CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"


def seconds_of(
    data: Path, root: Path, mode: str, cache: Path, *more: str
) -> tuple[float, float, float, str]:
    """Seconds of a whole tune, of its tracker and of wandb's process, and what it said of W&B."""
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
    inside, beside = (
        float(line.split(": ")[1])
        for what in ("inside the tracker", "its own process")
        for line in lines
        if line.startswith(what)
    )
    return taken, inside, beside, "\n".join(line for line in lines if "W&B" in line)


def table(results: dict[str, Any]) -> str:
    """results/wandb_outage.md: what README quotes."""
    low, high = min(results["ratios"]), max(results["ratios"])
    return (
        "With a server that does not answer, the main job on the demo's images took "
        f"{results['ratio_median']:.3f} of the time without W&B (median of n = {results['n']} "
        f"pairs, {low:.3f}–{high:.3f}, {results['hardware']}), where two commands without W&B "
        f"differ by {100 * results['without_spread']:.0f} % too. What W&B did took "
        f"{100 * results['cost_share']:.1f} % of it: {np.median(results['tracker_seconds']):.1f} s "
        f"that the command waited for it and {np.median(results['process_seconds']):.1f} s of the "
        "processor for wandb's own process.\n"
    )


def main() -> None:
    """Measure in turns and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    taken: dict[str, list[float]] = {"disabled": [], "online": []}
    inside: list[float] = []
    beside: list[float] = []
    with TemporaryDirectory() as folder:
        cache = Path(folder) / "features"
        first = ("--until=search", "--search.trials=3")  # leaves the features for all
        seconds_of(chosen.data, Path(folder) / "runs", "disabled", cache, *first)
        for pair in range(chosen.pairs):
            order = ["disabled", "online"] if pair % 2 == 0 else ["online", "disabled"]
            for mode in order:
                runs = Path(folder) / "runs"
                seconds, tracker, process, said = seconds_of(chosen.data, runs, mode, cache)
                taken[mode].append(seconds)
                assert len(said.splitlines()) == (mode == "online"), said
                inside += [tracker] if mode == "online" else []
                beside += [process] if mode == "online" else []
                print(f"{mode}: {seconds:.1f} s, W&B {tracker:.2f} + {process:.2f} s", flush=True)
    ratios = np.array(taken["online"]) / np.array(taken["disabled"])
    result = {
        "command": f"python benchmarks/wandb_outage.py --pairs {chosen.pairs}",
        "hardware": hardware(),
        "n": chosen.pairs,
        "seconds": taken,
        "ratios": ratios.tolist(),
        "ratio_median": float(np.median(ratios)),
        "tracker_seconds": inside,
        "process_seconds": beside,
        "cost_share": float(
            np.median((np.array(inside) + np.array(beside)) / np.array(taken["online"]))
        ),
        "without_spread": float(max(taken["disabled"]) / min(taken["disabled"]) - 1),
    }
    write_json(RESULTS / "wandb_outage.json", result)
    (RESULTS / "wandb_outage.md").write_text(table(result))
    print(f"closed port / disabled: {result['ratio_median']:.3f} (n = {chosen.pairs})")


if __name__ == "__main__":
    main()

"""What W&B costs a run when its server does not answer: the main job with and without it, in turns.

    python benchmarks/wandb_outage.py --data runs/demo-signs/signs

Writes results/wandb_outage.json: seconds of the whole command with wandb.mode disabled, and online
with a server at a closed port, the median of the pairs' ratios; and, since whole commands differ by
more than W&B costs, the seconds that the command spent inside the tracker.
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
import sys, time
from sign_ensemble.tracking.tracker import Tracker
spent = [0.0]
def timed(method):
    def call(*arguments):
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
"""
CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"


def seconds_of(
    data: Path, root: Path, mode: str, cache: Path, *more: str
) -> tuple[float, float, str]:
    """Seconds of a whole tune and of its tracker, and what it said of W&B."""
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
    (inside,) = [float(line.split(": ")[1]) for line in lines if "inside the tracker" in line]
    return taken, inside, "\n".join(line for line in lines if "W&B" in line)


def table(results: dict[str, Any]) -> str:
    """results/wandb_outage.md: what README quotes."""
    low, high = min(results["ratios"]), max(results["ratios"])
    return (
        "With a server that does not answer, the main job on the demo's images took "
        f"{results['ratio_median']:.3f} of the time without W&B (median of n = {results['n']} "
        f"pairs, {low:.3f}–{high:.3f}, {results['hardware']}); "
        f"{100 * results['tracker_share']:.1f} % of it was spent on W&B.\n"
    )


def main() -> None:
    """Measure in turns and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    taken: dict[str, list[float]] = {"disabled": [], "online": []}
    inside: list[float] = []
    with TemporaryDirectory() as folder:
        cache = Path(folder) / "features"
        first = ("--until=search", "--search.trials=3")  # leaves the features for all
        seconds_of(chosen.data, Path(folder) / "runs", "disabled", cache, *first)
        for pair in range(chosen.pairs):
            order = ["disabled", "online"] if pair % 2 == 0 else ["online", "disabled"]
            for mode in order:
                seconds, tracker, said = seconds_of(chosen.data, Path(folder) / "runs", mode, cache)
                taken[mode].append(seconds)
                assert len(said.splitlines()) == (mode == "online"), said
                inside += [tracker] if mode == "online" else []
                print(f"{mode}: {seconds:.1f} s, {tracker:.2f} s of it W&B", flush=True)
    ratios = np.array(taken["online"]) / np.array(taken["disabled"])
    result = {
        "command": f"python benchmarks/wandb_outage.py --pairs {chosen.pairs}",
        "hardware": hardware(),
        "n": chosen.pairs,
        "seconds": taken,
        "ratios": ratios.tolist(),
        "ratio_median": float(np.median(ratios)),
        "tracker_seconds": inside,
        "tracker_share": float(np.median(np.array(inside) / np.array(taken["online"]))),
    }
    write_json(RESULTS / "wandb_outage.json", result)
    (RESULTS / "wandb_outage.md").write_text(table(result))
    print(f"closed port / disabled: {result['ratio_median']:.3f} (n = {chosen.pairs})")


if __name__ == "__main__":
    main()

"""How long a report takes and how large it is: 50 trials, 2,500 images of drawn numbers.

    python benchmarks/report.py

Writes results/report.json: seconds of the whole command, start to end, of each of five calls, and
the page's size.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hardware import hardware

from sign_ensemble.core.atomic_files import write_json

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "made"))
RESULTS = Path(__file__).parent / "results"
TRIALS, TIMES = 50, 5
SETS = {"known": ("known", 520), "gestures": ("near", 230)}
SETS |= {f"far-{i}": ("far", 350) for i in range(5)}


def table(results: dict[str, Any]) -> str:
    """results/report.md: what README quotes."""
    return (
        f"A report of {results['trials']} trials and {results['images']:,} images takes "
        f"{results['seconds_median']:.0f} s from start to end (median of n = {results['n']}, "
        f"{results['hardware']}) and {results['megabytes']:.1f} MB.\n"
    )


def main() -> None:
    """Measure and write."""
    from drawn_runs import make_run

    with TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "wide", TRIALS, SETS)
        seconds = []
        for _ in range(TIMES):
            began = time.perf_counter()
            command = [sys.executable, "-m", "sign_ensemble.report", "--run", str(run)]
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        size = (run / "report.html").stat().st_size
    result = {
        "command": "python benchmarks/report.py",
        "hardware": hardware(),
        "trials": TRIALS,
        "images": sum(n for _, n in SETS.values()),
        "n": TIMES,
        "seconds": seconds,
        "seconds_median": float(np.median(seconds)),
        "megabytes": size / 1e6,
    }
    write_json(RESULTS / "report.json", result)
    (RESULTS / "report.md").write_text(table(result))
    print(f"{result['seconds_median']:.1f} s (n = {TIMES}), {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

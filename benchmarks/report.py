"""How long does a report take, and how large is its page?

50 trials and 2,500 images of drawn numbers; seconds are of the whole command, start to end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from shared.commands import seconds_of
from shared.results import ROOT, Results, parser_of, publish

TRIALS, TIMES = 50, 5
SETS = {"known": ("known", 520), "gestures": ("near", 230)}
SETS |= {f"far-{i}": ("far", 350) for i in range(5)}


def measure(arguments: argparse.Namespace) -> Results:
    """Seconds of each of several calls, and the page's size."""
    sys.path.insert(0, str(ROOT / "tests" / "made"))
    from drawn_runs import make_run

    with TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "wide", TRIALS, SETS)
        command = [sys.executable, "-m", "sign_ensemble.report", "--run", str(run)]
        seconds = [seconds_of(command) for _ in range(TIMES)]
        size = (run / "report.html").stat().st_size
    return {
        "trials": TRIALS,
        "images": sum(n for _, n in SETS.values()),
        "n": TIMES,
        "seconds": seconds,
        "seconds_median": float(np.median(seconds)),
        "megabytes": size / 1e6,
    }


def table(results: Results) -> str:
    """A sentence."""
    return (
        f"A report of {results['trials']} trials and {results['images']:,} images takes "
        f"{results['seconds_median']:.0f} s from start to end (median of n = {results['n']}, "
        f"{results['hardware']}) and {results['megabytes']:.1f} MB.\n"
    )


def main() -> None:
    """Measure and write."""
    publish("report", parser_of(__doc__).parse_args(), measure, table)


if __name__ == "__main__":
    main()

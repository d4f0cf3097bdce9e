"""Whole commands, as a user gives them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def seconds_of(command: list[str]) -> float:
    """Seconds of a whole command, which has a Ray of its own.

    Raises:
        SystemExit: it fails; with what it said.
    """
    quiet = {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **quiet}, check=False, capture_output=True, text=True
    )
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return taken

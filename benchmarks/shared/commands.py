"""Whole commands, as a user gives them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from shared.results import ROOT
from sign_ensemble.core.run_folder import RunFolder

TUNE = [sys.executable, "-m", "sign_ensemble.tune"]


def seconds_of(command: list[str], **environment: str) -> float:
    """Seconds of a whole command with a Ray of its own.

    Args:
        command: Run in the project's folder.
        environment: Further variables.

    Raises:
        SystemExit: it fails; with its output.
    """
    quiet = {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    env = {**os.environ, **quiet, **environment}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return taken


def protocol_m_run(
    data: Path, runs: Path, signer: int, settings: list[str]
) -> tuple[RunFolder, float | None]:
    """Run the main job on protocol M2, one of Massey's signers held out; the run, and its seconds
    unless it was there already.

    Wrong gestures are the signer's digits 3, 4, 5, 7 and 8; 1, which protocol M had too, is the
    hand of Z. So are other people's, the far set ``foreign-hands``.
    """
    name = f"protocol-m-{signer}"
    command = [
        *TUNE, "--config", "configs/massey.yaml",
        "--data.root", str(data / "massey-asl"), "--data.test_signers", f"[{signer}]",
        "--data.near_labels", "[3,4,5,7,8]",
        "--evaluate.far", f"foreign-hands={data}/asl-digits/[34578]",
        "--run.root", str(runs), "--run.name", name, "--wandb.mode", "disabled", *settings,
    ]  # fmt: skip
    fresh = not (runs / name).exists()
    began = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT)
    return RunFolder(runs / name), time.monotonic() - began if fresh else None

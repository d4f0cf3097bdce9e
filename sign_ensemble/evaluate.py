"""Evaluate a run on its test images and on near and far OOD sets, and write metrics.json.

Example:
    python -m sign_ensemble.evaluate --run runs/photos-1a2b3c4d --evaluate.far stairs=photos/stairs
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sign_ensemble.core.command_line import Parser, named_paths
from sign_ensemble.core.config import Config, EvaluateConfig, WandbConfig
from sign_ensemble.core.config_checks import check
from sign_ensemble.core.console import exit_with, is_interrupt, say
from sign_ensemble.core.process_memory import imports_without_gc
from sign_ensemble.core.storage import storage_path


def main(arguments: Sequence[str]) -> None:
    """Parse, evaluate, print the summary."""
    parser = Parser(
        prog="python -m sign_ensemble.evaluate", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("--run", required=True, type=str, help="the run's folder or URI")
    parser.add_class_arguments(EvaluateConfig, "evaluate")
    parser.add_class_arguments(WandbConfig, "wandb")
    parsed = parser.instantiate(parser.parse_args(named_paths(arguments)))
    check(Config(evaluate=parsed.evaluate))
    with imports_without_gc():
        from sign_ensemble import tracking
        from sign_ensemble.core.run_folder import RunFolder, load_config
        from sign_ensemble.pipeline.evaluation import evaluate_run

    run = RunFolder(storage_path(parsed.run, "--run").resolve())
    load_config(run)  # raises where this is no run, before anything is written
    tracker = tracking.Tracker(parsed.wandb, run, say)
    try:
        evaluate_run(run, parsed.evaluate, tracker)
    finally:
        tracker.close(interrupted=is_interrupt(sys.exception()))


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

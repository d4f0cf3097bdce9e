"""Evaluate a run on its test images and on near and far OOD sets, and write metrics.json.

Example:
    python -m sign_ensemble.evaluate --run runs/photos-1a2b3c4d --evaluate.far stairs=photos/stairs
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sign_ensemble.core.command_line import Parser, named_paths
from sign_ensemble.core.config import Config, EvaluateConfig, WandbConfig
from sign_ensemble.core.config_checks import check, with_absolute_paths
from sign_ensemble.core.console import exit_with
from sign_ensemble.core.process_memory import imports_without_gc
from sign_ensemble.core.storage import absolute_path


def main(arguments: Sequence[str]) -> None:
    """Parse, evaluate, print the summary."""
    parser = Parser(
        prog="python -m sign_ensemble.evaluate", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("--run", required=True, type=str, help="the run's folder or URI")
    parser.add_class_arguments(EvaluateConfig, "evaluate")
    parser.add_class_arguments(WandbConfig, "wandb")
    parsed = parser.instantiate(parser.parse_args(named_paths(arguments)))
    config = with_absolute_paths(Config(evaluate=parsed.evaluate))
    check(config)
    with imports_without_gc():
        from sign_ensemble.core.run_folder import RunFolder, load_config
        from sign_ensemble.core.run_lock import locked
        from sign_ensemble.pipeline.evaluation import evaluate_run
        from sign_ensemble.tracking import tracked

    run = RunFolder(absolute_path(parsed.run, "--run"))
    load_config(run)  # raises where this is no run, before anything is written
    with locked(run), tracked(parsed.wandb, run) as tracker:
        evaluate_run(run, config.evaluate, tracker)


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

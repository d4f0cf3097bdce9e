"""Write report.html of a finished run, or of several side by side; or a W&B Report of a project.

Example:
    python -m sign_ensemble.report --run runs/photos-1a2b3c4d
    python -m sign_ensemble.report --run runs/one runs/two --out both.html
    python -m sign_ensemble.report --wandb ENTITY/PROJECT --dry-run
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from sign_ensemble.core.atomic_files import check_writable, write_json
from sign_ensemble.core.command_line import Parser
from sign_ensemble.core.config import SearchConfig
from sign_ensemble.core.console import exit_with, progress, say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.run_lock import locked
from sign_ensemble.core.storage import StoragePath, absolute_path


def main(arguments: Sequence[str]) -> None:
    """Parse, write, print where."""
    parser = Parser(prog="python -m sign_ensemble.report", description=str(__doc__).split("\n")[0])
    parser.add_argument(
        "--run", nargs="+", type=str, default=[], help="folders or URIs of evaluated runs"
    )
    parser.add_argument(
        "--out", type=str, help="the file to write; by default report.html in the run's folder"
    )
    parser.add_argument(
        "--wandb",
        type=str,
        metavar="ENTITY/PROJECT",
        help="make a W&B Report instead, of all runs of the project or of --run's group",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write the W&B Report's specification as JSON to --out, wandb-report.json by default",
    )
    parsed = parser.parse_args(list(arguments))
    runs = [RunFolder(absolute_path(each, "--run")) for each in parsed.run]
    if parsed.wandb is not None:
        wandb_report(parsed, runs)
    elif parsed.dry_run:
        raise UserError("--dry-run: goes with --wandb ENTITY/PROJECT")
    else:
        html_report(runs, parsed.out)


def html_report(runs: Sequence[RunFolder], out: str | None) -> None:
    """report.html of a run, or one page of several."""
    from sign_ensemble.report.write_report import write_report

    names = [run.path.name for run in runs]
    if not runs:
        raise UserError("--run: name a run's folder, or several")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--run: two runs are called {min(twice)}")
    if len(runs) > 1 and not out:
        raise UserError("--out: name the file for the page of several runs")
    page: StoragePath = absolute_path(out, "--out") if out else runs[0].report
    if out:
        check_writable(page)
    with ExitStack() as locks, progress("plots") as step:
        for run in filter(lambda run: run.config.is_file(), runs):
            locks.enter_context(locked(run))
        write_report(runs, page, step)
    say(f"report: {page}")


def wandb_report(parsed: Any, runs: Sequence[RunFolder]) -> None:
    """A W&B Report of a project, or of one run's group in it."""
    from sign_ensemble.data.far_ood import FAR_SETS
    from sign_ensemble.search.space import distributions
    from sign_ensemble.tracking import wandb_report

    if not re.fullmatch(r"[^/\s]+/[^/\s]+", parsed.wandb):
        raise UserError(f"--wandb is {parsed.wandb}: it must be ENTITY/PROJECT")
    if len(runs) > 1:
        raise UserError("--run: a W&B Report takes one run, or without --run all of the project")
    entity, project = parsed.wandb.split("/")
    group = runs[0].path.name if runs else None
    space = distributions(SearchConfig())
    params = {name: bool(getattr(each, "log", False)) for name, each in space.items()}
    report = wandb_report.report(entity, project, group, params, tuple(FAR_SETS))
    if parsed.dry_run:
        path = absolute_path(parsed.out or "wandb-report.json", "--out")
        write_json(path, wandb_report.specification(report))
        say(f"specification of the W&B Report: {path}")
    else:
        say(f"W&B Report: {wandb_report.save(report)}")


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

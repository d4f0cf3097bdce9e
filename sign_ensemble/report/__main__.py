"""Write report.html of a finished run, or of several side by side.

Example:
    python -m sign_ensemble.report --run runs/photos-1a2b3c4d
    python -m sign_ensemble.report --run runs/one runs/two --out both.html
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sign_ensemble.cli import Parser
from sign_ensemble.console import exit_with, progress, say
from sign_ensemble.errors import UserError
from sign_ensemble.storage import Place, place


def main(arguments: Sequence[str]) -> None:
    """Parse, write, say where."""
    parser = Parser(prog="python -m sign_ensemble.report", description=str(__doc__).split("\n")[0])
    parser.add_argument(
        "--run", required=True, nargs="+", type=str, help="folders or URIs of evaluated runs"
    )
    parser.add_argument(
        "--out", type=str, help="the page; by default report.html in the run's folder"
    )
    made = parser.parse_args(list(arguments))
    from sign_ensemble.report.write import write_report
    from sign_ensemble.run import RunFolder

    runs = [RunFolder(place(each, "--run").resolve()) for each in made.run]
    names = [run.path.name for run in runs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--run: two runs are called {min(twice)}")
    if len(runs) > 1 and not made.out:
        raise UserError("--out: say where the page of several runs is to be written")
    page: Place = Path(made.out).resolve() if made.out else runs[0].report
    with progress("plots") as step:
        write_report(runs, page, step)
    say(f"report: {page}")


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

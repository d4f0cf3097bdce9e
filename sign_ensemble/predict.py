"""Predict: a label for each image, or why it is rejected.

Example:
    python -m sign_ensemble.predict --run runs/photos-1a2b3c4d photos/new --out answers.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from sign_ensemble.core.atomic_files import check_writable
from sign_ensemble.core.command_line import Parser
from sign_ensemble.core.console import exit_with, say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.process_memory import imports_without_gc
from sign_ensemble.core.storage import absolute_path, storage_path
from sign_ensemble.report.console_tables import show_answers

OUTPUTS = (".csv", ".parquet")


def main(arguments: Sequence[str]) -> None:
    """Parse, predict, print or write a table."""
    parser = Parser(prog="python -m sign_ensemble.predict", description=str(__doc__).split("\n")[0])
    parser.add_argument("images", nargs="+", type=str, help="image files or folders of them")
    parser.add_argument("--run", required=True, type=str, help="the run's folder or URI")
    parser.add_argument("--out", type=str, default=None, help="a .csv or .parquet file to write")
    parsed = parser.parse_args(arguments)
    out = storage_path(parsed.out, "--out") if parsed.out else None
    if out and not out.name.lower().endswith(OUTPUTS):
        raise UserError(f"--out is {out}: it must end in .csv or .parquet")
    if out:
        check_writable(out)
    with imports_without_gc():
        from sign_ensemble.core.run_folder import RunFolder
        from sign_ensemble.pipeline.prediction import answer_files, write_answers

    run = RunFolder(absolute_path(parsed.run, "--run"))
    rows: list[dict[str, Any]] = answer_files(run, parsed.images)
    if out:
        write_answers(rows, out)
        say(f"{len(rows)} answers: {out}")
    else:
        show_answers(rows)


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

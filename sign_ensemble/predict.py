"""Predict: a label for each image, or why it is rejected.

Example:
    python -m sign_ensemble.predict --run runs/photos-1a2b3c4d photos/new --out answers.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sign_ensemble.core.atomic_files import check_writable
from sign_ensemble.core.command_line import Parser
from sign_ensemble.core.console import exit_with
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.process_memory import imports_without_gc
from sign_ensemble.core.storage import storage_path
from sign_ensemble.report.console_tables import show_answers

OUTPUTS = (".csv", ".parquet", ".jsonl")
GIVEN = (
    "images, videos, folders of them, patterns, .csv or .parquet tables with a column path; on "
    "this machine or an object store"
)


def main(arguments: Sequence[str]) -> None:
    """Parse, predict, print or write a table."""
    parser = Parser(prog="python -m sign_ensemble.predict", description=str(__doc__).split("\n")[0])
    parser.add_argument("images", nargs="+", type=str, help=GIVEN)
    parser.add_argument(
        "--run", required=True, type=str, help="a run's folder or URI, or an exported folder"
    )
    parser.add_argument(
        "--out", type=str, default=None, help="a .csv, .parquet or .jsonl file to write"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster"
    )
    parser.add_argument(
        "--labels",
        choices=("from-folder",),
        default=None,
        help="take the folder of each image for its label, and print accuracy and coverage",
    )
    parsed = parser.parse_args(arguments)
    out = storage_path(parsed.out, "--out") if parsed.out else None
    if out and not out.name.lower().endswith(OUTPUTS):
        raise UserError(f"--out is {out}: it must end in .csv, .parquet or .jsonl")
    if out:
        check_writable(out)
    with imports_without_gc():
        from sign_ensemble.pipeline.prediction import job_of, predictions, write_predictions

    job, by_folder = job_of(parsed.run, parsed.images, parsed.engine), parsed.labels is not None
    if out:
        write_predictions(job, out, by_folder)
    else:
        predictions(job, show_answers, by_folder)


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

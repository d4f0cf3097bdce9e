"""Export a run to a folder that runs elsewhere: one ONNX file, or the run's own files.

Example:
    python -m sign_ensemble.export --run runs/photos-1a2b3c4d --out exported
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import get_args

from sign_ensemble.core.command_line import Parser
from sign_ensemble.core.console import exit_with
from sign_ensemble.core.process_memory import imports_without_gc
from sign_ensemble.core.storage import absolute_path
from sign_ensemble.serving.exported_folder import Format


def main(arguments: Sequence[str]) -> None:
    """Parse, export, print what the self-test counted."""
    parser = Parser(prog="python -m sign_ensemble.export", description=str(__doc__).split("\n")[0])
    parser.add_argument("--run", required=True, type=str, help="the run's folder or URI")
    parser.add_argument(
        "--out", required=True, type=str, help="a new folder, or an earlier export to replace"
    )
    parser.add_argument(
        "--format",
        choices=get_args(Format),
        default="onnx",
        help="onnx: one file, and a runtime without torch; torch: a run's own files",
    )
    parser.add_argument(
        "--int8", action="store_true", help="quantise model.onnx: smaller, and less exact"
    )
    parser.add_argument(
        "--examples", type=int, default=2, help="example images; they show people's hands (0: none)"
    )
    parsed = parser.parse_args(arguments)
    with imports_without_gc():
        from sign_ensemble.core.run_folder import RunFolder
        from sign_ensemble.pipeline.exporting import ExportSettings, export

    run = RunFolder(absolute_path(parsed.run, "--run"))
    out = absolute_path(parsed.out, "--out")
    export(run, out, ExportSettings(parsed.format, parsed.int8, parsed.examples))


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

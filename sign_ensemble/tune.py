"""The main job: search, ensemble, rejection rule, evaluation.

Example:
    python -m sign_ensemble.tune --data.root photos --data.test_signers '[anna]'
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sign_ensemble.core.command_line import config_of, named_paths, parser_for
from sign_ensemble.core.console import exit_with
from sign_ensemble.core.process_memory import imports_without_gc

STAGES = ("search", "ensemble", "evaluate")


def main(arguments: Sequence[str]) -> None:
    """Parse, run the stages, print the summary."""
    parser = parser_for("tune", str(__doc__).split("\n\n")[0])
    parser.add_argument(
        "--until",
        choices=STAGES,
        default="evaluate",
        help="stop after this stage; a later call with the same settings continues",
    )
    parsed = parser.parse_args(named_paths(arguments))
    config = config_of(parser, parsed)
    with imports_without_gc():
        from sign_ensemble.pipeline import jobs

    jobs.tune(config, parsed.until)


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

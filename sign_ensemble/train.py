"""Train one setting without a search: cross-validate it, then make a run of one member.

Example:
    python -m sign_ensemble.train --data.root photos --member.dropout=0.3

A W&B sweep can call it: the agent's --key=value arguments are these settings, and nll is the metric
to minimise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sign_ensemble.core.command_line import config_of, named_paths, parser_for
from sign_ensemble.core.console import exit_with, say
from sign_ensemble.core.process_memory import imports_without_gc
from sign_ensemble.core.whose_signs import whose_signs


def main(arguments: Sequence[str]) -> None:
    """Parse, train, print the metrics."""
    parser = parser_for("train", str(__doc__).split("\n\n")[0])
    parsed = parser.parse_args(named_paths(arguments))
    config = config_of(parser, parsed)
    with imports_without_gc():
        from sign_ensemble.pipeline import jobs

    record = jobs.train(config)
    worst = min(fold["accuracy"] for fold in record.folds)
    say(
        f"on {whose_signs(config.data.signers).held_out}: nll {record.nll:.4f}, "
        f"accuracy {record.mean('accuracy'):.3f}, "
        f"in the worst fold {worst:.3f}, ece {record.mean('ece'):.3f}"
    )


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

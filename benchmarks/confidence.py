"""How reliable is the confidence of an answer where half of what is shown is no sign?

Protocol M's runs without fine-tuning, made by two_stages.py; no image is read again.
Counted are the answers that are so confident, so probable by their label alone, or so probably
in-distribution; and, of an equal mixture of a held-out signer's signs and wrong gestures, the share
that is right at each confidence, rejected answers included.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from shared.results import Results, markdown, protocol_parser, publish
from shared.unseen_signer import KNOWN, Columns, answers_of

from sign_ensemble.core.run_folder import RunFolder

NAME = "confidence"
CONFIDENT = 0.9
BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)
ROWS = {
    "wrong gestures accepted": ("near", None),
    "wrong gestures accepted, label ≥ .90 probable": ("near", "probability"),
    "wrong gestures accepted, ≥ .90 confident": ("near", "confidence"),
    "wrong gestures accepted, ≥ .90 probably in-distribution": ("near", "in_distribution"),
    "signs accepted": (KNOWN, None),
    "signs accepted, label ≥ .90 probable": (KNOWN, "probability"),
    "signs accepted, ≥ .90 confident": (KNOWN, "confidence"),
    "signs accepted, ≥ .90 probably in-distribution": (KNOWN, "in_distribution"),
    "far images accepted, ≥ .90 confident": ("far", "confidence"),
}


def shares(seen: Columns) -> list[float]:
    """A figure for each of ROWS."""
    found = []
    for kind, column in ROWS.values():
        accepted = seen["accepted"] & (seen[column] >= CONFIDENT if column else True)
        found.append(float(accepted[seen["kind"] == kind].mean()))
    return found


def reliability(each: Sequence[Columns], column: str) -> list[dict[str, float]]:
    """By bins of a column: weight, mean and share right of signs and wrong gestures, every signer
    weighing the same and half of each being gestures.
    """
    values, right, weights = [], [], []
    for seen in each:
        for kind in (KNOWN, "near"):
            of_kind = seen["kind"] == kind
            values.append(seen[column][of_kind])
            right.append(seen["right"][of_kind])
            weights.append(np.full(of_kind.sum(), 0.5 / (len(each) * of_kind.sum())))
    values_N, right_N, weights_N = (np.concatenate(part) for part in (values, right, weights))
    bins_N = np.clip(np.searchsorted(BINS, values_N, side="right") - 1, 0, len(BINS) - 2)
    found = []
    for i in np.unique(bins_N):
        in_bin = bins_N == i
        found.append(
            {
                "from": BINS[i],
                "share": float(weights_N[in_bin].sum()),
                "mean": float(np.average(values_N[in_bin], weights=weights_N[in_bin])),
                "right": float(np.average(right_N[in_bin], weights=weights_N[in_bin])),
            }
        )
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """From the runs' answers."""
    runs = [RunFolder(arguments.runs / f"protocol-m-{signer}") for signer in arguments.signers]
    seen = [answers_of(run) for run in runs]
    return {
        "signers": [f"hand{signer}" for signer in arguments.signers],
        "shares": {"the rule": [shares(each) for each in seen]},
        "reliability": {name: reliability(seen, name) for name in ("probability", "confidence")},
    }


def table(results: Results) -> str:
    """Shares by signer, then the reliability."""
    text = ""
    for rule, figures in results["shares"].items():
        rows = [
            [name, *(f"{value:.3f}" for value in [*values, float(np.mean(values))])]
            for name, values in zip(ROWS, np.array(figures).T.tolist(), strict=True)
        ]
        text += markdown([rule, *results["signers"], "mean"], rows) + "\n"
    rows = [
        [f"{name} from {at['from']:.2f}", *(f"{at[k]:.3f}" for k in ("share", "mean", "right"))]
        for name, bins in results["reliability"].items()
        for at in bins
    ]
    text += markdown(["of signs and as many wrong gestures", "share", "mean", "right"], rows)
    return text + (
        f"\nHeads on frozen features; n = {len(results['signers'])} runs, a held-out signer each; "
        f"{results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = protocol_parser(__doc__, runs="runs/two-stages/frozen")
    publish(NAME, parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()

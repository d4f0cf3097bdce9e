"""What do the crop, landmarks and conditions in calibration earn, each left out in turn?

Protocol M2 as in ``protocol_m.py``, the main job each time, with further seeds as a measure of
chance. Without the crop AlexNet sees whole pictures and no landmarks are read: the default of
before hands were found. Of the training signers the table shows the coverage of each by the
others' threshold, of the held-out signer everything else, once more under each condition that
augmented copies have. Unknown settings go to the main job.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from shared.commands import protocol_m_run
from shared.results import (
    Results,
    markdown,
    parse_with_settings,
    protocol_parser,
    publish,
    save,
    stored,
)

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder

NAME = "ablations"
SHOWN = 40  # signs, and wrong gestures, under each condition
WAYS = {
    "default": [],
    "default, seed 1": ["--search.seed", "1"],
    "default, seed 2": ["--search.seed", "2"],
    "without the crop": ["--data.crop", "none"],
    "without landmarks": ["--ensemble.kinds", "[pixels]"],
    "without conditions in calibration": ["--rejection.conditions", "[]"],
}


def figures_of(run: RunFolder) -> dict[str, float]:
    """What the table shows of one run."""
    tree = read_json(run.metrics)
    known, near = tree["known"], tree["sets"]["wrong-gesture"]
    far = [each["accepted"]["value"] for each in tree["sets"].values() if each["kind"] == "far"]
    trial = [each["images"]["value"] for each in tree["details"]["threshold"].values()]

    taken = {k: v for k, v in tree.get("conditions", {}).items() if k != "as taken"}

    return {
        "coverage of training signers, worst": min(trial),
        **{name: known[name]["value"] for name in ("accuracy", "coverage", "selective_risk")},
        "near AUROC": near["auroc"]["value"],
        "near FPR95": near["fpr95"]["value"],
        "near answered": near["accepted"]["value"],
        "far answered, worst set": max(far),
        **{
            f"{name}, otherwise": float(np.mean([each[name]["value"] for each in taken.values()]))
            for name in ("accuracy", "coverage", "near")
            if taken
        },
    }


def measure(arguments: argparse.Namespace) -> Results:
    """Every way on every signer; those measured already are kept."""
    results: Results = {"ways": stored(arguments, NAME).get("ways", {})}
    shared = ["--data.cache", str(arguments.runs / "features")]
    shown = ["--evaluate.condition_images", str(SHOWN)]
    for signer in arguments.signers:
        for way in arguments.ways:
            found = results["ways"].setdefault(way, {})
            if str(signer) not in found:
                folder = arguments.runs / way.replace(",", "").replace(" ", "-")
                settings = [*WAYS[way], *shared, *shown, *arguments.settings]
                run, _ = protocol_m_run(arguments.data, folder, signer, settings)
                found[str(signer)] = figures_of(run)
                save(arguments, NAME, results)
    return results


def table(results: Results) -> str:
    """A row per figure and signer, a column per way."""
    ways: dict[str, Any] = {way: results["ways"][way] for way in WAYS if way in results["ways"]}
    signers = sorted({signer for each in ways.values() for signer in each})
    rows = []
    for signer in signers:
        of_signer = [each.get(signer, {}) for each in ways.values()]
        for figure in max(of_signer, key=len):
            cells = [f"{each[figure]:.3f}" if figure in each else "–" for each in of_signer]
            rows.append([f"hand{signer}: {figure.replace('selective_risk', 'errors')}", *cells])
    return (
        markdown(["", *ways], rows)
        + f"\nProtocol M2, held-out signers {', '.join(signers)}, one run each. Otherwise: mean "
        f"over the conditions, {SHOWN} signs and as many wrong gestures (not measured without the "
        f"crop). {results['hardware']}; "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = protocol_parser(__doc__)
    parser.set_defaults(signers=[1, 5])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    publish(NAME, parse_with_settings(parser), measure, table)


if __name__ == "__main__":
    main()

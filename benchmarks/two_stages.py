"""What does fine-tuning gain over heads on frozen features, and what do built-in signers add?

Protocol M2, each signer held out: the main job as it comes; with configs/finetune.yaml; and with
that and built-in signers as extra training signers (--built-in, all signers by default). Unknown
settings go to each; runs that are there are not made again.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from protocol_m import COVERAGE, PROTOCOL
from shared.commands import protocol_m_run
from shared.results import (
    Results,
    markdown,
    parse_with_settings,
    protocol_parser,
    publish,
    save,
)
from shared.unseen_signer import error_at

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import Recipe

NAME = "two_stages"
WITH_BUILT_IN = "with built-in signers"
FINETUNED = ["--config", "configs/finetune.yaml"]
STAGES = {"frozen": [], "fine-tuned": FINETUNED, WITH_BUILT_IN: FINETUNED}
BUILT_IN = Recipe(width=256, height=192, hand_only=True)
SIGNERS, EACH = 12, 4  # many people matter more than many pictures of each
AT = f"error where p-values keep {100 * COVERAGE:.0f} %"
FAR = "worst far set's FPR95"
ROWS = {  # figure: its place in metrics.json, and which of its values is the worst
    "accuracy": (("known", "accuracy"), min),
    "coverage": (("known", "coverage"), min),
    "error among the accepted": (("known", "selective_risk"), max),
    "NLL": (("known", "nll"), max),
    "wrong-gesture AUROC": (("sets", "wrong-gesture", "auroc"), min),
    "wrong-gesture FPR95": (("sets", "wrong-gesture", "fpr95"), max),
}
WORST: dict[str, Any] = {name: worst for name, (_, worst) in ROWS.items()} | {FAR: max, AT: max}


def figures_of(run: RunFolder) -> dict[str, Any]:
    """What the table shows of one run; minutes are those of its stages."""
    tree = read_json(run.metrics)
    found: dict[str, Any] = {"minutes": sum(read_json(run.timings).values()) / 60}
    for name, (place, _) in ROWS.items():
        part = tree
        for key in place:
            part = part[key]
        found[name] = part["value"]
    found[AT] = error_at(run, COVERAGE)
    sets = tree["sets"].values()
    found[FAR] = max(s["fpr95"]["value"] for s in sets if s["kind"] == "far")
    found["members"] = tree["about"]["members"]
    found["gains"] = read_json(run.members / "index.json").get("gains")
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Every signer by every stage."""
    pictures = (arguments.runs / "built-in").resolve()
    built_in = arguments.signers if arguments.built_in is None else arguments.built_in
    if built_in:
        synthesize(pictures, BUILT_IN, SIGNERS, EACH, 0, None)
    runs: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    cache = ["--data.cache", str((arguments.runs / "features").resolve())]
    results: Results = {"protocol": PROTOCOL, "signers": [], "runs": runs}
    for signer in arguments.signers:
        for stage, settings in STAGES.items():
            if stage == WITH_BUILT_IN:
                if signer not in built_in:
                    continue
                settings = [*settings, "--data.extra_signers", str(pictures / "signs")]
            root = (arguments.runs / stage.replace(" ", "-")).resolve()
            settings = [*settings, *cache, *arguments.settings]
            run, _ = protocol_m_run(arguments.data, root, signer, settings)
            runs[stage][str(signer)] = figures_of(run)
        config = load_config(run)
        results["signers"].append(signer)
        results["trials"] = config.search.trials
        results["settings"] = (
            f"layers {config.finetune.layers}, {config.finetune.epochs} epochs, "
            f"{config.ensemble.size} members"
        )
        save(arguments, NAME, results)
    return results


def table(results: Results) -> str:
    """A row per figure and stage."""
    signers = [str(signer) for signer in sorted(results["signers"])]
    rows = []
    for name, worst in {**WORST, "minutes": max}.items():
        for stage, runs in results["runs"].items():
            values = [runs[signer][name] for signer in signers if signer in runs]
            if len(values) == len(signers):
                digits = 1 if name == "minutes" else 3
                shown = (f"{v:.{digits}f}" for v in [*values, np.mean(values), worst(values)])
                rows.append([f"{name}, {stage}", *shown])
    gains = [results["runs"]["fine-tuned"][signer]["gains"] for signer in signers]
    before, after = (
        np.mean([gain[stage]["accuracy"] for gain in gains]) for stage in ("heads", "finetuned")
    )
    built_in = (
        f"Built-in signers: {SIGNERS}, {EACH} pictures of each label; their poses were drawn after "
        "the photographs of all five people had been looked at. "
        if results["runs"][WITH_BUILT_IN]
        else ""
    )
    return markdown(["", *(f"hand{signer}" for signer in signers), "mean", "worst"], rows) + (
        f"\nProtocol {results['protocol']}. On training signers that a fold model had not seen, "
        f"fine-tuning changed accuracy from {before:.3f} to {after:.3f} (mean over the runs). "
        f"Trials per search: {results['trials']}; {results['settings']}. n = {len(signers)} "
        f"signers, one run each. {built_in}{results['hardware']}. `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = protocol_parser(__doc__, runs="runs/two-stages")
    parser.add_argument("--built-in", type=int, nargs="*", help="default: as --signers")
    publish(NAME, parse_with_settings(parser), measure, table)


if __name__ == "__main__":
    main()

"""Are letters that were never learned rejected, when signed by a person never seen?

Needs the runs of ``protocol_m.py`` for their cached features. Groups of five letters are left out
in turn, of every held-out signer: the other signers' other letters are learned from, and the
signer's letters of the group are wrong gestures. Letters differ from each other by less than digits
from letters: this is what scores are chosen by. Only distances are measured, no network is trained,
and the threshold is set as the product sets it, from the training signers alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from shared.results import Results, markdown, protocol_parser, publish, save, stored

from sign_ensemble import metrics
from sign_ensemble.core.run_folder import RunFolder, cache_of, load_config
from sign_ensemble.data.feature_cache import CachedFeatures, features_of_rows
from sign_ensemble.pipeline.held_out_labels import distances_of_kinds
from sign_ensemble.pipeline.out_of_signer import reference_set_of
from sign_ensemble.pipeline.preparation import Prepared, prepare
from sign_ensemble.rejection.conformal import calibration_weights
from sign_ensemble.rejection.joint_distance import fit_joint_scales, joint_distance
from sign_ensemble.rejection.kind_distances import KindDistances, kind_distances
from sign_ensemble.rejection.rule import accepts_score

NAME, GROUP = "held_out_letters", 5
Figures = dict[str, float]


def without_pixels(kinds: KindDistances) -> KindDistances:
    """Every label's pixels fit alike."""
    none = np.zeros_like(kinds.tips_NK)
    return replace(kinds, tips_NK=none, tip_discriminants_NK=none)


def without_landmarks(kinds: KindDistances) -> KindDistances:
    """Every label's landmarks fit alike."""
    none = np.zeros_like(kinds.landmarks_NK)
    return replace(kinds, landmarks_NK=none, landmark_discriminants_NK=none)


def without_discriminants(kinds: KindDistances) -> KindDistances:
    """Principal components alone."""
    return replace(
        kinds,
        tip_discriminants_NK=kinds.tips_NK,
        landmark_discriminants_NK=kinds.landmarks_NK,
    )


def without_components(kinds: KindDistances) -> KindDistances:
    """Discriminants alone."""
    return replace(
        kinds,
        tips_NK=kinds.tip_discriminants_NK,
        landmarks_NK=kinds.landmark_discriminants_NK,
    )


WAYS: dict[str, Callable[[KindDistances], KindDistances]] = {
    "joint distance, as shipped": lambda kinds: kinds,
    "pixels alone": without_landmarks,
    "landmarks alone": without_pixels,
    "principal components alone": without_discriminants,
    "discriminants alone": without_components,
}


def groups_of(labels: int, count: int, seed: int) -> list[NDArray[np.int64]]:
    """So many groups of labels, drawn from one order."""
    order = np.random.default_rng(seed).permutation(labels)
    return [np.sort(order[i * GROUP : (i + 1) * GROUP]) for i in range(count)]


def one_case(
    prepared: Prepared, shown: CachedFeatures, truth_N: NDArray[np.int64], group: NDArray[np.int64]
) -> dict[str, Figures]:
    """Way → figures, for one signer's images (label numbers ``truth_N``) and one group."""
    task, asked_for = prepared.task, prepared.config.rejection.target_coverage
    kept = np.setdiff1d(np.arange(len(task.labels)), group)
    every = reference_set_of(task, np.flatnonzero(~np.isin(task.labels_N, group)))
    reference = replace(every, labels_B=np.searchsorted(kept, every.labels_B))
    kinds, rows_C, copied_C = distances_of_kinds(prepared, reference, len(kept))
    learned = np.flatnonzero(~np.isin(task.labels_N[rows_C], group))
    calibration, rows_C, copied_C = kinds.rows(learned), rows_C[learned], copied_C[learned]
    labels_C, folds_C = np.searchsorted(kept, task.labels_N[rows_C]), task.folds_N[rows_C]
    fitted = reference.kind_gaussians()
    assert fitted is not None
    hands = shown.rows(np.arange(len(truth_N))).of_hand
    of_signer = kind_distances(hands, fitted, len(kept))
    near_N = np.isin(truth_N, group)
    found = {}
    for name, way in WAYS.items():
        of_C, of_N = way(calibration), way(of_signer)
        scales = fit_joint_scales(of_C, np.zeros(1), labels_C)
        scores_C, scores_N = (joint_distance(of, None, scales).total_N for of in (of_C, of_N))
        for copies in (True, False):
            chosen_C = np.ones(len(copied_C), bool) if copies else ~copied_C
            weights_C = calibration_weights(folds_C[chosen_C], copied_C[chosen_C])
            accepted_N = accepts_score(scores_N, scores_C[chosen_C], weights_C, asked_for)
            title = name if copies else f"{name}; threshold from images as they are"
            found[title] = {
                "auroc": float(metrics.auroc(scores_N[~near_N], scores_N[near_N])),
                "fpr95": float(metrics.fpr95(scores_N[~near_N], scores_N[near_N])),
                "coverage": float(accepted_N[~near_N].mean()),
                "near": float(accepted_N[near_N].mean()),
            }
    return found


def one_signer(run: RunFolder, groups: int, seed: int) -> dict[str, dict[str, Figures]]:
    """Letters of the group → way → figures."""
    config = load_config(run)
    prepared = prepare(config)
    rows = prepared.manifest.rows("test")
    shown = CachedFeatures(
        features_of_rows(rows, prepared.manifest.root, config.data, cache_of(config))
    )
    names = prepared.task.labels
    truth_N = np.array([names.index(label) for label in rows.column("label").to_pylist()])
    found = {}
    for group in groups_of(len(names), groups, seed):
        letters = "".join(names[i] for i in group)
        found[letters] = one_case(prepared, shown, truth_N, group)
        print(run.path.name, letters, found[letters][next(iter(WAYS))], flush=True)
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Every signer; those measured already are kept."""
    torch.set_num_threads(2)
    results: Results = {"signers": stored(arguments, NAME).get("signers", {})}
    for signer in arguments.signers:
        if str(signer) not in results["signers"]:
            run = RunFolder(arguments.runs / f"protocol-m-{signer}")
            results["signers"][str(signer)] = one_signer(run, arguments.groups, arguments.seed)
            results["signers"] = dict(sorted(results["signers"].items()))
            save(arguments, NAME, results)
    return results


def table(results: Results) -> str:
    """A row per way."""
    cases = [case for signer in results["signers"].values() for case in signer.values()]
    groups = sorted({letters for signer in results["signers"].values() for letters in signer})

    def row(way: str) -> list[str]:
        def each(figure: str) -> list[float]:
            return [case[way][figure] for case in cases]

        return [
            way,
            f"{np.mean(each('auroc')):.3f} ({min(each('auroc')):.3f})",
            f"{np.mean(each('fpr95')):.3f}",
            f"{np.mean(each('coverage')):.3f}",
            f"{np.mean(each('near')):.3f}",
        ]

    header = ["", "AUROC (worst)", "FPR95", "signs answered", "letters never learned answered"]
    return (
        markdown(header, [row(way) for way in cases[0]])
        + f"\nLetters held out: {', '.join(groups)}; {len(results['signers'])} held-out signers, "
        f"{len(cases)} cases, means. {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = protocol_parser(__doc__)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    publish(NAME, parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()

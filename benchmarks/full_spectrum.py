"""Protocol F: is a change of how a picture was taken told from a change of what it shows?

Takes the runs of protocol M2 that ``protocol_m.py`` made. Each held-out signer's letters and wrong
gestures are shown under each condition of ``shared/conditions.py``, and backgrounds without a hand.
With the run, in the same pass: what tutorials do with the same landmarks, an MLP and its highest
probability; a Gaussian per label on the landmarks; and an ordinary ensemble of AlexNet heads on
whole pictures with entropy. Each has its threshold at 95 % of signs that its models had not seen
the signer of, among the training signers alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared.conditions import CONDITIONS, under
from shared.heads import entropy, mean_probs
from shared.results import Results, markdown, protocol_parser, publish, save, stored
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sign_ensemble import metrics
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.run_folder import RunFolder, cache_of, load_config
from sign_ensemble.data import backbone, manifest
from sign_ensemble.data.feature_cache import (
    CachedFeatures,
    all_layers,
    features_of_rows,
    hand_counts,
)
from sign_ensemble.data.hand_views import look
from sign_ensemble.data.images import decode_rgb, read_file
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.data.square_pictures import fit_square, picture_side
from sign_ensemble.hands.landmark_features import landmark_features
from sign_ensemble.learning.fold_models import fold_of_each
from sign_ensemble.learning.head_training import fit_rows
from sign_ensemble.learning.network import logits_of
from sign_ensemble.learning.task import Task
from sign_ensemble.rejection.conformal import signer_weights
from sign_ensemble.rejection.kind_distances import fit_kind_gaussians, kind_distances
from sign_ensemble.rejection.predictor import load_predictor

NAME, COVERAGE = "full_spectrum", 0.95
OURS, MLP, GAUSSIANS, ORDINARY = (
    "sign_ensemble", "landmarks, MLP, max-prob", "landmarks, Gaussians", "AlexNet heads, entropy",
)  # fmt: skip
BACKGROUNDS = ("plain", "white", "grey", "green", "photo")  # shown without a hand
HEADS = 5
RECIPE = MemberConfig(validation_share=0.0)
Pixels = NDArray[np.uint8]
Answer = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]  # label, score, accepted


def threshold(scores_C: NDArray[np.float64], groups_C: NDArray[np.int64]) -> float:
    """The score that COVERAGE of the calibration images do not exceed, each signer alike."""
    order = np.argsort(scores_C)
    reached = np.cumsum(signer_weights(groups_C)[order])
    return float(scores_C[order][min(int(np.searchsorted(reached, COVERAGE)), len(order) - 1)])


@dataclass(frozen=True)
class Training:
    """The training signers' images, as the rivals read them."""

    landmarks_ND: NDArray[np.float32]
    features: backbone.Features
    of_pictures: Task  # features of whole pictures
    seen_N: NDArray[np.bool_]  # where a hand was found
    labels_N: NDArray[np.int64]
    folds_N: NDArray[np.int64]


def training_of(run: RunFolder, listed: Manifest) -> Training:
    """Read from the caches; features of whole pictures are computed where they are missing."""
    config = load_config(run)
    rows, labels = listed.rows("train"), tuple(listed.labels)
    labels_N = np.array([labels.index(name) for name in rows.column("label").to_pylist()])
    signers_N = np.array(rows.column("signer").to_pylist())
    folds_N, names = fold_of_each(signers_N, config.search.folds)
    features = features_of_rows(rows, listed.root, config.data, cache_of(config))
    plain = replace(config.data, crop="none", augmentations=0)
    pictures = features_of_rows(rows, listed.root, plain, cache_of(config))
    every = CachedFeatures(all_layers(features)).rows(np.arange(len(rows)))
    return Training(
        every.of_hand.landmarks_ND.astype(np.float32),
        every,
        Task(pictures, labels_N, folds_N, names, labels, 0),
        hand_counts(features)[:, 0] > 0,
        labels_N,
        folds_N,
    )


def mlp_rival(training: Training) -> Callable[[Any], Answer]:
    """A multi-layer perceptron on landmarks; without a hand nothing is answered."""

    def fitted(rows: NDArray[np.bool_]) -> Any:
        net = MLPClassifier((128, 64), early_stopping=True, max_iter=200, random_state=0)
        model = make_pipeline(StandardScaler(), net)
        return model.fit(training.landmarks_ND[rows], training.labels_N[rows])

    scores, groups = [], []
    for fold in np.unique(training.folds_N):
        out = training.seen_N & (training.folds_N == fold)
        model = fitted(training.seen_N & (training.folds_N != fold))
        scores.append(1 - model.predict_proba(training.landmarks_ND[out]).max(1))
        groups.append(training.folds_N[out])
    most = threshold(np.concatenate(scores), np.concatenate(groups))
    model = fitted(training.seen_N)

    def answers(shown: Shown) -> Answer:
        probs_NK = model.predict_proba(shown.landmarks_ND)
        scores_N = np.where(shown.seen_N, 1 - probs_NK.max(1), 2.0)
        return model.classes_[probs_NK.argmax(1)], scores_N, scores_N <= most

    return answers


def gaussian_rival(training: Training) -> Callable[[Any], Answer]:
    """Class Gaussians on landmarks with the relative Mahalanobis distance."""
    hand, labels = training.features.of_hand, len(training.of_pictures.labels)
    scores, groups = [], []
    for fold in np.unique(training.folds_N):
        rows = np.flatnonzero(training.folds_N != fold)
        out = np.flatnonzero(training.seen_N & (training.folds_N == fold))
        model = fit_kind_gaussians(hand.rows(rows), training.labels_N[rows])
        assert model is not None
        scores.append(kind_distances(hand.rows(out), model, labels).landmarks_NK.min(1))
        groups.append(training.folds_N[out])
    most = threshold(np.concatenate(scores), np.concatenate(groups))
    model = fit_kind_gaussians(hand, training.labels_N)
    assert model is not None

    def answers(shown: Shown) -> Answer:
        to_labels_NK = kind_distances(shown.features.of_hand, model, labels).landmarks_NK
        scores_N = np.where(shown.seen_N, to_labels_NK.min(1), 1e9)
        return to_labels_NK.argmin(1), scores_N, scores_N <= most

    return answers


def ordinary_rival(training: Training) -> Callable[[Any], Answer]:
    """An ensemble of AlexNet heads on whole pictures, with entropy."""
    task = training.of_pictures
    features_ND = task.features.open()[task.features.row_N, 0]

    def logits(rows: NDArray[np.int64], features_ND: NDArray[np.float16], heads: int) -> Any:
        trained = (fit_rows(task, RECIPE, rows, seed)[0] for seed in range(heads))
        return np.stack([logits_of(head, features_ND) for head in trained])

    scores, groups = [], []
    for fold in np.unique(training.folds_N):
        out = training.folds_N == fold
        scores.append(entropy(logits(np.flatnonzero(~out), features_ND[out], 2)))
        groups.append(training.folds_N[out])
    most = threshold(np.concatenate(scores), np.concatenate(groups))
    heads = [fit_rows(task, RECIPE, np.arange(len(features_ND)), seed)[0] for seed in range(HEADS)]

    def answers(shown: Shown) -> Answer:
        logits_MNK = np.stack([logits_of(head, shown.pixels_ND) for head in heads])
        scores_N = entropy(logits_MNK)
        return mean_probs(logits_MNK).argmax(-1), scores_N, scores_N <= most

    return answers


@dataclass(frozen=True)
class Shown:
    """Pictures under one condition, as each method reads them."""

    pictures_NHW3: Pixels
    landmarks_ND: NDArray[np.float32]
    features: backbone.Features
    seen_N: NDArray[np.bool_]
    pixels_ND: NDArray[np.float16]


def figures(answer: Answer, truth_N: NDArray[np.int64]) -> dict[str, float]:
    """Of signs (label ≥ 0) and wrong gestures (−1) under one condition."""
    labels_N, scores_N, accepted_N = answer
    signs_N = truth_N >= 0
    right_N = labels_N[signs_N] == truth_N[signs_N]
    answered_N = accepted_N[signs_N]
    return {
        "accuracy": float(right_N.mean()),
        "coverage": float(answered_N.mean()),
        "error": float((~right_N)[answered_N].mean()) if answered_N.any() else 0.0,
        "near": float(accepted_N[~signs_N].mean()),
        "auroc": float(metrics.auroc(scores_N[signs_N], scores_N[~signs_N])),
        "fpr95": float(metrics.fpr95(scores_N[signs_N], scores_N[~signs_N])),
    }


def one_signer(run: RunFolder, signs: int, seed: int) -> dict[str, Any]:
    """All conditions and methods on one held-out signer."""
    config, listed = load_config(run), manifest.read(run.manifest)
    predictor, training = load_predictor(run), training_of(run, listed)
    rivals = {
        MLP: mlp_rival(training),
        GAUSSIANS: gaussian_rival(training),
        ORDINARY: ordinary_rival(training),
    }
    test, near = listed.rows("test"), listed.rows("near")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(test))[:signs])
    labels = test.column("label").to_pylist()
    truth_N = np.array([listed.labels.index(labels[i]) for i in chosen] + [-1] * len(near))
    paths = [test.column("path")[int(i)].as_py() for i in chosen] + near.column("path").to_pylist()
    raw = [
        decode_rgb(read_file(Path(listed.root) / path)[0], max_pixels=10**8, min_side=16)[0]
        for path in paths
    ]
    side, size = picture_side(config.data), config.data.size

    def shown(images: list[Pixels]) -> Shown:
        pictures = np.stack([fit_square(image, side, "pad") for image in images])
        views = look(pictures, config.data)
        mirrored_N = views.mirrored_N
        every = np.zeros((len(images), backbone.ALL_FEATURES), np.float16)
        every[:, backbone.OF_PIXELS :] = views.hand_ND
        pictures_NHW3 = np.stack([fit_square(image, size, "pad") for image in images])
        return Shown(
            pictures,
            landmark_features(views.hands, mirrored_N).astype(np.float32),
            backbone.Features(every),
            views.hands.found_N,
            backbone.load(config.data.weights).of_images(pictures_NHW3).head_ND,
        )

    found: dict[str, Any] = {"n": [int((truth_N >= 0).sum()), len(near)], "conditions": {}}
    for condition in CONDITIONS:
        of_condition = shown(under(condition, raw, seed))
        answers = predictor.answer(of_condition.pictures_NHW3)
        statistic_N = predictor.rule.statistic(answers.scores)
        each = {OURS: (answers.labels_N, statistic_N, answers.accepted_N)}
        each |= {name: rival(of_condition) for name, rival in rivals.items()}
        found["conditions"][condition] = {
            "hands": float(of_condition.seen_N.mean()),
            **{name: figures(answer, truth_N) for name, answer in each.items()},
        }
        print(run.path, condition, found["conditions"][condition][OURS], flush=True)
    found["no hand"] = {}
    for condition in BACKGROUNDS:
        of_condition = shown(under(condition, [np.zeros_like(image) for image in raw[:60]], seed))
        accepted_N = predictor.answer(of_condition.pictures_NHW3).accepted_N
        found["no hand"][condition] = {
            OURS: float(accepted_N.mean()),
            **{name: float(rival(of_condition)[2].mean()) for name, rival in rivals.items()},
        }
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Every signer; those measured already are kept."""
    results: Results = {"signers": stored(arguments, NAME).get("signers", {})}
    for signer in arguments.signers:
        if str(signer) not in results["signers"] or arguments.again:
            run = RunFolder(arguments.runs / arguments.run.format(signer))
            results["signers"][str(signer)] = one_signer(run, arguments.signs, arguments.seed)
            results["signers"] = dict(sorted(results["signers"].items()))
            save(arguments, NAME, results)
    return results


def table(results: Results) -> str:
    """A row per condition: our figures, then the rivals'."""
    signers = list(results["signers"].values())

    def of(condition: str, method: str, figure: str) -> list[float]:
        return [signer["conditions"][condition][method][figure] for signer in signers]

    def cell(condition: str, method: str, figure: str) -> str:
        return f"{np.mean(of(condition, method, figure)):.3f}"

    methods = (OURS, MLP, GAUSSIANS, ORDINARY)
    parts = []
    for figure, title in (
        ("accuracy", "Accuracy, all answered"),
        ("coverage", "Signs answered"),
        ("error", "Errors among the answered"),
        ("near", "Wrong gestures answered"),
        ("auroc", "AUROC of wrong gestures"),
    ):
        rows = [
            [condition, *(cell(condition, method, figure) for method in methods)]
            for condition in CONDITIONS
        ]
        parts.append(f"{title}:\n\n" + markdown(["", *methods], rows))
    rows = [
        [name, *(f"{np.mean([s['no hand'][name][m] for s in signers]):.3f}" for m in methods)]
        for name in BACKGROUNDS
    ]
    parts.append("Backgrounds without a hand, answered:\n\n" + markdown(["", *methods], rows))
    signs, near = (sum(signer["n"][i] for signer in signers) for i in (0, 1))
    return (
        "\n".join(parts)
        + f"\nProtocol F; means over {len(signers)} held-out signers ({signs} signs and {near} "
        f"wrong gestures under each condition), one seed; {results['hardware']}; "
        f"`{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = protocol_parser(__doc__)
    parser.add_argument("--run", default="protocol-m-{}", help="the runs' name, {} the signer")
    parser.add_argument("--signs", type=int, default=130, help="signs of each signer, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="measure what is there again")
    publish(NAME, parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()

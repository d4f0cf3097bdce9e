"""What the report shows beyond single figures: the ``details`` of metrics.json.

    temperature                        from training signers, see temperature.py
    reliability.{before, after}        {ece, bins: [{n, confidence, right}]}
    curve.{ensemble, single}           {coverage: [..], risk: [..]}, and
    curve.operating                    {coverage, risk} of the shipped rule
    labels.<label>                     {accuracy, coverage, selective_risk}
    confusion.{accepted, refused}      images by true label (rows) and answer (columns)
    ood.{near, far}                    {n, single, ensemble}: all sets of a kind as one, of each
                                       {overconfident, accepted}
    disagreement                       share of known images that two members name differently, M×M
    threshold.<training signer>        {images, copies}: coverage by a threshold from the others

Failures of the curve are wrong answers on known images and all near images, as in aurc.

Letters: M members, N images, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble import metrics
from sign_ensemble.metrics.curves import reliability, risk_coverage
from sign_ensemble.pipeline.metrics_tree import (
    Bootstrap,
    Method,
    OodSet,
    ensemble_method,
    single_method,
    with_near,
)
from sign_ensemble.rejection.predictor import Answers
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.temperature import tempered
from sign_ensemble.rejection.threshold_trial import threshold_trial


def details(
    known: Answers,
    labels_N: NDArray[np.int64],
    ood: Mapping[str, OodSet],
    rule: Rule,
    best: int,
    names: Sequence[str],
    fold_names: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """The tree above; ``best`` is the member that stands for a single model."""
    probs_NK = known.output.probs_NK
    sides: dict[str, Callable[[Answers], Method]] = {
        "ensemble": partial(ensemble_method, rule=rule),
        "single": partial(single_method, rule=rule, best=best),
    }
    near = [each.answers for each in ood.values() if each.kind == "near"]
    shipped = ensemble_method(known, rule)
    return {
        "temperature": rule.temperature,
        "reliability": {
            "before": calibration(probs_NK, labels_N, bootstrap),
            "after": calibration(tempered(probs_NK, rule.temperature), labels_N, bootstrap),
        },
        "curve": {
            **{
                name: curve(side(known), labels_N, [side(each) for each in near])
                for name, side in sides.items()
            },
            "operating": operating(
                shipped, labels_N, [ensemble_method(each, rule) for each in near]
            ),
        },
        "labels": {
            names[label]: label_figures(shipped, labels_N, label, bootstrap)
            for label in np.unique(labels_N)
        },
        "confusion": {
            "accepted": confusion(known, labels_N, known.accepted_N, len(names)),
            "refused": confusion(known, labels_N, ~known.accepted_N, len(names)),
        },
        "ood": {
            kind: pooled([s.answers for s in ood.values() if s.kind == kind], sides, bootstrap)
            for kind in dict.fromkeys(each.kind for each in ood.values())
        },
        "disagreement": (known.labels_MN[:, None] != known.labels_MN).mean(-1).tolist(),
        "threshold": {
            fold_names[fold.number]: {
                "images": bootstrap.figure(
                    partial(metrics.coverage, fold.images), len(fold.images)
                ),
                "copies": bootstrap.figure(partial(metrics.coverage, fold.copies), len(fold.copies))
                if len(fold.copies)
                else None,
            }
            for fold in threshold_trial(rule)
        },
    }


def pooled(
    sets: Sequence[Answers],
    sides: Mapping[str, Callable[[Answers], Method]],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """What a single model and the ensemble make of the images of several sets."""
    n = sum(len(each.accepted_N) for each in sets)
    found: dict[str, Any] = {"n": n}
    for name, side in sides.items():
        methods = [side(each) for each in sets]
        confidence = np.concatenate([method.confidence for method in methods])
        claimed = np.concatenate([method.claimed for method in methods])
        accepted = np.concatenate([method.accepted for method in methods])
        overconfident = partial(metrics.overconfident, confidence, claimed)
        found[name] = {
            "overconfident": bootstrap.figure(overconfident, n),
            "accepted": bootstrap.figure(partial(metrics.coverage, accepted), n),
        }
    return found


def calibration(
    probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64], bootstrap: Bootstrap
) -> dict[str, Any]:
    """How often probabilities of some height are right."""
    confidence, correct = metrics.top_class(probs_NK, labels_N)
    bins = zip(*reliability(confidence, correct), strict=True)
    return {
        "ece": bootstrap.figure(partial(metrics.ece, confidence, correct), len(labels_N)),
        "bins": [
            {"n": int(n), "confidence": float(confidence), "right": float(right)}
            for n, confidence, right in bins
        ],
    }


def curve(
    known: Method, labels_N: NDArray[np.int64], near: Sequence[Method]
) -> dict[str, list[float]]:
    """Risk at each coverage of known and near images together."""
    scores, _, failures = with_near(known, labels_N, near)
    coverage_P, risk_P = risk_coverage(scores, failures)
    return {"coverage": coverage_P.tolist(), "risk": risk_P.tolist()}


def operating(known: Method, labels_N: NDArray[np.int64], near: Sequence[Method]) -> dict[str, Any]:
    """Where the shipped rule lies on the curve; its risk is null if it accepts nothing."""
    _, accepted, failures = with_near(known, labels_N, near)
    return {
        "coverage": float(accepted.mean()),
        "risk": metrics.selective_risk(accepted, failures),
        "n": len(accepted),
    }


def label_figures(
    method: Method, labels_N: NDArray[np.int64], label: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    """The figures on one label's signs."""
    of_label_N = labels_N == label
    n = int(of_label_N.sum())
    right = (method.probs_NK[of_label_N].argmax(-1) == label).astype(int)
    accepted = method.accepted[of_label_N]
    figure = bootstrap.figure
    return {
        "accuracy": figure(partial(metrics.coverage, right), n),
        "coverage": figure(partial(metrics.coverage, accepted), n),
        "selective_risk": figure(partial(metrics.selective_risk, accepted, 1 - right), n),
    }


def confusion(
    known: Answers, labels_N: NDArray[np.int64], chosen: NDArray[np.bool_], labels: int
) -> list[list[int]]:
    """Images by true label (rows) and answer (columns), of those chosen."""
    table = np.zeros((labels, labels), np.int64)
    np.add.at(table, (labels_N[chosen], known.labels_N[chosen]), 1)
    return table.tolist()

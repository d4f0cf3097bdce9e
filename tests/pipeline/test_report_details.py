"""What metrics.json holds for a report, worked out by hand on the eight signs of two members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sign_ensemble import metrics
from sign_ensemble.pipeline.metrics_tree import Bootstrap, OodSet
from sign_ensemble.pipeline.report_details import details
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.predictor import Answers, answer
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.scores import all_scores

LABELS = np.array([0, 0, 1, 1, 0, 1])
# probability of label 0: the first member is wrong on image 5, the second on images 4 and 5
FIRST = (0.9, 0.8, 0.1, 0.2, 0.95, 0.7)
FIGURES = ("overconfident", "accepted")
SECOND = (0.9, 0.8, 0.1, 0.2, 0.40, 0.7)
KNOWN_AT = (1.0, 2.0, 3.0, 4.0, 5.0, 99.0)  # the last is refused


def output(first: Any, second: Any, distance: Any) -> EnsembleOutput:
    of_zero_MN = np.array([first, second])
    logits = np.log(np.stack([of_zero_MN, 1 - of_zero_MN], -1)).astype(np.float32)
    distance_N = np.array(distance, float)
    return EnsembleOutput(logits, np.ones(2), np.zeros(len(distance_N)), distance_N)


CALM = all_scores(output(np.linspace(0.6, 0.9, 20), np.linspace(0.6, 0.9, 20), np.arange(20.0)))
RULE = Rule(
    target_coverage=0.9,
    uncertainty_share=0.0,
    calibration=CALM,
    groups_C=np.repeat([0, 1], 10),
    single_C=CALM["total_uncertainty"],
    temperature=2.0,
)


@pytest.fixture(scope="module")
def known() -> Answers:
    return answer(output(FIRST, SECOND, KNOWN_AT), RULE)


@pytest.fixture(scope="module")
def tree(known: Answers) -> dict[str, Any]:
    def of(kind: str, *probabilities: float, at: float) -> OodSet:
        return OodSet(
            kind, answer(output(probabilities, probabilities, [at] * len(probabilities)), RULE)
        )

    ood = {
        "gestures": of("near", 0.95, 0.6, at=4.5),  # accepted
        "noise": of("far", 0.99, 0.97, 0.5, at=50.0),
        "blank": of("far", 0.5, at=6.0),
    }
    bootstrap = Bootstrap(20, 0)
    return details(known, LABELS, ood, RULE, 0, ("nought", "one"), ("ada", "ben"), bootstrap)


def test_labels(tree: dict[str, Any]) -> None:
    values = {
        label: {name: figure["value"] for name, figure in figures.items()}
        for label, figures in tree["labels"].items()
    }
    assert values == {
        "nought": {"accuracy": 1.0, "coverage": 1.0, "selective_risk": 0.0},
        "one": {
            "accuracy": pytest.approx(2 / 3),
            "coverage": pytest.approx(2 / 3),
            "selective_risk": 0.0,
        },
    }
    assert tree["labels"]["one"]["accuracy"]["n"] == 3


def test_confusion(tree: dict[str, Any]) -> None:
    assert tree["confusion"] == {"accepted": [[3, 0], [0, 2]], "refused": [[0, 0], [1, 0]]}


def test_pairwise_disagreement(tree: dict[str, Any]) -> None:
    assert np.array(tree["disagreement"]) == pytest.approx(np.array([[0, 1 / 6], [1 / 6, 0]]))


def test_kinds_are_pooled_over_their_sets(tree: dict[str, Any]) -> None:
    near, far = tree["ood"]["near"], tree["ood"]["far"]
    assert (near["n"], far["n"]) == (2, 4)
    values = {
        (kind, side): [tree["ood"][kind][side][f]["value"] for f in ("overconfident", "accepted")]
        for kind in ("near", "far")
        for side in ("single", "ensemble")
    }
    # one model's own threshold keeps entropies like those of 0.6 to 0.9, here of any image
    assert values["near", "single"][0] == 0.5 and values["far", "single"][0] == 0.5
    assert values["near", "ensemble"] == [0.0, 1.0]  # at temperature 2 nothing is that sure
    assert values["far", "ensemble"] == [0.0, 0.25]


def test_the_operating_point_lies_on_the_curve(tree: dict[str, Any]) -> None:
    point = tree["curve"]["operating"]
    # of six signs and two gestures, five and two are answered; the gestures are the failures
    assert point == {"coverage": 7 / 8, "risk": 2 / 7, "n": 8}
    curve = tree["curve"]["ensemble"]
    place = curve["coverage"].index(7 / 8)
    assert curve["risk"][place] == pytest.approx(2 / 7)
    assert tree["curve"]["single"]["coverage"][-1] == 1.0


def test_reliability_before_and_after(tree: dict[str, Any], known: Answers) -> None:
    assert tree["temperature"] == 2.0
    probs = known.output.probs_NK
    for side, power in (("before", 1.0), ("after", 0.5)):
        scaled = probs**power / (probs**power).sum(-1, keepdims=True)
        confidence, correct = metrics.top_class(scaled, LABELS)
        found = tree["reliability"][side]
        assert found["ece"]["value"] == pytest.approx(float(metrics.ece(confidence, correct)))
        assert sum(each["n"] for each in found["bins"]) == len(LABELS)
        shown = [each["confidence"] for each in found["bins"]]
        assert shown == pytest.approx(np.sort(confidence))


def test_each_training_signer_by_the_others_threshold(tree: dict[str, Any]) -> None:
    """Signers 0 and 1 have the distances 0 to 9 and 10 to 19."""
    threshold = tree["threshold"]
    assert list(threshold) == ["ada", "ben"]
    assert threshold["ada"]["images"]["value"] == 1
    # ben's 10 lies as far beyond ada's images as ada's 9 beyond the others: p = 2/11 > .1
    assert threshold["ben"]["images"]["value"] == pytest.approx(0.1)
    assert threshold["ben"]["images"]["n"] == 10
    assert threshold["ada"]["copies"] is None

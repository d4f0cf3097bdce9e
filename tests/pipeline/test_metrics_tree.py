"""metrics.json: its tree, and figures whose truth is known.

Letters: M members, N images, K labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sign_ensemble import metrics
from sign_ensemble.pipeline.metrics_tree import Bootstrap, OodSet, evaluate
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.predictor import Answers, answer
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.scores import SCORES, all_scores, max_prob

KNOWN = {"accuracy", "coverage", "confident", "selective_risk", "ece", "aurc", "augrc", "nll"}
OF_SET = {"auroc", "fpr95", "accepted", "overconfident"}
CLOSE: dict[str, Any] = {"abs": 1e-6, "rel": 0}

# Eight signs, two labels: member 0 is wrong on the last image, member 1 on the last two; with one
# vote each, member 0's certainty decides image 6.
LABELS = np.array([0, 0, 1, 1, 0, 1, 0, 1])
SIGNERS = np.array(["eve", "eve", "eve", "eve", "fay", "fay", "fay", "fay"])
RIGHT = ([0.99] * 7 + [0.2], [0.95] * 6 + [0.4, 0.3])  # probability of the true label
NEAR_KNOWN = np.array([0.10, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.9])  # the last is far off


def output(right: Any, labels: np.ndarray, near: np.ndarray) -> EnsembleOutput:
    """Members that give their label the probability ``right``, the other one the rest."""
    right_MN = np.array(right)
    probs = np.where(
        (np.arange(2) == labels[:, None])[None], right_MN[..., None], 1 - right_MN[..., None]
    )
    logits = np.log(probs).astype(np.float32)
    return EnsembleOutput(
        logits, np.ones(len(right_MN)), knn_N=np.zeros(len(near)), regional_N=near
    )


def rule(target_coverage: float = 0.9, uncertainty_share: float = 0.0) -> Rule:
    """The distance decides; calibrated on 20 images of two signers, distances up to 0.29."""
    calibration_probs = np.linspace(0.6, 0.999, 20)
    calm = output([calibration_probs, calibration_probs], np.zeros(20, int), np.arange(20) / 100)
    calibration = all_scores(calm)
    calibration["disagreement"] = 0.02 * np.arange(20.0)  # the members agree there
    calibration["regional_mahalanobis"] = 0.1 + 0.01 * np.arange(20.0)
    return Rule(
        target_coverage=target_coverage,
        uncertainty_share=uncertainty_share,
        calibration=calibration,
        groups_C=np.repeat([0, 1], 10),
        single_C=max_prob(np.stack([calibration_probs, 1 - calibration_probs], -1)),
        temperature=1.0,
    )


def known(near: np.ndarray = NEAR_KNOWN, target_coverage: float = 0.9) -> Answers:
    return answer(output(RIGHT, LABELS, near), rule(target_coverage))


def ood(n: int, distance: float, top: float = 0.97, kind: str = "far") -> OodSet:
    """Images that both members are confident of, at one distance from the training images."""
    tops = np.full((2, n), top)
    return OodSet(kind, answer(output(tops, np.zeros(n, int), np.full(n, distance)), rule()))


def tree_of(
    target_coverage: float = 0.9, near: np.ndarray = NEAR_KNOWN, **sets: OodSet
) -> dict[str, Any]:
    return evaluate(
        known(near, target_coverage),
        LABELS,
        SIGNERS,
        sets,
        rule(target_coverage),
        best=0,
        bootstrap=Bootstrap(20, 0),
    )


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    return tree_of(gestures=ood(5, 0.2, kind="near"), blank=ood(4, 1.0), photos=ood(3, 0.15))


def figures(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure below, with its path."""
    if "value" in tree:
        yield path, tree
        return
    for name, below in tree.items():
        if isinstance(below, dict):
            yield from figures(below, f"{path}.{name}".lstrip("."))


# --- the contract ---------------------------------------------------------------------------------


def test_the_tree_is_the_one_that_is_documented(tree: dict[str, Any]) -> None:
    assert set(tree) == {"known", "sets", "single", "scores", "signers"}
    computed = {score.name for score in SCORES if score.needs in ("members", "reference set")}
    assert set(tree["scores"]) == computed  # no pictures of other numbers of hands, no landmarks
    assert set(tree["signers"]) == {"eve", "fay"}
    parts = [tree, tree["single"], *tree["scores"].values()]
    for part in parts:
        assert set(part["known"]) == KNOWN
        assert list(part["sets"]) == ["gestures", "blank", "photos"]
        for name, (kind, n) in {
            "gestures": ("near", 5), "blank": ("far", 4), "photos": ("far", 3)
        }.items():  # fmt: skip
            assert set(part["sets"][name]) == OF_SET | {"kind", "n"}
            assert (part["sets"][name]["kind"], part["sets"][name]["n"]) == (kind, n)
    for part in parts[1:]:
        assert set(part) == {"known", "sets"}
    for signer in tree["signers"].values():
        assert set(signer) == KNOWN


def test_every_figure_has_its_spread(tree: dict[str, Any]) -> None:
    found = dict(figures(tree))
    assert len(found) == 6 * (8 + 3 * 4) + 2 * 8
    for path, figure in found.items():
        assert set(figure) == {"value", "low", "high", "n"}, path
        assert figure["low"] <= figure["high"], path


def test_how_many_images_each_figure_rests_on(tree: dict[str, Any]) -> None:
    found = dict(figures(tree))
    for name in KNOWN - {"aurc", "augrc"}:
        assert found[f"known.{name}"]["n"] == 8
        assert found[f"signers.eve.{name}"]["n"] == 4
    for name in ("aurc", "augrc"):  # with the near images, none of the far ones
        assert found[f"known.{name}"]["n"] == 8 + 5
        assert found[f"signers.fay.{name}"]["n"] == 4 + 5
    for name in ("auroc", "fpr95"):
        assert found[f"sets.blank.{name}"]["n"] == 8 + 4
    assert found["sets.blank.accepted"]["n"] == found["sets.blank.overconfident"]["n"] == 4


def test_the_tree_is_json(tree: dict[str, Any]) -> None:
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree


def test_the_same_seed_gives_the_same_tree(tree: dict[str, Any]) -> None:
    again = tree_of(gestures=ood(5, 0.2, kind="near"), blank=ood(4, 1.0), photos=ood(3, 0.15))
    assert again == tree


# --- values ---------------------------------------------------------------------------------------


def value(tree: dict[str, Any], path: str) -> Any:
    return dict(figures(tree))[path]["value"]


def test_known_figures_by_hand(tree: dict[str, Any]) -> None:
    # ensemble: true label's probability 0.97 six times, (0.99 + 0.4) / 2 = 0.695, 0.25
    assert value(tree, "known.accuracy") == 7 / 8
    by_hand = -(6 * np.log(0.97) + np.log(0.695) + np.log(0.25)) / 8
    assert value(tree, "known.nll") == pytest.approx(by_hand, **CLOSE)
    # fewer images than bins: the mean gap of each
    by_hand = (6 * 0.03 + 0.305 + 0.75) / 8
    assert value(tree, "known.ece") == pytest.approx(by_hand, **CLOSE)
    # only the last image is beyond all calibration distances, and it is the wrong one
    assert value(tree, "known.coverage") == 7 / 8
    assert value(tree, "known.selective_risk") == 0.0


def test_figures_of_the_single_model_by_hand(tree: dict[str, Any]) -> None:
    by_hand = -(7 * np.log(0.99) + np.log(0.2)) / 8
    assert value(tree, "single.known.nll") == pytest.approx(by_hand, **CLOSE)
    assert value(tree, "single.known.accuracy") == 7 / 8
    # it is 0.8 sure of its wrong answer; ten calibration images were less sure
    assert value(tree, "single.known.coverage") == 1.0
    assert value(tree, "single.known.selective_risk") == 1 / 8


def test_figures_of_each_signer(tree: dict[str, Any]) -> None:
    assert value(tree, "signers.eve.accuracy") == 1.0
    assert value(tree, "signers.fay.accuracy") == 3 / 4
    assert value(tree, "signers.eve.coverage") == 1.0
    assert value(tree, "signers.fay.coverage") == 3 / 4
    assert value(tree, "signers.eve.nll") == pytest.approx(-np.log(0.97), **CLOSE)


def test_a_perfect_detector() -> None:
    tree = tree_of(near=np.linspace(0.1, 0.2, 8), blank=ood(6, 1.0))
    for name in ("sets.blank", "scores.regional_mahalanobis.sets.blank"):
        for figure, expected in (("auroc", 1.0), ("fpr95", 0.0), ("accepted", 0.0)):
            found = dict(figures(tree))[f"{name}.{figure}"]
            assert (found["value"], found["low"], found["high"]) == (expected, expected, expected)


def test_auroc_counts_ood_images_as_higher(tree: dict[str, Any]) -> None:
    # photos lie at 0.15: above five known images, level with one, below two
    assert value(tree, "sets.photos.auroc") == pytest.approx((5 + 0.5) / 8)
    # to keep 95 % of eight, all eight must be kept, so every photo is
    assert value(tree, "sets.photos.fpr95") == 1.0
    assert value(tree, "sets.photos.accepted") == 1.0
    assert value(tree, "sets.blank.auroc") == 1.0


def test_near_images_are_failures_for_aurc_and_far_ones_are_not() -> None:
    near = np.linspace(0.11, 0.18, 8)  # the wrong answer is the most OOD known image
    alone = tree_of(near=near)
    far = tree_of(near=near, blank=ood(4, 1.0))
    mixed = tree_of(near=near, gestures=ood(4, 0.105, kind="near"))
    assert value(alone, "known.aurc") == value(far, "known.aurc")
    # among eight only the last accepted is wrong: trapezoid (Σ r_k − (r_1 + r_8) / 2) / 7
    assert value(alone, "known.aurc") == pytest.approx((1 / 8 - 1 / 16) / 7, **CLOSE)
    # four near images come first: risks 1, 1, 1, 1, 4/5 ... 4/11, 5/12
    risks = [1.0] * 4 + [4 / k for k in range(5, 12)] + [5 / 12]
    by_hand = (sum(risks) - (risks[0] + risks[-1]) / 2) / 11
    assert value(mixed, "known.aurc") == pytest.approx(by_hand, **CLOSE)


def test_overconfident_counts_everything_for_the_single_model(tree: dict[str, Any]) -> None:
    # 0.97 sure of blank images: the rule refuses them, a model alone has no rule
    assert value(tree, "sets.blank.overconfident") == 0.0
    assert value(tree, "single.sets.blank.overconfident") == 1.0
    assert value(tree, "sets.photos.overconfident") == 1.0  # sure, and not refused
    uncertain = tree_of(blank=ood(4, 1.0, top=0.89))
    assert value(uncertain, "single.sets.blank.overconfident") == 0.0


def test_confident_is_the_share_of_known_images_accepted_with_high_confidence(
    tree: dict[str, Any],
) -> None:
    # the ensemble is 0.97 sure six times, all answered; one model 0.99 sure seven times
    assert value(tree, "known.confident") == 6 / 8
    assert value(tree, "single.known.confident") == 7 / 8
    assert value(tree, "scores.regional_mahalanobis.known.confident") == 6 / 8
    less = replace(rule(), in_distribution=InDistribution(0.5, np.zeros(1), np.array([0.92])))
    shown = answer(known().output, less)
    lower = evaluate(shown, LABELS, SIGNERS, {"blank": ood(4, 1.0)}, less, 0, Bootstrap(10, 0))
    assert value(lower, "known.confident") == 0.0  # .92 · .97
    assert value(lower, "single.known.confident") == 7 / 8
    assert value(lower, "known.ece") == value(tree, "known.ece")  # of probabilities


def test_single_model_counts_even_what_its_threshold_refuses() -> None:
    # calibrated so that 0.97 is less sure than every calibration image
    strict = rule()
    confident = Rule(**{**vars(strict), "single_C": np.full(20, 0.001)})
    tree = evaluate(
        known(), LABELS, SIGNERS, {"blank": ood(4, 1.0)}, confident, 0, Bootstrap(10, 0)
    )
    assert value(tree, "single.sets.blank.accepted") == 0.0
    assert value(tree, "single.sets.blank.overconfident") == 1.0


def test_each_score_has_its_own_threshold(tree: dict[str, Any]) -> None:
    # by distance alone all blank images are refused, by certainty none: both members are sure
    assert value(tree, "scores.regional_mahalanobis.sets.blank.accepted") == 0.0
    assert value(tree, "scores.total_uncertainty.sets.blank.accepted") == 1.0
    assert value(tree, "scores.total_uncertainty.sets.blank.overconfident") == 1.0


def test_nothing_accepted_leaves_the_error_open() -> None:
    tree = tree_of(near=np.full(8, 5.0))
    assert tree["known"]["coverage"]["value"] == 0.0
    assert tree["known"]["selective_risk"] == {"value": None, "low": None, "high": None, "n": 8}
    assert tree["sets"] == {}
    json.dumps(tree, allow_nan=False)


def test_the_statistic_ranks_sets_and_both_tests_reject() -> None:
    both, one = rule(0.2, 0.75), rule(0.2)
    near = np.full(8, 0.1)  # nothing is OOD: only the two uncertain images may be rejected
    signs = {
        each: answer(output(RIGHT, LABELS, near), each_rule)
        for each, each_rule in (("both", both), ("one", one))
    }
    assert signs["one"].accepted_N.all()
    assert signs["both"].accepted_N.tolist() == [True] * 6 + [False] * 2
    assert signs["both"].deciding_score_N[6:].tolist() == ["total_uncertainty"] * 2
    odd = OodSet(
        "far", answer(output(np.full((2, 3), 0.97), np.zeros(3, int), np.full(3, 0.2)), both)
    )
    tree = evaluate(signs["both"], LABELS, SIGNERS, {"odd": odd}, both, 0, Bootstrap(20, 0))
    assert tree["sets"]["odd"]["auroc"]["value"] == 1.0
    assert tree["known"]["coverage"]["value"] == 0.75
    assert tree["known"]["selective_risk"]["value"] == 0.0
    assert tree["known"]["augrc"]["value"] == pytest.approx(
        float(
            metrics.augrc(
                both.rejection_score(signs["both"].scores), signs["both"].labels_N != LABELS
            )
        )
    )

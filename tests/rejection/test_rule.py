"""The rule: p-values worked out by hand, surprises that rank beyond what was seen, round trips.

Letters: N images, C calibration images, W witnesses.
"""

from __future__ import annotations

import json
from dataclasses import fields
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.errors import UserError
from sign_ensemble.rejection import rule_file, vetoes
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.hand_count import HandCountDetector
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.regional_mahalanobis import fit_regional
from sign_ensemble.rejection.risk_control import RiskControl
from sign_ensemble.rejection.rule import (
    Rule,
    accepts,
    accepts_score,
    conformal_p,
    join,
    loo_neg_log_p,
    neg_log_p,
    resolution,
    signer_weights,
)

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def rule(**changed: Any) -> Rule:
    """Two witnesses, four calibration images of two signers."""
    values: dict[str, Any] = {
        "witnesses": ("energy", "neighbour"),
        "joined": "smallest",
        "target_coverage": 0.95,
        "calibration": {"energy": f(1, 2, 3, 4), "neighbour": f(0.4, 0.3, 0.2, 0.1)},
        "groups_C": np.array([0, 0, 0, 1]),
        "single_C": f(0.1, 0.2, 0.3, 1 / 3),
        "neighbours": 5,
        "bank": np.random.default_rng(0).normal(size=(3, 7)).astype(np.float16),
        "clouds": fit_class_gaussians(np.eye(3, dtype=np.float16), np.array([0, 0, 1])),
        "parts": fit_regional((np.eye(9, dtype=np.float16)[:3],) * 2, np.array([0, 0, 1])),
        "choice": {"chosen": "energy+neighbour", "candidates": [{"cost": 0.1 + 0.2}]},
        "temperature": 1.3,
        "hands": HandCountDetector(np.full((2, 7), 0.1, np.float32), np.ones((2, 7), np.float32)),
    }
    return Rule(**{**values, **changed})


# --- conformal p-values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "p"),
    [
        (0.5, 1.0),  # below all: everything is at least as strange
        (1.0, 1.0),
        (1.5, 4 / 5),
        (2.0, 4 / 5),  # a tie counts as at least as strange: 2, 2, 3 and itself
        (2.5, 2 / 5),
        (3.0, 2 / 5),
        (3.1, 1 / 5),  # beyond all: itself alone
    ],
)
def test_p_value_of_four_calibration_images(score: float, p: float) -> None:
    assert conformal_p(f(score), f(2, 1, 3, 2)) == pytest.approx([p], **EXACT)


def test_weights_equalise_signers() -> None:
    # signer 0 has three images at 1, 2, 3, signer 1 one image at 4: a sixth each, and a half
    calibration, weights = f(1, 2, 3, 4), signer_weights(np.array([0, 0, 0, 1]))
    asked = f(0, 1.5, 3.5, 5)
    by_hand = [(1 + 4 * 1) / 5, (1 + 4 * 5 / 6) / 5, (1 + 4 / 2) / 5, 1 / 5]
    assert conformal_p(asked, calibration, weights) == pytest.approx(by_hand, **EXACT)
    unweighted = [1.0, 4 / 5, 2 / 5, 1 / 5]
    assert conformal_p(asked, calibration) == pytest.approx(unweighted, **EXACT)


def test_order_of_calibration_images_never_matters() -> None:
    rng = np.random.default_rng(0)
    calibration, weights = np.round(rng.normal(size=40), 1), rng.uniform(size=40)
    asked, order = rng.normal(size=20), rng.permutation(40)
    weights /= weights.sum()
    found = conformal_p(asked, calibration, weights)
    assert conformal_p(asked, calibration[order], weights[order]) == pytest.approx(found, **EXACT)
    naive = [(1 + 40 * weights[calibration >= s].sum()) / 41 for s in asked]
    assert found == pytest.approx(naive, **EXACT)


@pytest.mark.parametrize("n", range(1, 60))
def test_no_p_value_exceeds_1(n: int) -> None:
    assert conformal_p(f(-1), np.arange(n, dtype=np.float64)) <= 1.0  # n times 1/n may pass 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    for asked, calibration in ((f(1, bad), f(1, 2)), (f(1), f(1, bad))):
        with pytest.raises(ValueError, match="finite"):
            conformal_p(asked, calibration)
        with pytest.raises(ValueError, match="finite"):
            neg_log_p(asked, calibration)


def test_no_calibration_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no calibration"):
        conformal_p(f(1), f())


def test_the_conformal_promise_holds_for_exchangeable_images() -> None:
    draws, n, a = 2000, 99, 0.05
    rng = np.random.default_rng(5)
    scores = rng.standard_cauchy((draws, n + 1))
    rounded = np.round(scores)  # many ties
    error = 3 * sqrt(a * (1 - a) / draws)
    p = np.concatenate([conformal_p(row[-1:], row[:-1]) for row in scores])
    assert abs(np.mean(p <= a + 1e-9) - a) < error  # 5 of 100 ranks: exactly a
    assert np.mean(~accepts(p, 1 - a)) == np.mean(p <= a + 1e-9)
    p = np.concatenate([conformal_p(row[-1:], row[:-1]) for row in rounded])
    assert np.mean(p <= a + 1e-9) < a + error  # ties only keep more


# --- surprise -------------------------------------------------------------------------------------

CALIBRATION = np.random.default_rng(3).gamma(2.0, size=60)
WEIGHTS = signer_weights(np.repeat([0, 1, 2], [10, 20, 30]))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_surprise_is_minus_log_p_at_the_calibration_scores(weights: np.ndarray | None) -> None:
    by_hand = -np.log(conformal_p(CALIBRATION, CALIBRATION, weights))
    assert neg_log_p(CALIBRATION, CALIBRATION, weights) == pytest.approx(by_hand, **EXACT)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_surprise_rises_without_jumps(weights: np.ndarray | None) -> None:
    low, high = CALIBRATION.min(), CALIBRATION.max()
    asked = np.linspace(low - 1, high + 3, 200_001)
    found = neg_log_p(asked, CALIBRATION, weights)
    assert (np.diff(found) >= 0).all()
    inside = (asked >= low) & (asked <= high)
    assert (np.diff(found[inside]) > 0).all()
    beyond = found[asked > high]
    assert (np.diff(beyond) > 0).all()
    assert (found[asked < low] == found[0]).all()
    assert found[0] == pytest.approx(0.0, **EXACT)
    # elsewhere it is a straight line: only at a calibration score could it jump
    at = neg_log_p(CALIBRATION, CALIBRATION, weights)
    for side in (-np.inf, np.inf):
        beside = neg_log_p(np.nextafter(CALIBRATION, side), CALIBRATION, weights)
        assert beside == pytest.approx(at, abs=1e-9, rel=0)


def test_surprise_of_three_images_by_hand() -> None:
    # p(1) = 1, p(2) = 3/4, p(4) = 2/4; the 90 % quantile is 2 + 0.8 · 2 = 3.6, so beta = 0.4
    found = neg_log_p(f(0, 1, 1.5, 2, 3, 4, 4.8), f(4, 1, 2))
    second, third = log(4 / 3), log(2)
    by_hand = [0, 0, second / 2, second, (second + third) / 2, third, third + 0.8 / 0.4]
    assert found == pytest.approx(by_hand, **EXACT)


def test_surprise_survives_calibration_scores_that_are_all_one() -> None:
    found = neg_log_p(f(1, 2, 2.0001, 3), f(2, 2, 2))
    assert found[0] == found[1] == pytest.approx(0.0, **EXACT)  # p(2) = 1
    assert np.isfinite(found).all()
    assert found[1] < found[2] < found[3]


def test_surprise_survives_a_crowd_at_the_top() -> None:
    # nothing lies above the 90 % quantile
    found = neg_log_p(f(0, 1, 1.5, 2), np.array([0.0] + [1.0] * 9))
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


# --- joining and weighing -------------------------------------------------------------------------


def test_join() -> None:
    surprises_WN = np.array([[0.5, 2.0, 0.0], [1.5, 1.0, 0.0]])
    assert join(surprises_WN, "smallest").tolist() == [1.5, 2.0, 0.0]
    assert join(surprises_WN, "fisher").tolist() == [2.0, 3.0, 0.0]


def test_a_guard_is_silent_among_the_calibration_images() -> None:
    # the 90 % quantile of 1, 2, 4 is 3.6, so beta = 0.4
    found = vetoes.beyond(f(-9, 1, 3.9, 4, 4.2, 6), f(4, 1, 2))
    assert found == pytest.approx([0, 0, 0, 0, 0.5, 5.0], **EXACT)
    with pytest.raises(ValueError, match="finite"):
        vetoes.beyond(f(np.nan), f(1, 2))


def test_a_guard_among_the_calibration_images_themselves() -> None:
    assert vetoes.loo_beyond(f(4, 1, 2)) == pytest.approx([2 / 0.4, 0, 0], **EXACT)
    assert vetoes.loo_beyond(f(4, 1, 4)).tolist() == [0, 0, 0]  # a tie: neither is beyond all
    assert vetoes.loo_beyond(f(3, 3)).tolist() == [0, 0]


def test_a_guarded_rule_ranks_by_the_others_until_an_image_lies_beyond_all() -> None:
    guarded = rule(joined="guarded")
    assert guarded.guards == ("neighbour",)
    assert rule().guards == ()
    # distances 0.1 to 0.4: the 90 % quantile is 0.37, beta = 0.03
    asked = {"energy": f(2, 4, 1, 3), "neighbour": f(0.39, 0.4, 0.46, 0.43)}
    energy = neg_log_p(asked["energy"], f(1, 2, 3, 4), guarded.weights_C)
    assert guarded.surprises(asked) == pytest.approx(np.stack([energy, f(0, 0, 2, 1)]), abs=1e-9)
    assert guarded.statistic(asked) == pytest.approx(
        [energy[0], energy[1], 2.0, max(1.0, energy[3])], abs=1e-9
    )
    own = loo_neg_log_p(f(1, 2, 3, 4), guarded.weights_C)
    assert guarded.own_statistic() == pytest.approx(
        np.maximum(own, f(0.1 / 0.03, 0, 0, 0)), abs=1e-9
    )


def test_two_hands_are_a_guard_beside_the_last() -> None:
    calibration = {**rule().calibration, "two_hands": f(1, 2, 3, 4)}
    both = rule(
        witnesses=("energy", "two_hands", "neighbour"), joined="guarded", calibration=calibration
    )
    assert both.guards == ("two_hands", "neighbour")
    # the 90 % quantile of 1 to 4 is 3.7, beta = 0.3
    asked = {"energy": f(1, 1), "two_hands": f(4, 4.6), "neighbour": f(0.43, 0.43)}
    # what no calibration image of four is as strange as has log(4 + 1)
    assert both.statistic(asked) == pytest.approx([1.0, np.log(5) + 2.0], abs=1e-9)
    ranked = rule(witnesses=("energy", "two_hands"), joined="smallest", calibration=calibration)
    assert ranked.guards == ()


def test_a_hands_guard_speaks_at_once_and_on_its_own_side_alone() -> None:
    calibration = {**rule().calibration, "no_hand": f(1, 2, 3, 4), "two_hands": f(1, 2, 3, 4)}
    both = rule(
        witnesses=("energy", "no_hand", "two_hands", "neighbour"),
        joined="guarded",
        calibration=calibration,
    )
    assert both.guards == ("no_hand", "two_hands", "neighbour")
    asked = {"energy": f(1, 1), "no_hand": f(4.3, 0.7), "two_hands": f(-9, 4), "neighbour": f(0, 0)}
    found = both.surprises(asked)
    assert found[1] == pytest.approx([np.log(5) + 1.0, 0.0], abs=1e-9)
    assert found[2].tolist() == found[3].tolist() == [0, 0]
    own = both.calibration["two_hands"]
    for name in vetoes.HANDS:
        by_hand = [0, 0, 0, np.log(4) + 1 / 0.3]
        assert vetoes.loo_veto_excess(name, own) == pytest.approx(by_hand, abs=1e-9)
    assert vetoes.loo_veto_excess("neighbour", own) == pytest.approx([0, 0, 0, 1 / 0.3], abs=1e-9)


def test_signers_weigh_the_same() -> None:
    groups = np.array([7, 2, 7, 7, 9, 2])
    weights = signer_weights(groups)
    assert weights == pytest.approx([1 / 9, 1 / 6, 1 / 9, 1 / 9, 1 / 3, 1 / 6], **EXACT)
    for group in (2, 7, 9):
        assert weights[groups == group].sum() == pytest.approx(1 / 3, **EXACT)


def test_resolution_speaks_of_signers_and_not_of_images() -> None:
    assert resolution(np.array([0, 0, 0, 4, 4, 9, 9])) == 1 / 4


# --- the rule -------------------------------------------------------------------------------------


def test_p_values_of_a_rule_with_one_witness_are_the_weighted_conformal_ones() -> None:
    one = rule(witnesses=("energy",))
    asked = {"energy": f(0, 1.5, 3.5, 5), "neighbour": f(9, 9, 9, 9)}  # the other has no say
    by_hand = [1.0, (1 + 4 * 5 / 6) / 5, (1 + 4 / 2) / 5, 1 / 5]
    assert one.p_values(asked) == pytest.approx(by_hand, **EXACT)


@pytest.mark.parametrize(("joined", "p"), [("smallest", [1 / 5, 1.0]), ("fisher", [1 / 5, 1.0])])
def test_p_values_of_two_witnesses_at_the_ends(joined: Any, p: list[float]) -> None:
    both = rule(joined=joined)
    asked = {"energy": f(9, 0), "neighbour": f(0.9, 0.0)}  # strange to both, strange to none
    assert both.p_values(asked) == pytest.approx(p, **EXACT)


def test_the_statistic_of_two_witnesses_by_hand() -> None:
    # with a sixth each and a half, p of the energies is 1, 13/15, 11/15, 9/15; the distances
    # 0.4 ... 0.1 belong to the same images, so theirs is (1 + 4/6) / 5, 7/15, 9/15, 1
    energy = -np.log(f(1, 13 / 15, 11 / 15, 9 / 15))
    distance = -np.log(f(5 / 15, 7 / 15, 9 / 15, 1))
    for joined, by_hand in (
        ("smallest", np.maximum(energy, distance)),
        ("fisher", energy + distance),
    ):
        found = rule(joined=joined).statistic(rule().calibration)
        assert found == pytest.approx(by_hand, **EXACT)


@pytest.mark.parametrize("target_coverage", [0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [9, 19, 39, 79, 99, 199])
def test_a_p_value_equal_to_what_may_be_lost_is_refused(target_coverage: float, n: int) -> None:
    # of n + 1 ranks, floor((n + 1)(1 - keep)) are refused; in floating point 1 - 0.9 < 0.1
    scores = np.arange(n, dtype=np.float64)
    p = conformal_p(np.append(scores, n) - 0.5, scores)
    ranks = range(n + 1, 0, -1)
    assert p == pytest.approx([rank / (n + 1) for rank in ranks], **EXACT)
    whole = [100 * rank > (100 - round(100 * target_coverage)) * (n + 1) for rank in ranks]
    assert accepts(p, target_coverage).tolist() == whole


def test_one_score_decides_in_the_same_way() -> None:
    groups, calibration = np.array([0, 0, 0, 1]), f(1, 2, 3, 4)
    asked = f(0, 1.5, 3.5, 5)  # p = 1, 13/15, 9/15, 3/15
    assert accepts_score(asked, calibration, groups, 0.35).tolist() == [True, True, False, False]
    assert accepts_score(asked, calibration, groups, 0.5).tolist() == [True, True, True, False]


# --- saved and loaded -----------------------------------------------------------------------------


def test_a_rule_comes_back_to_the_bit(tmp_path: Path) -> None:
    before = rule(target_coverage=0.1 + 0.2)
    rule_file.save(before, tmp_path / "rule.json")
    after = rule_file.load(tmp_path / "rule.json")
    for field in fields(Rule):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if isinstance(old, np.ndarray):
            assert (new.dtype, new.shape) == (old.dtype, old.shape), field.name
            assert new.tobytes() == old.tobytes(), field.name
        elif field.name not in ("calibration", "clouds", "parts", "hands"):
            assert new == old, field.name
            assert type(new) is type(old), field.name
    assert before.hands is not None and after.hands is not None
    for name, values in before.hands.arrays().items():
        assert after.hands.arrays()[name].tobytes() == values.tobytes(), name
    both = before.clouds.arrays() | before.parts.arrays()
    assert len(both) == 6 + 2 * 9 * 6
    again = after.clouds.arrays() | after.parts.arrays()
    for name, values in both.items():
        new = again[name]
        assert (new.dtype, new.shape, new.tobytes()) == (
            values.dtype, values.shape, values.tobytes()
        ), name  # fmt: skip
    assert after.calibration.keys() == before.calibration.keys()
    for name, values in before.calibration.items():
        assert after.calibration[name].tobytes() == values.tobytes()


def test_members_own_clouds_come_back_in_their_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own = tuple(
        MemberGda(
            np.array(labels),
            fit_class_gaussians(rng.random((4, 5)).astype(np.float16), np.array(of)),
        )
        for labels, of in (([0, 1], [0, 0, 1, 1]), ([2], [2, 2, 2, 2]))
    )
    readings = GdaPredictions((3.5,), 4.0, own=True)
    rule_file.save(rule(own=own, readings=readings), tmp_path / "rule.json")
    after = rule_file.load(tmp_path / "rule.json")
    assert after.readings == readings
    assert after.fifth is None  # frozen clouds do not read beside them
    assert len(after.own) == 2
    for old, new in zip(own, after.own, strict=True):
        assert all(np.array_equal(v, new.arrays()[k]) for k, v in old.arrays().items())
    assert rule_file.load(tmp_path / "rule.json").own[1].labels_L.tolist() == [2]


def test_a_belief_comes_back_to_the_bit(tmp_path: Path) -> None:
    before = InDistribution(0.3, f(0, 0.1 + 0.2, 4), f(0.9, 1 / 3, 0.01))
    rule_file.save(rule(belief=before), tmp_path / "rule.json")
    after = rule_file.load(tmp_path / "rule.json").belief
    assert after and after.share == before.share
    assert after.strange_B.tobytes() == before.strange_B.tobytes()
    assert after.sign_B.tobytes() == before.sign_B.tobytes()
    assert json.loads((tmp_path / "rule.json").read_text())["ood_prior"] == 0.3


@pytest.mark.parametrize(
    "promise", [RiskControl(0.05, 0.25, 40, 30, 1), RiskControl(0.01, images=40)]
)
def test_a_promise_comes_back(promise: RiskControl, tmp_path: Path) -> None:
    rule_file.save(rule(promise=promise), tmp_path / "rule.json")
    assert rule_file.load(tmp_path / "rule.json").promise == promise


def test_a_rule_answers_the_share_of_its_calibration_images_that_it_was_asked_to() -> None:
    rng = np.random.default_rng(0)
    scores = {"energy": rng.normal(size=400), "neighbour": rng.normal(size=400)}
    big = rule(target_coverage=0.9, calibration=scores, groups_C=np.arange(400) % 4)
    answered = big.answers_own()
    assert answered.mean() == pytest.approx(0.9, abs=0.01)
    assert big.own_statistic()[answered].max() < big.own_statistic()[~answered].min()


def test_rule_json_says_what_it_rests_on(tmp_path: Path) -> None:
    rule_file.save(rule(), tmp_path / "rule.json")
    text = json.loads((tmp_path / "rule.json").read_text())
    about = {"images": 4, "signers": 2, "resolution_per_signer": 1 / 3}
    assert text["calibration"] == about
    assert text["numbers"]["file"] == "rule.safetensors"


def test_changed_numbers_are_noticed(tmp_path: Path) -> None:
    rule_file.save(rule(), tmp_path / "rule.json")
    numbers = tmp_path / "rule.safetensors"
    content = bytearray(numbers.read_bytes())
    content[-1] ^= 1
    numbers.write_bytes(content)
    with pytest.raises(UserError, match=r"rule\.safetensors.*sha256.*changed"):
        rule_file.load(tmp_path / "rule.json")


def test_a_rule_that_is_not_there_or_not_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    with pytest.raises(UserError, match="not there"):
        rule_file.load(path)
    rule_file.save(rule(), path)
    (tmp_path / "rule.safetensors").unlink()
    with pytest.raises(UserError, match=r"rule\.safetensors: not there"):
        rule_file.load(path)
    for content in ("{}", "[1]", '{"numbers": {}}'):
        path.write_text(content)
        with pytest.raises(UserError, match="not a rule of this version"):
            rule_file.load(path)


@pytest.mark.parametrize("n", [39, 99])
def test_several_witnesses_together_keep_what_one_keeps(n: int) -> None:
    """2,000 draws of exchangeable images, five related witnesses: at most 5 % have p ≤ 0.05."""
    rng = np.random.default_rng(n)
    refused: dict[Any, int] = dict.fromkeys(("smallest", "fisher", "guarded"), 0)
    for _ in range(2000):
        drawn_WN = (0.6 * rng.normal(size=(n + 1, 1)) + rng.normal(size=(n + 1, 5))).T
        own_WN = np.stack([loo_neg_log_p(row[:n]) for row in drawn_WN])
        new_WN = np.stack([neg_log_p(row[n:], row[:n]) for row in drawn_WN])
        for how in refused:
            if how == "guarded":
                own_WN[-1] = vetoes.loo_beyond(drawn_WN[-1, :n])
                new_WN[-1] = vetoes.beyond(drawn_WN[-1, n:], drawn_WN[-1, :n])
            own, new = join(own_WN, how), join(new_WN, how)
            refused[how] += int(conformal_p(new, own)[0] <= 0.05 + 1e-9)
    spread = np.sqrt(0.05 * 0.95 / 2000)
    assert max(refused.values()) / 2000 <= 0.05 + 2 * spread


def test_own_surprise_by_hand() -> None:
    """Three others each: the lowest has all above it, the highest none and a tail."""
    calibration = np.array([4.0, 1.0, 2.0, 3.0])
    beta = 4.0 - np.quantile(calibration, 0.9)
    expected = [np.log(4) + 1.0 / beta, 0.0, -np.log(3 / 4), -np.log(2 / 4)]
    assert loo_neg_log_p(calibration) == pytest.approx(expected)


def test_own_surprise_with_ties_and_constants() -> None:
    assert loo_neg_log_p(np.full(5, 2.0)) == pytest.approx(np.zeros(5))
    tied = loo_neg_log_p(np.array([1.0, 2.0, 2.0]))
    assert tied == pytest.approx([0.0, -np.log(2 / 3), -np.log(2 / 3)])


# --- a second question ----------------------------------------------------------------------------


def asking_both(**changed: Any) -> Rule:
    calibration = {"energy": f(1, 2, 3, 4), "total_uncertainty": f(0.1, 0.4, 0.2, 0.3)}
    given = {"witnesses": ("energy",), "calibration": calibration, "groups_C": np.arange(4)}
    return rule(**{**given, "unsure": 0.25, "target_coverage": 0.5, **changed})


def test_each_question_has_its_share_of_what_is_refused() -> None:
    scores = {"energy": f(0, 3.5, 0, 9), "total_uncertainty": f(0, 0, 0.35, 0.35)}
    asked = asking_both()
    # p by energy: 1, 2/5, 1, 1/5 over 3/4; by uncertainty: 1, 1, 2/5, 2/5 over 1/4
    by_hand = [1.0, 8 / 15, 1.0, 4 / 15]
    assert asked.p_values(scores) == pytest.approx(by_hand, **EXACT)
    swapped = asking_both(unsure=0.75)  # 4, 8/5, 4, 4/5 and 4/3, 4/3, 8/15, 8/15
    assert swapped.p_values(scores) == pytest.approx([1.0, 1.0, 8 / 15, 8 / 15], **EXACT)
    assert asked.p_of_questions(scores).argmin(0).tolist() == [0, 0, 0, 0]
    assert swapped.p_of_questions(scores).argmin(0).tolist() == [0, 0, 1, 1]
    alone = asking_both(unsure=0.0)
    assert alone.p_values(scores) == pytest.approx([1.0, 2 / 5, 1.0, 1 / 5], **EXACT)
    assert alone.p_of_questions(scores).shape == (1, 4)
    assert np.array_equal(alone.doubt(scores), alone.statistic(scores))


def test_what_is_doubted_more_has_no_larger_p_value() -> None:
    rng = np.random.default_rng(3)
    calibration = {name: rng.normal(size=60) for name in ("energy", "total_uncertainty")}
    both = asking_both(calibration=calibration, groups_C=np.arange(60) % 5)
    for asked, other in (("energy", "total_uncertainty"), ("total_uncertainty", "energy")):
        scores = {asked: rng.normal(size=200), other: np.full(200, -9.0)}  # one question speaks
        doubt, p = both.doubt(scores), both.p_values(scores)
        assert (np.diff(p[np.argsort(doubt)]) <= 1e-12).all()
    beyond_all = {"energy": f(0, 0), "total_uncertainty": f(50, 60)}
    assert np.diff(both.doubt(beyond_all)) > 0  # ranks where p-values no longer tell apart


def test_two_questions_refuse_no_more_than_was_allowed() -> None:
    rng = np.random.default_rng(4)
    refused = []
    for _ in range(400):
        shared = rng.normal(size=120)  # what is strange is often read unsurely too
        drawn = {name: shared + rng.normal(size=120) for name in ("energy", "total_uncertainty")}
        calibration = {name: values[:99] for name, values in drawn.items()}
        both = asking_both(
            calibration=calibration, groups_C=np.zeros(99, int), target_coverage=0.9, unsure=0.5
        )
        asked = {name: values[99:] for name, values in drawn.items()}
        refused.append(1 - accepts(both.p_values(asked), both.target_coverage).mean())
    assert 0.05 < np.mean(refused) < 0.1


def test_own_answers_go_by_both_questions() -> None:
    calibration = {"energy": np.arange(40.0), "total_uncertainty": np.arange(40.0)[::-1].copy()}
    both = asking_both(
        calibration=calibration, groups_C=np.arange(40), target_coverage=0.9, unsure=0.5
    )
    refused = np.flatnonzero(~both.answers_own())
    assert refused.tolist() == [0, 39]  # the unsurest and the strangest


def test_a_second_question_is_read_back(tmp_path: Path) -> None:
    rule_file.save(asking_both(unsure=0.3), tmp_path / "rule.json")
    assert rule_file.load(tmp_path / "rule.json").unsure == 0.3

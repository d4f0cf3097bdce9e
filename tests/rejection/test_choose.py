"""Which witnesses decide: counted and chosen by hand, and a planted witness is found.

Letters: C calibration images, G negatives.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytest

from sign_ensemble.rejection.candidates import NAMED_ONLY, USUAL, Candidate, candidates
from sign_ensemble.rejection.choose import (
    LEFT_OUT,
    Calibration,
    Judged,
    by_signer,
    choose,
    gestures,
    judged,
    mean_shares,
    risk,
    statistics,
    strangers,
)
from sign_ensemble.rejection.scores import WITNESSES
from sign_ensemble.rejection.vetoes import HANDS

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
PERFECT = (80 * 81 / 2 - 40) / 140 / 139  # AUGRC of 60 signs read right before 80 failures


def planted(**shifts: tuple[float, float]) -> Calibration:
    """Three signers of 60 signs; 40 negatives of each of two kinds, made from each signer's.

    Every witness's scores are drawn from a bell curve; the negatives' are shifted, kind by kind.
    """
    rng = np.random.default_rng(0)
    signs, negatives = 3 * 60, 3 * 2 * 40
    kinds = np.tile(np.repeat(["flat", "mixed"], 40), 3)
    shift = {name: np.where(kinds == "flat", *shifts[name]) for name in shifts}
    return Calibration(
        scores={name: rng.normal(size=signs) for name in shifts},
        groups_C=np.repeat([0, 1, 2], 60),
        wrong_C=np.zeros(signs, bool),
        negatives={name: shift[name] + rng.normal(size=negatives) for name in shifts},
        groups_G=np.repeat([0, 1, 2], 80),
        kinds_G=kinds,
    )


# --- candidates -----------------------------------------------------------------------------------


def test_eight_witnesses_make_85_candidates() -> None:
    searched = [name for name in WITNESSES if name not in NAMED_ONLY]
    found = candidates(searched)
    sets = comb(7, 1) + comb(7, 2)  # of the others, beside the neighbour
    assert sets == 28
    assert len(found) == len(set(found)) == 1 + 3 * sets
    assert all("neighbour" in each.witnesses for each in found)
    assert {each.witnesses[-1] for each in found if each.joined == "guarded"} == {"neighbour"}
    counted = [[name for name in each.witnesses if name not in HANDS] for each in found]
    assert max(map(len, counted)) == 3
    for each in found:  # HANDS are guards beside the neighbour, and nothing else
        guards = [name for name in each.witnesses if name in HANDS]
        assert guards == (list(HANDS) if each.joined == "guarded" else [])
    assert [each for each in found if each.joined != "smallest" and len(each.witnesses) == 1] == []


def test_the_usual_is_a_candidate() -> None:
    found = [each for each in candidates(tuple(WITNESSES)) if each.joined == USUAL.joined]
    assert [set(each.witnesses) for each in found].count(set(USUAL.witnesses)) == 1


def test_the_usual_without_a_guard_that_nobody_made() -> None:
    assert USUAL.among(("neighbour", *HANDS)) == USUAL
    without = USUAL.among(("neighbour",))
    assert without.witnesses == ("total_uncertainty", "part_mahalanobis", "neighbour")
    assert without.joined == "guarded"
    names = tuple(name for name in WITNESSES if name not in HANDS)
    assert without in candidates(names)


def test_candidates_of_two_witnesses_and_their_names() -> None:
    names = [each.name for each in candidates(("neighbour", "energy"))]
    assert names == ["neighbour", "neighbour+energy (smallest)", "neighbour+energy (fisher)",
                     "energy+neighbour (guarded)"]  # fmt: skip
    names = [each.name for each in candidates(("energy", "max_logit"))]
    assert names == ["energy", "max_logit", "energy+max_logit (smallest)",
                     "energy+max_logit (fisher)"]  # fmt: skip


# --- what a candidate accepts ---------------------------------------------------------------------


def by_hand() -> Calibration:
    """Two signers with two signs each; four negatives of one kind, one of another."""
    return Calibration(
        scores={"a": np.array([1.0, 2.0, 3.0, 4.0])},
        groups_C=np.array([0, 0, 1, 1]),
        wrong_C=np.zeros(4, bool),
        negatives={"a": np.array([2.5, 3.0, 3.5, 3.9, 5.0, 4.0])},
        groups_G=np.array([0, 0, 0, 1, 1, 1]),
        kinds_G=np.array(["x", "x", "x", "x", "x", "y"]),
    )


def test_accepted_negatives_by_hand() -> None:
    # Signer 0 against signer 1's scores 3 and 4: both signs have surprise 0, and so have the
    # negatives at 2.5 and 3; 3.5 lies above: 2 of 3 accepted. Signer 1 against 1 and 2: beyond the
    # highest the surprise goes on, so 4, the stranger sign, is the threshold: of x at 3.9 and 5 one
    # is accepted, y at 4 is.
    shares = judged(Candidate(("a",), "smallest"), strangers(by_hand())).accepted
    assert shares == {"x": pytest.approx((2 / 3 + 1 / 2) / 2, **EXACT), "y": 1.0}


def test_a_signers_own_scores_do_not_calibrate_it() -> None:
    before = by_hand()
    moved = Calibration(
        scores={"a": np.array([101.0, 102.0, 3.0, 4.0])},  # signer 0 far beyond signer 1
        groups_C=before.groups_C,
        wrong_C=np.zeros(4, bool),
        negatives={"a": np.array([101.5, 102.0, 102.5, 3.9, 5.0, 4.0])},
        groups_G=before.groups_G,
        kinds_G=before.kinds_G,
    )
    # signer 0: the tail beyond signer 1 still ranks 101.5 <= 102 < 102.5. Signer 1 lies below all
    # of signer 0, where every surprise is 0: all accepted.
    shares = judged(Candidate(("a",), "smallest"), strangers(moved)).accepted
    assert shares == {"x": pytest.approx((2 / 3 + 1) / 2, **EXACT), "y": 1.0}


def test_both_ways_to_join_by_hand() -> None:
    # One negative is a little strange to both witnesses, the other very strange to one. The signs
    # of signer 0 are a little strange to one witness each.
    line = np.arange(1.0, 101.0)
    calibration = Calibration(
        scores={"a": np.append([50.0, 1.0], line), "b": np.append([1.0, 50.0], line)},
        groups_C=np.repeat([0, 1], [2, 100]),
        wrong_C=np.zeros(102, bool),
        negatives={"a": np.array([45.0, 90.0]), "b": np.array([45.0, 1.0])},
        groups_G=np.array([0, 0]),
        kinds_G=np.array(["both", "one"]),
    )
    smallest = judged(Candidate(("a", "b"), "smallest"), strangers(calibration)).accepted
    fisher = judged(Candidate(("a", "b"), "fisher"), strangers(calibration)).accepted
    assert smallest == {"both": 1.0, "one": 0.0}  # 45 < 50 < 90
    assert fisher == {"both": 0.0, "one": 0.0}  # twice -log(57/101) against -log(52/101)


# --- the choice -----------------------------------------------------------------------------------


def test_risk_by_hand() -> None:
    # signer 1 against signer 0's scores 1 and 2, so beyond them surprises only rise with scores:
    # signs 3 and 4 (misread), left-out labels 3.5 and 5. In order 3, 3.5 (failure), 4 (failure),
    # 5 (failure): shares of failures accepted 0, 1/4, 2/4, 3/4; trapezoids over the 3 steps
    # between them: (1/8 + 3/8 + 5/8) / 3.
    calibration = Calibration(
        scores={"a": np.array([1.0, 2.0, 3.0, 4.0])},
        groups_C=np.array([0, 0, 1, 1]),
        wrong_C=np.array([True, False, False, True]),
        negatives={"a": np.array([3.5, 5.0, 9.0])},
        groups_G=np.array([1, 1, 1]),
        kinds_G=np.array([LEFT_OUT, LEFT_OUT, "phases"]),
    )
    stranger = strangers(calibration)[1]
    assert risk(Candidate(("a",), "smallest"), stranger, (LEFT_OUT,)) == pytest.approx(3 / 8)


def test_cost_is_risk_and_the_worst_kind_without_a_hand() -> None:
    shares = {"halves": 0.9, "phases": 0.1, "polygons": 0.2, LEFT_OUT: 0.5}
    assert Judged(Candidate(("a",), "smallest"), 0.05, {}, shares, 0.5).cost == 0.25
    assert Judged(Candidate(("a",), "smallest"), 0.05, {}, {LEFT_OUT: 0.5}, 0.5).cost == 0.05


def test_left_out_labels_take_the_place_of_joined_hands() -> None:
    def asked(*kinds: str) -> tuple[str, ...]:
        size = len(kinds)
        calibration = Calibration(
            scores={"a": np.arange(4.0)},
            groups_C=np.array([0, 0, 1, 1]),
            wrong_C=np.zeros(4, bool),
            negatives={"a": np.arange(float(size))},
            groups_G=np.zeros(size, np.int64),
            kinds_G=np.array(kinds),
        )
        return gestures(strangers(calibration))

    assert asked("halves", "phases", LEFT_OUT) == (LEFT_OUT,)
    assert asked("halves", "phases", "swaps") == ("halves", "swaps")
    assert asked("phases", "polygons") == ()


def test_a_planted_witness_is_chosen_over_noise() -> None:
    names = ("noise", "planted", "chance")
    noise = Candidate(("noise",), "smallest")
    best, table = choose([planted(noise=(0, 0), planted=(9, 9), chance=(0, 0))], names, noise)
    assert best == Candidate(("planted",), "smallest")
    of = {row["combination"]: row for row in table}
    assert table[0] == {
        "combination": "planted",
        "cost": pytest.approx(PERFECT, abs=1e-12),
        "gain": pytest.approx(of["noise"]["cost"] - PERFECT, abs=1e-9),
        "standard_error": table[0]["standard_error"],
        "accepted": {"flat": 0.0, "mixed": 0.0},
    }
    assert (of["noise"]["gain"], of["noise"]["standard_error"]) == (0.0, 0.0)
    assert len(table) == len(candidates(names))
    costs = [row["cost"] for row in table]
    assert costs == sorted(costs)
    assert of["noise"]["cost"] > 0.25  # nothing known: near half the share of failures
    assert of["chance"]["cost"] > 0.25


def test_two_half_blind_witnesses_are_chosen_together() -> None:
    names, flat = ("flat", "noise", "mixed"), Candidate(("flat",), "smallest")
    best, table = choose([planted(flat=(9, 0), noise=(0, 0), mixed=(0, 9))], names, flat)
    assert set(best.witnesses) == {"flat", "mixed"}
    of = {row["combination"]: row["accepted"] for row in table}
    assert of["flat"]["flat"] == 0.0
    assert of["flat"]["mixed"] > 0.85


def test_of_equals_the_usual_stays_however_its_witnesses_are_ordered() -> None:
    same = planted(first=(9, 9))
    twins = Calibration(
        scores={"first": same.scores["first"], "second": same.scores["first"]},
        groups_C=same.groups_C,
        wrong_C=np.zeros(180, bool),
        negatives={"first": same.negatives["first"], "second": same.negatives["first"]},
        groups_G=same.groups_G,
        kinds_G=same.kinds_G,
    )
    names = ("first", "second")
    second, both = Candidate(("second",), "smallest"), Candidate(("second", "first"), "fisher")
    best, table = choose([twins], names, second)
    assert [row["cost"] for row in table] == pytest.approx([PERFECT] * len(table), abs=1e-12)
    assert best == second
    assert choose([twins], names, both)[0] == Candidate(names, "fisher")


def test_mean_shares_by_hand() -> None:
    each = [{LEFT_OUT: 0.2}, {LEFT_OUT: 0.6}, {"phases": 0.9}]  # the last was not asked of labels
    assert mean_shares(each) == {LEFT_OUT: pytest.approx(0.4, **EXACT), "phases": 0.9}


def test_a_signer_seen_twice_is_one_observation() -> None:
    found = by_signer([0.1, 0.5, 0.3, 0.8], [3, 7, 3, 8])
    assert found == {3: pytest.approx(0.2, **EXACT), 7: 0.5, 8: 0.8}


def with_risks(risks: dict[int, float], far: float = 0.0) -> Judged:
    """A candidate of these risks, signer by signer."""
    one = Candidate(("a",), "smallest")
    return Judged(one, float(np.mean(list(risks.values()))), risks, {"phases": far}, 0.0)


def test_a_gain_and_its_error_by_hand() -> None:
    usual, other = with_risks({3: 0.5, 7: 0.3}, 0.1), with_risks({3: 0.2, 7: 0.2}, 0.0)
    # lower by .3 and .1, and by .1 of the kind without a hand; deviations of .1 from the mean .2:
    # √(2 · .01 / 1) / √2 = .1
    gain, error = other.gain(usual)
    assert (gain, error) == (pytest.approx(0.3, **EXACT), pytest.approx(0.1, **EXACT))
    assert other.gain(other) == (0.0, 0.0)


def test_one_signer_settles_nothing() -> None:
    usual, other = with_risks({3: 0.5}), with_risks({3: 0.2})
    assert other.gain(usual) == (pytest.approx(0.3, **EXACT), np.inf)
    assert other.row(usual)["standard_error"] is None


def test_a_guard_counts_only_what_lies_beyond_all_calibration_images() -> None:
    # signer 1 against signer 0's: energies 1 to 5, distances 0.1 to 0.5, whose 90 % quantile is
    # 0.46 and whose tail therefore falls by 0.04
    calibration = Calibration(
        scores={
            "energy": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 2.0]),
            "neighbour": np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.5]),
        },
        groups_C=np.array([0, 0, 0, 0, 0, 1]),
        wrong_C=np.zeros(6, bool),
        negatives={"energy": np.array([2.0, 2.0]), "neighbour": np.array([0.45, 0.62])},
        groups_G=np.array([1, 1]),
        kinds_G=np.array(["phases", "phases"]),
    )
    stranger = strangers(calibration)[1]
    guarded = Candidate(("energy", "neighbour"), "guarded")
    at_2 = np.log(6 / 5)  # four of five energies are at least 2
    assert statistics(guarded, stranger.signs) == pytest.approx([at_2])
    assert statistics(guarded, stranger.negatives["phases"]) == pytest.approx([at_2, 0.12 / 0.04])


def test_of_several_guards_the_one_farthest_beyond_counts() -> None:
    # two hands: 1 to 5, whose 90 % quantile is 4.6 and whose tail therefore falls by 0.4
    calibration = Calibration(
        scores={
            "energy": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 2.0]),
            "two_hands": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 5.0]),
            "neighbour": np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.5]),
        },
        groups_C=np.array([0, 0, 0, 0, 0, 1]),
        wrong_C=np.zeros(6, bool),
        negatives={
            "energy": np.array([2.0, 2.0]),
            "two_hands": np.array([7.0, 5.8]),
            "neighbour": np.array([0.62, 0.45]),
        },
        groups_G=np.array([1, 1]),
        kinds_G=np.array(["phases", "phases"]),
    )
    stranger = strangers(calibration)[1]
    asked = stranger.negatives["phases"]
    both = Candidate(("energy", "two_hands", "neighbour"), "guarded")
    beyond_all = np.log(5 + 1)  # where two hands lie outside
    assert statistics(both, asked) == pytest.approx([beyond_all + 5.0, beyond_all + 2.0])
    far_alone = Candidate(("energy", "neighbour"), "guarded")
    assert statistics(far_alone, asked) == pytest.approx([0.12 / 0.04, np.log(6 / 5)])


def asked_of_labels(seed: int, **shifts: float) -> Calibration:
    """Three signers of 40 signs, and 20 signs of left-out labels of each."""
    rng = np.random.default_rng(seed)
    return Calibration(
        scores={name: rng.normal(size=120) for name in shifts},
        groups_C=np.repeat([0, 1, 2], 40),
        wrong_C=np.zeros(120, bool),
        negatives={name: shift + rng.normal(size=60) for name, shift in shifts.items()},
        groups_G=np.repeat([0, 1, 2], 20),
        kinds_G=np.full(60, LEFT_OUT),
    )


def test_another_has_to_be_better_by_more_than_two_standard_errors() -> None:
    names, good = ("good", "little"), Candidate(("good",), "smallest")

    def first(table: list[dict[str, Any]]) -> dict[str, Any]:
        assert table[0]["combination"] == "good+little (fisher)"
        return table[0]

    best, table = choose([asked_of_labels(0, good=2.0, little=1.0)], names, good)
    assert 0 < first(table)["gain"] < 2 * first(table)["standard_error"]
    assert best == good
    best, table = choose([asked_of_labels(2, good=2.0, little=1.0)], names, good)
    assert first(table)["gain"] > 2 * first(table)["standard_error"]
    assert best.name == "good+little (fisher)"


def test_another_may_not_accept_more_wrong_gestures_at_the_end() -> None:
    # "level" ranks far better on the whole; but its last twentieth of signs lies beyond all
    # gestures, of which "edge" refuses all but half at any threshold
    rng = np.random.default_rng(0)
    signs, gestures_of_all = 3 * 100, 3 * 40
    late = np.tile(np.arange(100) < 8, 3)
    near = np.tile(np.arange(40) < 20, 3)
    calibration = Calibration(
        scores={
            "edge": rng.uniform(0, 1, signs),
            "level": np.where(late, 9.0, 0.0) + rng.uniform(0, 1, signs),
        },
        groups_C=np.repeat([0, 1, 2], 100),
        wrong_C=np.zeros(signs, bool),
        negatives={
            "edge": np.where(near, -1.0, 9.0) + rng.uniform(0, 1, gestures_of_all),
            "level": 3 + rng.uniform(0, 1, gestures_of_all),
        },
        groups_G=np.repeat([0, 1, 2], 40),
        kinds_G=np.full(gestures_of_all, LEFT_OUT),
    )
    edge = Candidate(("edge",), "smallest")
    best, table = choose([calibration], ("edge", "level"), edge)
    of = {row["combination"]: row for row in table}
    assert of["level"]["gain"] > 2 * of["level"]["standard_error"]
    assert of["level"]["accepted"][LEFT_OUT] > of["edge"]["accepted"][LEFT_OUT]
    assert best != Candidate(("level",), "smallest")


def test_several_calibrations_are_one_choice() -> None:
    # without left-out labels both see everything; with them only the second does, and of the other
    # kinds none is without a hand
    images = planted(first=(9, 9), second=(9, 9))
    left_out = planted(first=(0, 0), second=(9, 9))
    wrong = Calibration(
        scores=left_out.scores,
        groups_C=left_out.groups_C,
        wrong_C=np.zeros(180, bool),
        negatives=left_out.negatives,
        groups_G=left_out.groups_G,
        kinds_G=np.full(len(left_out.kinds_G), LEFT_OUT),
    )
    names, first = ("first", "second"), Candidate(("first",), "smallest")
    assert choose([images], names, first)[0] == first
    best, table = choose([images, wrong], names, first)
    assert best == Candidate(("second",), "smallest")
    assert table[0]["accepted"] == {"flat": 0.0, "mixed": 0.0, LEFT_OUT: 0.0}
    risks = [risk(first, stranger, (LEFT_OUT,)) for stranger in strangers(wrong)]
    of = {row["combination"]: row["cost"] for row in table}
    assert of["first"] == pytest.approx(float(np.mean(risks)), **EXACT)

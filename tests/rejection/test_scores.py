"""Scores of two members and two labels, worked out by hand in nats."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.config_checks import WITNESS_NAMES
from sign_ensemble.rejection import scores
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.scores import WITNESSES, all_scores

EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}
CLOSE: dict[str, Any] = {"abs": 1e-7, "rel": 0}  # logits are float32


def evidence(logits_MNK: Any, votes_M: list[float] | None = None) -> EnsembleOutput:
    logits = np.array(logits_MNK, np.float32)
    votes = np.array(votes_M or np.ones(len(logits)), np.float64)
    near, cloud, part, norm = np.repeat([[0.25], [-3.5], [-2.25], [1.5]], logits.shape[1], 1)
    return EnsembleOutput(logits, votes, near, cloud, part, norm)


def of_probs(probs_MNK: Any, votes_M: list[float] | None = None) -> EnsembleOutput:
    return evidence(np.log(np.array(probs_MNK)), votes_M)


def h(*probs: float) -> float:
    """Entropy in nats, summed over labels."""
    return -sum(p * log(p) for p in probs if p)


TWO = [[[0.8, 0.2]], [[0.4, 0.6]]]  # one image; the members' mean is (0.6, 0.4)


def test_entropy_is_summed_and_in_nats() -> None:
    rows = np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert scores.entropy(rows) == pytest.approx([log(4), 0.0, log(2)], **EXACT)


def test_total_uncertainty_is_the_entropy_of_the_mean() -> None:
    assert scores.total_uncertainty(of_probs(TWO)) == pytest.approx([h(0.6, 0.4)], **CLOSE)
    assert h(0.6, 0.4) == pytest.approx(0.6730116670, abs=1e-9)


def test_disagreement_is_what_the_mean_of_entropies_leaves() -> None:
    by_hand = h(0.6, 0.4) - (h(0.8, 0.2) + h(0.4, 0.6)) / 2
    assert by_hand == pytest.approx(0.0863046218, abs=1e-9)
    assert scores.disagreement(of_probs(TWO)) == pytest.approx([by_hand], **CLOSE)


def test_votes_weigh_every_score() -> None:
    # three votes to one: the mean is (0.7, 0.3)
    weighed = of_probs(TWO, [3, 1])
    by_hand = h(0.7, 0.3) - (3 * h(0.8, 0.2) + h(0.4, 0.6)) / 4
    assert scores.total_uncertainty(weighed) == pytest.approx([h(0.7, 0.3)], **CLOSE)
    assert scores.disagreement(weighed) == pytest.approx([by_hand], **CLOSE)
    logits = evidence([[[4.0, 0.0]], [[0.0, 8.0]]], [3, 1])
    assert scores.max_logit(logits) == pytest.approx([-5.0], **EXACT)


def test_a_vote_of_two_is_the_same_member_twice() -> None:
    once = all_scores(of_probs(TWO, [2, 1]))
    twice = all_scores(of_probs([TWO[0], TWO[0], TWO[1]]))
    for name, values in once.items():
        assert values == pytest.approx(twice[name], **EXACT)


def test_members_that_agree_do_not_disagree() -> None:
    agreed = of_probs([[[0.7, 0.3], [0.5, 0.5]], [[0.7, 0.3], [0.5, 0.5]]])
    assert scores.disagreement(agreed) == pytest.approx([0.0, 0.0], **EXACT)
    assert scores.total_uncertainty(agreed) == pytest.approx([h(0.7, 0.3), log(2)], **CLOSE)


def test_members_certain_and_opposed_disagree_by_log_2() -> None:
    opposed = evidence([[[800.0, 0.0]], [[0.0, 800.0]]])
    assert scores.disagreement(opposed) == pytest.approx([log(2)], **EXACT)
    assert scores.total_uncertainty(opposed) == pytest.approx([log(2)], **EXACT)


def test_one_member_never_disagrees() -> None:
    rng = np.random.default_rng(0)
    alone = evidence(5 * rng.normal(size=(1, 50, 7)))
    assert scores.disagreement(alone) == pytest.approx(np.zeros(50), **EXACT)
    assert scores.disagreement(alone).min() >= 0  # rounding never makes it negative


def test_energy_by_hand() -> None:
    two = evidence([[[1.0, 2.0]], [[0.0, 0.0]]])
    by_hand = -(log(exp(1) + exp(2)) + log(2)) / 2
    assert scores.energy(two) == pytest.approx([by_hand], **EXACT)


def test_max_logit_is_taken_per_member_and_then_averaged() -> None:
    two = evidence([[[3.0, 0.0]], [[0.0, 1.0]]])
    assert scores.max_logit(two) == pytest.approx([-2.0], **EXACT)  # of the mean logits: -1.5


def test_energy_is_averaged_over_members_and_not_of_the_mean_logits() -> None:
    opposed = evidence([[[4.0, 0.0]], [[0.0, 4.0]]])
    assert scores.energy(opposed) == pytest.approx([-log(exp(4) + 1)], **EXACT)
    assert -log(2 * exp(2)) - scores.energy(opposed)[0] > 1  # what the mean logits would give


def test_distances_are_those_handed_in() -> None:
    assert scores.neighbour(of_probs(TWO)).tolist() == [0.25]
    assert scores.relative_mahalanobis(of_probs(TWO)).tolist() == [-3.5]
    assert scores.part_mahalanobis(of_probs(TWO)).tolist() == [-2.25]
    with_own = replace(of_probs(TWO), own_N=np.array([1.5]))
    assert scores.own_mahalanobis(with_own).tolist() == [1.5]
    assert all_scores(with_own)["own_mahalanobis"].tolist() == [1.5]


def test_hands_are_as_handed_in_or_not_asked_about() -> None:
    found = all_scores(replace(of_probs(TWO), hands_NG=np.array([[0.25, 0.5]])))
    assert found["no_hand"].tolist() == [0.25]
    assert found["two_hands"].tolist() == [0.5]
    assert not {"no_hand", "two_hands"} & set(all_scores(of_probs(TWO)))
    with pytest.raises(ValueError, match="no pictures were made"):
        scores.two_hands(of_probs(TWO))


def test_heads_have_no_convolutions_of_their_own() -> None:
    assert "own_mahalanobis" not in all_scores(of_probs(TWO))
    with pytest.raises(ValueError, match="no convolutions of their own"):
        scores.own_mahalanobis(of_probs(TWO))


def test_generalised_entropy_by_hand() -> None:
    # 0.8 * 0.2 = 0.16 of either label, 0.4 * 0.6 = 0.24; the mean of the members
    by_hand = (2 * 0.16**0.1 + 2 * 0.24**0.1) / 2
    assert scores.generalised_entropy(of_probs(TWO)) == pytest.approx([by_hand], **CLOSE)
    assert scores.generalised_entropy(evidence([[[0.0, 9e4]]])).tolist() == [0.0]


def test_feature_norm_is_strange_where_it_is_small() -> None:
    assert scores.feature_norm(of_probs(TWO)).tolist() == [-1.5]


def test_sirc_by_hand() -> None:
    # one minus 0.8 and 0.6, their mean 0.3; features 1.5 spreads stronger than usual
    by_hand = 0.3 * (1 + exp(-4.5))
    assert scores.sirc(of_probs(TWO)) == pytest.approx([by_hand], **CLOSE)
    weak = replace(of_probs(TWO), norm_N=np.array([-5.0]))
    assert scores.sirc(weak) == pytest.approx([0.3 * (1 + exp(2.0))], **CLOSE)
    nothing = replace(of_probs(TWO), norm_N=np.array([-1e9]))  # a bank of one norm
    assert np.isfinite(scores.sirc(nothing)).all()


@pytest.mark.parametrize("height", [1e4, 1e30, -1e30, 3e38])
def test_huge_logits_stay_finite(height: float) -> None:
    huge = evidence([[[height, 0.0], [height, height]], [[0.0, height], [-height, height]]])
    for name, values in all_scores(huge).items():
        assert np.isfinite(values).all(), name
    assert scores.max_logit(huge)[1] == pytest.approx(-(height + abs(height)) / 2, rel=1e-6)


def test_every_witness_is_higher_for_the_stranger_image() -> None:
    # image 0: sure and agreed; image 1: unsure and split
    strange = evidence([[[9.0, 0.0], [1.0, 0.0]], [[9.0, 0.0], [0.0, 1.0]]])
    found = all_scores(strange)
    assert [*found, "own_mahalanobis", "no_hand", "two_hands"] == list(WITNESSES)
    for name in set(found) - scores.DISTANCES:
        assert found[name][1] > found[name][0], name


def test_max_prob_is_what_the_best_label_leaves() -> None:
    probs = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    assert scores.max_prob(probs) == pytest.approx([0.3, 0.0, 0.5], **EXACT)


def test_settings_know_every_witness() -> None:
    assert tuple(WITNESSES) == WITNESS_NAMES

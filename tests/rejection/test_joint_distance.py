"""The joint distance of a few images, worked out by hand.

Letters: N images, C calibration images, K labels.
"""

from __future__ import annotations

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest

from sign_ensemble.rejection.joint_distance import (
    HALF,
    NO_HAND,
    WEIGHT,
    JointScales,
    Scale,
    damped,
    discriminant_weight,
    fit_joint_scales,
    fit_scale,
    joint_distance,
    joint_scales_of,
)
from sign_ensemble.rejection.kind_distances import KindDistances

ONE = Scale(0.0, 1.0)
PLAIN = JointScales(ONE, ONE, ONE, ONE, ONE)


def kinds(tips: list[list[float]], landmarks: list[list[float]], hands: list[int] | None = None):
    """Of images whose distances in discriminants are the same."""
    count = hands or [1] * len(tips)
    each = np.array(tips, float), np.array(landmarks, float)
    return KindDistances(*each, *each, np.array(count))


def g(z: float) -> float:
    return z if z <= 0 else log(1 + z)


# --- scales ---------------------------------------------------------------------------------------


def test_g_damps_large_distances_alone() -> None:
    found = damped(Scale(2.0, 0.5).of(np.array([0.5, 1.0, 2.0, 2.5, 4.0, 1e6])))
    assert found == pytest.approx([-3, -2, 0, log(2), log(5), log(1 + 1999996)])
    assert damped(np.array([-1e9])).tolist() == [-1e9]
    assert damped(np.zeros((2, 3))).shape == (2, 3)


def test_g_rises() -> None:
    assert (np.diff(damped(np.linspace(-20, 50, 400))) > 0).all()


def test_median_and_spread() -> None:
    scale = fit_scale(np.array([1.0, 2.0, 4.0, 8.0, 100.0]))
    assert scale.median == 4
    assert scale.spread == pytest.approx(1.4826 * 3)  # differences 3, 2, 0, 4, 96
    assert fit_scale(np.full(5, 7.0)) == Scale(7.0, 1e-6)  # never zero


def test_the_spread_of_a_normal_distribution_is_its_standard_deviation() -> None:
    scale = fit_scale(np.random.default_rng(0).normal(3, 2, 100_000))
    assert (scale.median, scale.spread) == pytest.approx((3, 2), abs=0.03)


def test_scales_are_of_the_true_label_and_of_images_with_a_hand() -> None:
    tips = [[1.0, 90.0], [90.0, 2.0], [4.0, 90.0], [0.0, 0.0]]
    landmarks = [[-5.0, 70.0], [70.0, -3.0], [-1.0, 70.0], [0.0, 0.0]]
    regional, labels = np.array([10.0, 20.0, 40.0, 50.0]), np.array([0, 1, 0, 1])
    of_kinds = kinds(tips, landmarks, [1, 2, 1, 0])
    of_kinds = replace(
        of_kinds,
        tip_discriminants_NK=10 * of_kinds.tips_NK,
        landmark_discriminants_NK=of_kinds.landmarks_NK - 1,
    )
    found = fit_joint_scales(of_kinds, regional, labels)
    by_hand = {
        "tips": (2, 1),
        "landmarks": (-3, 2),
        "tip_discriminants": (20, 10),
        "landmark_discriminants": (-4, 2),
        "regional": (30, 15),  # of all images
    }
    for name, (median, deviation) in by_hand.items():
        scale = getattr(found, name)
        assert (scale.median, scale.spread) == pytest.approx((median, 1.4826 * deviation)), name


def test_scales_and_back() -> None:
    scales = JointScales(*(Scale(1.5 * i, 2.0) for i in range(5)))
    written = json.loads(json.dumps(scales.as_dict()))
    assert joint_scales_of(written) == scales
    assert joint_scales_of(None) is None


# --- distances ------------------------------------------------------------------------------------


def test_the_least_sum_over_labels() -> None:
    assert WEIGHT == 0.5
    found = joint_distance(kinds([[-1.0, 3.0, 0.0]], [[5.0, -4.0, -2.0]]), None, PLAIN)
    # -1 + log(6) / 2 = -0.10, log(4) - 2 = -0.61, 0 - 1
    assert found.total_N == pytest.approx([-1.0])
    assert found.tips_N == pytest.approx([0.0]) and found.landmarks_N == pytest.approx([-2.0])


def test_the_same_label_must_fit_both() -> None:
    # each kind fits a label well: the same one, or two different ones
    same = joint_distance(kinds([[-1.0, 20.0]], [[-1.0, 20.0]]), None, PLAIN)
    different = joint_distance(kinds([[-1.0, 20.0]], [[20.0, -1.0]]), None, PLAIN)
    assert same.total_N == pytest.approx([-1.5])
    assert different.total_N == pytest.approx([-1 + 0.5 * log(21)])  # less than log(21) - 0.5
    assert (different.tips_N, different.landmarks_N) == (
        pytest.approx([-1]),
        pytest.approx([log(21)]),
    )


def test_each_kind_has_its_own_scale() -> None:
    scales = JointScales(*(Scale(10.0, 2.0), Scale(-4.0, 0.5)) * 2, ONE)
    found = joint_distance(kinds([[6.0, 14.0]], [[-3.0, -5.0]]), None, scales)
    # a: -2 and 2; b: 2 and -2
    assert found.total_N == pytest.approx([min(-2 + 0.5 * log(3), log(3) - 1)])


def test_discriminants_count_by_their_number() -> None:
    assert HALF == 12
    assert [discriminant_weight(k) for k in (1, 2, 13, 25)] == [0, 1 / 13, 1 / 2, 2 / 3]
    tips, others = np.full((1, 13), 2.0), np.full((1, 13), 9.0)
    of_kinds = KindDistances(tips, others, tips + 4, others + 8, np.ones(1, np.int64))
    scales = JointScales(ONE, Scale(9.0, 1.0), Scale(3.0, 1.0), Scale(11.0, 2.0), ONE)
    found = joint_distance(of_kinds, None, scales)
    # tips 2 and 3, landmarks 0 and 3: (2 + 3) / 2 and (0 + 3) / 2 before damping
    assert found.tips_N == pytest.approx([log(3.5)])
    assert found.landmarks_N == pytest.approx([log(2.5)])


def test_without_a_hand_the_whole_picture_counts() -> None:
    scales = JointScales(ONE, ONE, ONE, ONE, Scale(5.0, 2.0))
    several = kinds(
        [[0.0, 0.0]] * 3 + [[-2.0, 9.0]], [[0.0, 0.0]] * 3 + [[-2.0, 9.0]], [0, 0, 0, 1]
    )
    found = joint_distance(several, np.array([5.0, 1.0, 11.0, 99.0]), scales)
    none = log(1 + NO_HAND)
    assert found.tips_N == pytest.approx([0, -2, log(4), -2])
    assert found.landmarks_N == pytest.approx([none] * 3 + [-2])
    assert found.total_N == pytest.approx([none / 2, none / 2 - 2, log(4) + none / 2, -3])


def test_without_a_hand_and_a_known_distance_of_the_picture() -> None:
    found = joint_distance(kinds([[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2, [0, 1]), None, PLAIN)
    assert found.total_N == pytest.approx([1.5 * log(1 + NO_HAND), 0])


def test_random_images_against_the_formula() -> None:
    rng = np.random.default_rng(0)
    tips, landmarks = rng.normal(0, 3, (50, 6)), rng.normal(0, 3, (50, 6))
    of_tips, of_landmarks = rng.normal(0, 3, (50, 6)), rng.normal(0, 3, (50, 6))
    found = joint_distance(
        KindDistances(tips, landmarks, of_tips, of_landmarks, np.ones(50, np.int64)),
        rng.normal(0, 1, 50),
        PLAIN,
    )
    pixels, others = (12 * tips + 5 * of_tips) / 17, (12 * landmarks + 5 * of_landmarks) / 17
    expected = [
        min(g(a) + 0.5 * g(b) for a, b in zip(a_K, b_K, strict=True))
        for a_K, b_K in zip(pixels, others, strict=True)
    ]
    assert found.total_N == pytest.approx(expected)
    assert found.total_N == pytest.approx(found.tips_N + 0.5 * found.landmarks_N)


def test_no_images() -> None:
    none = KindDistances.zeros(np.zeros(0, np.int64), 3)
    assert joint_distance(none, np.zeros(0), PLAIN).total_N.shape == (0,)

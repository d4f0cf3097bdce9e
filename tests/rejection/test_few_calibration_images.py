"""With few calibration images the rule does what it announces, and never answers everything.

A p-value of n images is never below 1/(n + 1): at 95 % coverage a threshold on p alone rejects
nothing with fewer than 19.
"""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.rejection.calibration_support import Support
from sign_ensemble.rejection.conformal import images_needed, level
from sign_ensemble.rejection.rule import Rule, accepts_score

OOD, KNN, UNCERTAINTY = "regional_mahalanobis", "knn_distance", "total_uncertainty"
DRAWS, NEW = 200, 100


@pytest.mark.parametrize(
    ("coverage", "share", "needed"),
    [(0.95, 0.0, 19), (0.95, 0.5, 39), (0.9, 0.0, 9), (0.99, 0.0, 99), (0.99, 0.5, 199),
     (0.95, 0.1, 199), (0.9, 0.1, 99)],
)  # fmt: skip
def test_images_needed(coverage: float, share: float, needed: int) -> None:
    enough, short = (Support(n, coverage, share) for n in (needed, needed - 1))
    assert enough.images_needed == short.images_needed == needed
    assert enough.is_enough
    assert not short.is_enough
    assert enough.coverage == pytest.approx(coverage)
    assert short.coverage < coverage


def test_levels_by_hand() -> None:
    assert level(0.05, 9) == 0.1  # 1 / 10
    assert level(0.05, 99) == 0.05
    assert images_needed(0.05) == 19
    few = Support(24, 0.95, 0.1)  # 0.045 is above 1/25, 0.005 is not
    assert few.levels == pytest.approx((0.045, 0.04))
    assert few.coverage == pytest.approx(0.915)
    assert few.words() == (
        "24 training images calibrate the rejection rule, and a target coverage of 0.95 needs 199: "
        "expect about 0.915 or more, since whatever is more unusual than all of them is rejected"
    )


def drawn_rule(n: int, coverage: float, share: float, rng: np.random.Generator) -> Rule:
    """Calibrated on n images, three of whose scores are related."""
    drawn = 0.6 * rng.normal(size=(n, 1)) + rng.normal(size=(n, 3))
    return Rule(
        target_coverage=coverage,
        uncertainty_share=share,
        calibration=dict(zip((OOD, KNN, UNCERTAINTY), drawn.T, strict=True)),
        groups_C=np.arange(n) % 2,
        single_C=drawn[:, 2],
        temperature=1.0,
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("coverage", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [10, 20, 30, 40, 60])
def test_coverage_is_as_announced_and_far_images_are_rejected(
    n: int, coverage: float, share: float
) -> None:
    rng = np.random.default_rng([n, int(1000 * coverage), int(10 * share)])
    accepted, far = [], []
    for _ in range(DRAWS):
        made = drawn_rule(n, coverage, share, rng)
        new = (0.6 * rng.normal(size=(NEW, 1)) + rng.normal(size=(NEW, 3))).T
        signs = dict(zip((OOD, KNN, UNCERTAINTY), new, strict=True))
        accepted.append(made.passes(made.p_of_tests(signs)).mean())
        photographs = {**signs, OOD: signs[OOD] + 50}
        far.append(made.passes(made.p_of_tests(photographs)).mean())
    announced, spread = made.support.coverage, np.std(accepted) / np.sqrt(DRAWS)
    # the statistic has steps, and both tests often reject the same image: a little more is kept
    assert announced - 3 * spread <= np.mean(accepted) <= announced + 0.07
    assert np.max(far) == 0


@pytest.mark.parametrize("n", [3, 10])
def test_one_score_alone_rejects_what_lies_beyond_all(n: int) -> None:
    calibration = np.arange(float(n))
    found = accepts_score(np.array([0.0, n - 1, n]), calibration, np.full(n, 1 / n), 0.95)
    assert found.tolist() == [True, True, False]


def test_copies_do_not_count_as_images() -> None:
    rng = np.random.default_rng(0)
    made = drawn_rule(30, 0.95, 0.0, rng)
    copied = Rule(**{**vars(made), "copies_C": np.arange(30) >= 10})
    assert (made.images, copied.images) == (30, 10)
    assert copied.support.levels == pytest.approx((1 / 11,))


def test_a_rejected_image_has_a_small_p_value_and_the_test_that_rejects_it_the_smallest() -> None:
    """24 images: levels 1/25 and .045; by uncertainty alone beyond all, by the OOD test in none."""
    made = drawn_rule(24, 0.95, 0.1, np.random.default_rng(1))
    middle = {name: np.array([np.median(scores)]) for name, scores in made.calibration.items()}
    unsure = {**middle, UNCERTAINTY: made.calibration[UNCERTAINTY].max() + np.ones(1)}
    p_Q1 = made.p_of_tests(unsure)
    assert p_Q1[1] == pytest.approx(1 / 25)
    assert not made.passes(p_Q1).any()
    combined_Q1 = made.over_shares(p_Q1)
    assert combined_Q1.argmin(0).tolist() == [1]
    assert combined_Q1.min() == pytest.approx(0.05)
    assert made.rejection_score(unsure) > made.rejection_score(middle)

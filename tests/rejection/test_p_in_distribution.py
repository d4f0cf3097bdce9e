"""P(in-distribution | statistic): values by hand, order, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.rejection.p_in_distribution import InDistribution, fit_in_distribution


def test_values_by_hand() -> None:
    """Signs at 0, 0, 2 and OOD images at 1, 3, prior one half; one of each is added.

    Signs weigh .5 · 3/4 / 3 = .125 each and the added one .125; OOD images .5 · 2/3 / 2 = 1/6 each,
    and the added one, below all, 1/6. Pooled: [OOD, 0, 0] = .25 / (.25 + 1/6) = .6;
    [1, 2] = .125 / (.125 + 1/6) = 3/7; [3, sign] = .125 / (.125 + 1/6) = 3/7, so the last two meet.
    """
    found = fit_in_distribution([np.array([0.0, 0, 2])], [np.array([1.0, 3])], 0.5)
    assert found.of(np.array([0.0])) == pytest.approx([0.6])
    assert found.of(np.array([1.0, 2, 3])) == pytest.approx(3 / 7)
    assert found.of(np.array([-9.0, 99])) == pytest.approx([0.6, 3 / 7])  # beyond, it stays
    assert found.of(np.array([0.5])) == pytest.approx([(0.6 + 3 / 7) / 2])  # between, a line


def test_every_signer_weighs_the_same() -> None:
    """Of one signer all nine signs are at 0, of another the single one at 1; an OOD image at 1.

    At 0: signs .5 · 10/11 / 2 = 5/22, the added OOD image .25; at 1: 5/22 and an OOD image's .25,
    with the added sign 1/22: .25 + 6/22. So 5/22 / (5/22 + .25) = 10/21 at 0, and
    6/22 / (6/22 + .25) = 12/23 at 1 would rise: both meet at (11/22) / (11/22 + .5) = .5.
    """
    found = fit_in_distribution([np.zeros(9), np.ones(1)], [np.ones(1)], 0.5)
    assert found.of(np.array([0.0, 1.0])) == pytest.approx(0.5)


@pytest.mark.parametrize("ood_prior", [0.1, 0.5, 0.9])
def test_it_is_the_share_of_signs_among_images_of_that_statistic(ood_prior: float) -> None:
    """Exponential statistics, of signs at rate 3 and of OOD images at rate 1, by Bayes' rule."""
    rng = np.random.default_rng(0)
    signs = [rng.exponential(1 / 3, 4000) for _ in range(3)]
    ood = [rng.exponential(1, 4000) for _ in range(3)]
    at = np.array([0.1, 0.5, 1.0])
    odds = (1 - ood_prior) / ood_prior * 3 * np.exp(-3 * at) / np.exp(-at)
    found = fit_in_distribution(signs, ood, ood_prior)
    assert found.of(at) == pytest.approx(odds / (1 + odds), abs=0.05)
    assert (np.diff(found.probabilities) <= 0).all()
    assert (np.diff(found.statistics) > 0).all()


def test_no_probability_is_0_or_1() -> None:
    found = fit_in_distribution([np.zeros(99)], [np.ones(49)], 0.5)
    highest, lowest = found.of(np.array([0.0, 1.0]))
    assert highest == pytest.approx(0.99 / (0.99 + 1 / 50))  # 50 OOD images, one of them here
    assert lowest == pytest.approx(0.01 / (0.01 + 0.98))
    equal = fit_in_distribution([np.full(5, 2.0)], [np.full(5, 2.0)], 0.5)  # ties tell nothing
    assert equal.of(np.array([0.0, 2.0, 4.0])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("signs", "ood", "ood_prior", "message"),
    [
        ([], [np.ones(1)], 0.5, "signs and OOD images are needed"),
        ([np.ones(1)], [], 0.5, "signs and OOD images are needed"),
        ([np.ones(1), np.ones(0)], [np.ones(1)], 0.5, "needed of every signer"),
        ([np.array([np.nan])], [np.ones(1)], 0.5, "must be finite"),
        ([np.ones(1)], [np.array([np.inf])], 0.5, "must be finite"),
        ([np.ones(1)], [np.ones(1)], 0.0, "is 0.0, not between 0 and 1"),
        ([np.ones(1)], [np.ones(1)], 1.0, "is 1.0, not between 0 and 1"),
    ],
)
def test_refused(
    signs: list[np.ndarray], ood: list[np.ndarray], ood_prior: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_in_distribution(signs, ood, ood_prior)


def test_a_statistic_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        InDistribution(0.5, np.array([0.0]), np.array([1.0])).of(np.array([np.nan]))

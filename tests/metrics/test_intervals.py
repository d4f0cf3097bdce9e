"""Bootstrap intervals: what is drawn, what comes out, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from sign_ensemble.metrics.figures import (
    accuracy,
    aurc,
    auroc,
    coverage,
    ece,
    fpr95,
    nll,
    selective_risk,
)
from sign_ensemble.metrics.intervals import Figure, draw_counts, with_interval


def _fresh() -> np.random.Generator:
    return np.random.default_rng(0)


N = 40
_PROBS = _fresh().dirichlet(np.ones(6), N)
_LABELS = _fresh().integers(0, 6, N)
_SCORES = _fresh().integers(0, 12, N)  # equal scores on purpose
_FAILURES = _fresh().random(N) < 0.5


def _known_and_ood() -> tuple[np.ndarray, np.ndarray]:
    rng = _fresh()
    return rng.normal(0, 1, 260).round(1), rng.normal(1.5, 1, 180).round(1)


def test_undefined_figure_has_neither_value_nor_interval() -> None:
    error = partial(selective_risk, [0, 0], [1, 0])
    assert with_interval(error, 2, seed=0) == Figure(None, None, None, 2)


def test_draws_without_the_figure_are_left_out() -> None:
    # a quarter of the draws holds no accepted image
    error = partial(selective_risk, [0, 1], [0, 1])
    assert with_interval(error, 2, seed=0) == Figure(1.0, 1.0, 1.0, 2)


def test_draws_count_n_images_each() -> None:
    counts = draw_counts(7, 400, 0)
    assert counts.shape == (400, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.2)


def test_two_samples_of_one_size_have_draws_of_their_own_that_repeat() -> None:
    first, second = draw_counts(7, 400, 0, 0), draw_counts(7, 400, 0, 1)
    assert (first != second).any(axis=1).mean() > 0.9
    assert (first != draw_counts(7, 400, 1, 0)).any(axis=1).mean() > 0.9
    draw_counts.cache_clear()
    assert np.array_equal(draw_counts(7, 400, 0, 0), first)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


@pytest.mark.parametrize("metric", [accuracy, nll])
def test_interval_contains_the_value_and_says_n(metric: Callable[..., Any]) -> None:
    figure = with_interval(partial(metric, _PROBS, _LABELS), N, seed=0)
    assert figure.value == metric(_PROBS, _LABELS)
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high
    assert figure.n == N
    assert list(figure.as_dict()) == ["value", "low", "high", "n"]


@pytest.mark.parametrize("metric", [auroc, fpr95])
def test_interval_of_two_samples(metric: Callable[..., Any]) -> None:
    known, ood = _known_and_ood()
    sizes = (len(known), len(ood))
    figure = with_interval(partial(metric, known, ood), sizes, seed=0)
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    assert 0 < figure.low < figure.value < figure.high < 1
    assert figure.n == sum(sizes)


def test_interval_of_a_share_is_the_binomial_one() -> None:
    accepted = np.repeat([1, 0], [300, 100])
    figure = with_interval(partial(coverage, accepted), 400, draws=4000, seed=0)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert figure.low == pytest.approx(0.75 - half, abs=0.005)
    assert figure.high == pytest.approx(0.75 + half, abs=0.005)


def test_centred_interval_holds_the_value_that_repeated_images_bias() -> None:
    """Perfectly calibrated answers of 300 images, 100 times: their calibration error is chance."""
    rng = np.random.default_rng(0)
    plain: list[Figure] = []
    centred: list[Figure] = []
    values: list[Any] = []
    for _ in range(100):
        confidence = rng.beta(5, 1, 300)
        error = partial(ece, confidence, (rng.random(300) < confidence).astype(int))
        plain.append(with_interval(error, 300, draws=200, seed=0))
        centred.append(with_interval(error, 300, draws=200, seed=0, centred=True))
        values.append(centred[-1].value)
    assert [f.value for f in plain] == values

    def holding(figures: list[Figure], at: list[Any]) -> float:
        return float(np.mean([f.low <= v <= f.high for f, v in zip(figures, at, strict=True)]))

    assert holding(plain, values) < 0.9
    assert holding(centred, values) == 1
    assert holding(centred, [np.mean(values)] * 100) >= 0.88


def test_centred_interval_of_a_small_value_ends_at_nothing() -> None:
    figure = with_interval(partial(ece, [1.0] * 9, [1] * 9), 9, seed=0, centred=True)
    assert figure == Figure(0.0, 0.0, 0.0, 9)
    nearly = with_interval(partial(ece, [1.0] * 99, [0] + [1] * 98), 99, seed=0, centred=True)
    assert nearly.low == 0 < (nearly.value or 0) < (nearly.high or 0)


def test_interval_repeats_with_its_seed() -> None:
    figures = [with_interval(partial(aurc, _SCORES, _FAILURES), N, seed=0) for _ in range(2)]
    assert figures[0] == figures[1]


def test_interval_of_one_image_and_without_draws() -> None:
    assert with_interval(partial(coverage, [1]), 1, seed=0) == Figure(1.0, 1.0, 1.0, 1)
    assert with_interval(partial(coverage, [1]), 1, draws=0, seed=0).low is None


@pytest.mark.parametrize(("n", "draws"), [(0, 10), ((3, 0), 10), ((), 10), (3, -1)])
def test_interval_refuses_no_images(n: Any, draws: int) -> None:
    with pytest.raises(ValueError, match=r"^with_interval: "):
        with_interval(partial(coverage, [1]), n, draws=draws, seed=0)

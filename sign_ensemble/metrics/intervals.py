"""A figure with its spread: the value, a 95 % bootstrap interval and the number of images.

A draw is given by how often each image was drawn, so that a metric sorts its images once for all
draws::

    with_interval(partial(aurc, scores, failures), len(scores), seed=0)
    with_interval(partial(auroc, known, ood), (len(known), len(ood)), seed=0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 2**18  # counts in a processor's cache together


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Args:
        value: On the images themselves; None where it is undefined (the risk of no accepted image).
        low: 2.5th percentile over the draws; None where no draw defines it.
        high: 97.5th percentile.
        n: Images: known plus OOD ones for a figure that compares the two.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """The four fields by name, for JSON."""
        return asdict(self)


@lru_cache(maxsize=4)
def draw_counts(n: int, draws: int, seed: int, sample: int = 0) -> NDArray[np.int16]:
    """How often each of n images is drawn in n draws with replacement, (draws, n).

    Figures of as many images share their draws; each ``sample`` has draws of its own.
    """
    rng = np.random.default_rng((seed, sample, n))
    drawn = rng.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n)
    kept = counts.astype(np.int16)  # one image is never drawn 32,768 times of its n
    kept.flags.writeable = False
    return kept


def with_interval(
    statistic: Callable[..., Any],
    n: int | tuple[int, ...],
    *,
    draws: int = 500,
    seed: int,
    centred: bool = False,
) -> Figure:
    """The statistic, with the percentile bootstrap's 95 % interval over images.

    Several samples (known and OOD images) are drawn from independently. The interval speaks of
    other images of the *same* signers. Draws in which the figure is undefined are left out.

    Args:
        statistic: Called without arguments for the value (None if undefined), then with an array of
            counts (draws, n) per sample for values (draws,), NaN where undefined: any metric of
            :mod:`~sign_ensemble.metrics.figures` with its images bound by ``functools.partial``.
        n: Number of images, or one number per sample.
        draws: 0 leaves the interval out; 500 give its ends a standard error of 3 % of its width.
        seed: Seeds them.
        centred: Shift the draws so that their mean is the value, and keep the ends at 0 or above:
            for a figure that repeated images bias, such as the calibration error, whose plain
            interval may lie above the value.

    Raises:
        ValueError: A sample has no images, or the number of draws is negative.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    sizes = (n,) if isinstance(n, int) else n
    if min(sizes, default=0) < 1 or draws < 0:
        raise ValueError(f"with_interval: n must be at least 1 and draws at least 0: {n}, {draws}")
    value = statistic()
    if value is None or draws == 0:
        return Figure(None if value is None else float(value), None, None, sum(sizes))
    counts = [draw_counts(size, draws, seed, sample) for sample, size in enumerate(sizes)]
    rows = max(1, AT_ONCE // max(sizes))
    values = np.concatenate(
        [statistic(*(each[i : i + rows] for each in counts)) for i in range(0, draws, rows)]
    )
    defined = values[~np.isnan(values)]
    if defined.size == 0:
        return Figure(float(value), None, None, sum(sizes))
    low, high = np.percentile(defined, (2.5, 97.5))
    if centred:
        low, high = np.maximum(np.array([low, high]) + value - defined.mean(), 0.0)
    return Figure(float(value), float(low), float(high), sum(sizes))

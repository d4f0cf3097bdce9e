"""A figure with its spread: the value, a 95 % bootstrap interval and the number of images.

Letters: N images, B bootstrap draws.

A draw is not a list of images but how often each one was drawn, so a metric sorts its images once
for all draws::

    with_interval(partial(aurc, scores, failures), len(scores), seed=0)
    with_interval(partial(auroc, known, strange), (len(known), len(strange)), seed=0)

Figures of as many images share their draws.
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
    """One measured figure."""

    # on the images themselves; None where the figure is undefined (the error among the accepted
    # when nothing is accepted)
    value: float | None
    # 2.5th percentile over the draws; None with the value, or without draws that define it
    low: float | None
    high: float | None  # 97.5th percentile
    n: int  # images it rests on; known plus strange ones for a figure that compares the two

    def as_dict(self) -> dict[str, Any]:
        """The four fields by name, for JSON."""
        return asdict(self)


@lru_cache(maxsize=4)
def draw_counts(n: int, draws: int, seed: int, sample: int = 0) -> NDArray[np.int16]:
    """How often each of n images is drawn in n draws with replacement, (B, N); rows sum to n.

    Kept, since an evaluation asks for the same ones a hundred times; two samples draw apart.
    """
    rng = np.random.default_rng((seed, sample, n))
    drawn_BN = rng.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    counts_BN = np.bincount(drawn_BN.ravel(), minlength=draws * n).reshape(draws, n)
    kept_BN = counts_BN.astype(np.int16)  # one image is never drawn 32,768 times of its n
    kept_BN.flags.writeable = False
    return kept_BN


def with_interval(
    statistic: Callable[..., Any],
    n: int | tuple[int, ...],
    *,
    draws: int = 500,
    seed: int,
    centred: bool = False,
) -> Figure:
    """The statistic of the images, with the percentile bootstrap's 95 % interval over images.

    Known and strange images are two samples, each drawn from on its own. The interval speaks of
    other images of the *same* signers; how another signer would fare, only signers can tell. Draws
    in which the figure is undefined are left out.

    Args:
        statistic: Called with nothing for the value (None if undefined), then with one (B, N) array
            of counts per sample for (B,) values (NaN where undefined). Every metric of
            :mod:`~sign_ensemble.metrics.figures` is one, once ``functools.partial`` holds its
            images.
        n: Number of images, or one number per sample.
        draws: B; 0 leaves the interval out. 500 leaves the ends a standard error of about
            3 % of the interval's width.
        seed: Seeds them.
        centred: Shift the draws so that their mean is the value, and keep the ends at 0 or above.
            For a figure that repeated images bias, as they raise the calibration error: its plain
            interval may lie above the value. The figure's own bias, of being of a few images,
            stays in both.

    Raises:
        ValueError: For a sample without images or a negative number of draws.

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
    values_B = np.concatenate(
        [statistic(*(each[i : i + rows] for each in counts)) for i in range(0, draws, rows)]
    )
    defined = values_B[~np.isnan(values_B)]
    if defined.size == 0:
        return Figure(float(value), None, None, sum(sizes))
    low, high = np.percentile(defined, (2.5, 97.5))
    if centred:
        low, high = np.maximum(np.array([low, high]) + value - defined.mean(), 0.0)
    return Figure(float(value), float(low), float(high), sum(sizes))

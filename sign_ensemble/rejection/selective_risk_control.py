"""Selective risk control: at most so many errors among the accepted images, by learn then test.

The rule asks whether an image shows a sign at all. This asks whether the sign is read rightly: only
images whose total uncertainty is low enough are accepted.

Sources: Angelopoulos et al. 2021, arXiv 2110.01052; Geifman and El-Yaniv 2017, arXiv 1705.08500.

Letters: C calibration images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

SHARES = 20  # thresholds tried: they accept 1/20 to all of the calibration images
CONFIDENCE = 0.9  # of the statement; the remaining .1 is shared by all thresholds


@dataclass(frozen=True)
class RiskControl:
    """What was asked for, and the threshold that the calibration images support."""

    max_error: float  # largest selective risk (share of errors among the accepted)
    # highest total uncertainty that is accepted, nats; infinite where none is supported
    threshold: float = inf
    images: int = 0  # calibration images
    accepted: int = 0  # how many of them are accepted; 0 where no threshold is supported
    wrong: int = 0  # how many of those are read wrongly

    @property
    def is_supported(self) -> bool:
        """Whether a threshold was found."""
        return self.accepted > 0

    def words(self) -> str:
        """One sentence for people."""
        if self.is_supported:
            return (
                f"selective risk at most {self.max_error:.1%}, with {CONFIDENCE:.0%} confidence, "
                f"for images like the {self.images} calibration images: {self.accepted} of them "
                f"are accepted, {self.wrong} of these read wrongly"
            )
        return (
            f"rejection.max_error {self.max_error:g} cannot be guaranteed: no threshold on "
            f"{self.images} calibration images has few enough errors; the rule goes without it"
        )

    def as_dict(self) -> dict[str, Any]:
        """For rule.json."""
        return {**vars(self), "threshold": self.threshold if self.is_supported else None}


def risk_control_of(values: dict[str, Any] | None) -> RiskControl | None:
    """Undo :meth:`RiskControl.as_dict`."""
    if values is None:
        return None
    threshold = inf if values["threshold"] is None else values["threshold"]
    return RiskControl(**{**values, "threshold": threshold})


def learn_then_test(
    uncertainty_C: NDArray[np.float64], wrong_C: NDArray[np.bool_], max_error: float
) -> RiskControl:
    """The highest threshold whose selective risk is at most ``max_error``.

    For each of SHARES thresholds, "the risk exceeds max_error" is tested by the exact binomial tail
    P(Bin(n, max_error) ≤ errors) at level (1 − CONFIDENCE) / SHARES (Bonferroni); the highest
    threshold whose hypothesis is rejected is taken. The statement is about images that come as the
    calibration images did, not about one whole new signer. ``max_error`` lies between 0 and 1.

    Raises:
        ValueError: there is no image, or an uncertainty is not a finite number.
    """
    if not len(uncertainty_C):
        raise ValueError("learn_then_test: no calibration images")
    if not np.isfinite(uncertainty_C).all():
        raise ValueError("learn_then_test: uncertainties must be finite")
    count = len(uncertainty_C)
    values_C = np.sort(uncertainty_C)
    for share in range(SHARES, 0, -1):
        threshold = float(values_C[max(int(share * count / SHARES), 1) - 1])
        accepted_C = uncertainty_C <= threshold  # ties are accepted too
        n, errors = int(accepted_C.sum()), int(wrong_C[accepted_C].sum())
        if bdtr(errors, n, max_error) <= (1 - CONFIDENCE) / SHARES:
            return RiskControl(max_error, threshold, count, n, errors)
    return RiskControl(max_error, images=count)

"""At most so many errors among what is answered: learn, then test.

The rule of ``rejection.py`` asks whether an image is a sign at all. This one asks whether the sign
is read rightly: answered is only what the ensemble is sure enough of.

Letters: C calibration images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

SHARES = 20  # of the calibration images, from the surest twentieth to all, are tried
CONFIDENCE = 0.9  # that the promise holds; what is left is shared by all that is tried


@dataclass(frozen=True)
class RiskControl:
    """What was asked for, and what the calibration images bear out.

    Args:
        max_error: Share of errors among the answered, at most.
        sure: Highest total uncertainty that is answered, nats; infinite where nothing was asked for
            or nothing can be promised.
        images: Calibration images, of people the models had not seen.
        answered: How many of them are answered at ``sure``; 0 if nothing can be promised.
        wrong: How many of those are read wrongly.
    """

    max_error: float
    sure: float = inf
    images: int = 0
    answered: int = 0
    wrong: int = 0

    @property
    def kept(self) -> bool:
        """Whether the promise can be made."""
        return self.answered > 0

    def words(self) -> str:
        """For people."""
        if self.kept:
            return (
                f"at most {self.max_error:.1%} errors among the answered, with {CONFIDENCE:.0%} "
                f"confidence for images like the {self.images} it was calibrated on, of which "
                f"{self.answered} would be answered and {self.wrong} of these wrongly"
            )
        return (
            f"rejection.max_error {self.max_error:g} cannot be promised: among {self.images} "
            "calibration images no share of the surest is large enough and has few enough errors; "
            "the rule goes without it"
        )

    def as_dict(self) -> dict[str, Any]:
        """As rule.json holds it."""
        return {**vars(self), "sure": self.sure if self.kept else None}


def risk_control_of(values: dict[str, Any] | None) -> RiskControl | None:
    """Undo :meth:`Promise.as_dict`."""
    if values is None:
        return None
    return RiskControl(**{**values, "sure": np.inf if values["sure"] is None else values["sure"]})


def learn_then_test(
    uncertainty_C: NDArray[np.float64], wrong_C: NDArray[np.bool_], max_error: float
) -> RiskControl:
    """The largest share of calibration images that can be answered with few enough errors.

    For each of SHARES shares of the surest images the hypothesis "the error among them is above
    max_error" is tested by the exact binomial tail, P(Bin(n, max_error) ≤ errors), at
    (1 − CONFIDENCE) / SHARES (Bonferroni); the largest share whose hypothesis falls is taken. So
    the error among images answered exceeds max_error with a chance of at most 1 − CONFIDENCE, for
    images that come as the calibration images did; of one whole new person it does not speak.
    Angelopoulos et al. 2021, arXiv 2110.01052; Geifman and El-Yaniv 2017, arXiv 1705.08500.

    Args:
        uncertainty_C: What is thresholded, lower = surer.
        wrong_C: Whether the image was read wrongly.
        max_error: 0 to 1, exclusive.

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
        highest = float(values_C[max(int(share * count / SHARES), 1) - 1])
        answered_C = uncertainty_C <= highest  # ties come along
        n, errors = int(answered_C.sum()), int(wrong_C[answered_C].sum())
        if bdtr(errors, n, max_error) <= (1 - CONFIDENCE) / SHARES:
            return RiskControl(max_error, highest, count, n, errors)
    return RiskControl(max_error, images=count)

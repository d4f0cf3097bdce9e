"""How strongly an image moves the frozen network: weakly, if there is nothing of what it knows.

Late features shrink far from what a network was trained on (Kang et al. 2024, ICLR).

Letters: N images asked about, B training images, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.bf16_products import to_float32

Floats = NDArray[np.float64]


def sums(features_ND: NDArray[np.float16]) -> Floats:
    """Σ_d |f_d|, the L1 norm of each image's features.

    Raises:
        ValueError: a feature is not a finite number.
    """
    found: Floats = to_float32(features_ND).abs_().sum(1).double().numpy()
    if not np.isfinite(found).all():
        raise ValueError("norms: features must be finite")
    return found


@dataclass(frozen=True)
class Norms:
    """What is usual among training images.

    Args:
        mean: Mean of their norms.
        spread: Standard deviation, above 0.
    """

    mean: float
    spread: float

    @classmethod
    def of(cls, bank_BD: NDArray[np.float16]) -> Norms:
        """From their features.

        Raises:
            ValueError: there is no image, or a feature is not a finite number.
        """
        if not len(bank_BD):
            raise ValueError("norms: no training images")
        found = sums(bank_BD)
        return cls(float(found.mean()), max(float(found.std()), 1e-9))

    def of_images(self, features_ND: NDArray[np.float16]) -> Floats:
        """(norm − mean) / spread of each image; unbounded above."""
        return (sums(features_ND) - self.mean) / self.spread

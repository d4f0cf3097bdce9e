"""Casts of features: to float32, and to bf16 for matrix products where the hardware has it.

Letters: N images, D features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.device import bf16_is_fast


def to_float32(features_ND: NDArray[np.float16]) -> torch.Tensor:
    """A copy of features (N, D) as float32."""
    writable_ND = np.require(features_ND, requirements="W")  # else torch warns
    return torch.from_numpy(writable_ND).to(torch.float32, copy=True)  # callers write into it


def bf16_if_fast(x: torch.Tensor) -> torch.Tensor:
    """A float32 factor of a matrix product, cast to bf16 where the hardware multiplies bf16.

    The product is bf16 too, accumulated in float32. Rounding errors are up to 1/256, so factors
    should be centred. (``torch.set_float32_matmul_precision`` would hold for the whole process.)
    """
    return x.bfloat16() if bf16_is_fast(x.device) else x

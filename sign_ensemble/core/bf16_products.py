"""Features as float32, and the factors of products that are as quick as the processor can."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.device import bf16_is_fast


def to_float32(features_ND: NDArray[np.float16]) -> torch.Tensor:
    """Features (N, D), also some columns of more, as float32: a copy."""
    own_ND = np.require(features_ND, requirements="W")  # or torch warns
    return torch.from_numpy(own_ND).to(torch.float32, copy=True)  # callers write into it


def bf16_if_fast(x: torch.Tensor) -> torch.Tensor:
    """float32 as a factor of a product: rounded to bf16 where that is multiplied in hardware, which
    rounds the product too (sums within it are float32); elsewhere as it is.

    Rounding is by up to 1 / 256 of a number, so what is multiplied should be differences from a
    mean, not numbers that are alike. Torch has a switch that rounds the factors of all float32
    products and nothing else; but it is the whole process's, also for threads beside this one, and
    does nothing on processors without a matrix unit (AMD's).
    """
    return x.bfloat16() if bf16_is_fast(x.device) else x

"""Features as float32, and products of them that may round their factors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.data.device import CPU, bf16_is_fast


def floats(features_ND: NDArray[np.float16]) -> torch.Tensor:
    """Features (N, D), also some columns of more, as float32: a copy."""
    own_ND = np.require(features_ND, requirements="W")  # or torch warns
    return torch.from_numpy(own_ND).to(torch.float32, copy=True)  # callers write into it


@contextmanager
def rounded_factors() -> Iterator[None]:
    """Inside, a processor that multiplies bf16 in hardware rounds the factors of float32 products
    to it; sums stay float32. Elsewhere nothing changes.

    Several times as fast. What convolutions gave on such a processor is bf16 already, so that a
    product of two images' features is as it was.
    """
    matmul = cast(Any, torch.backends.mkldnn).matmul
    before = matmul.fp32_precision
    if bf16_is_fast(CPU):
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before

"""Products of float32 matrices that may round their factors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch

from sign_ensemble.data.device import CPU, bf16_is_fast


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

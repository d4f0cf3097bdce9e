"""Constants of the exported graph."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

FLOAT16_MAX = 65504


def stored(values: torch.Tensor | NDArray[Any]) -> nn.Buffer:
    """A constant in half the space where float16 holds the same numbers, else in float32; its user
    casts it to float32. The shipped convolutions and the reference set are float16 from the start.
    """
    tensor = torch.as_tensor(values).detach().cpu().float().contiguous()
    half = tensor.half()
    return nn.Buffer(half if torch.equal(half.float(), tensor) else tensor)


def exactly(values: torch.Tensor | NDArray[Any]) -> nn.Buffer:
    """A constant of the type that it has (float64, int64)."""
    return nn.Buffer(torch.as_tensor(values).detach().cpu().contiguous())


def rounded(features: torch.Tensor) -> torch.Tensor:
    """Features as they are kept elsewhere, in float16, and back to float32."""
    return features.clamp(max=FLOAT16_MAX).half().float()

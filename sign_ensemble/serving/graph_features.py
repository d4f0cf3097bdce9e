"""Crops and landmarks → features, as modules that are exported.

The same as ``data/backbone.py``, ``data/convolutions.py``, ``hands/landmark_features.py`` and the
fingertips' places of ``data/hand_views.py`` compute; a test holds both equal.

Letters: N images, H and W rows and columns, F feature maps (channels), D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import conv2d

from sign_ensemble.data.backbone import normalised
from sign_ensemble.data.convolutions import (
    FOURTH,
    GRID_SIDE,
    LAYERS,
    THIRD,
    Convolutions,
    at_places,
)
from sign_ensemble.data.hand_views import FINGERTIPS
from sign_ensemble.hands.hand_crop import MARGIN
from sign_ensemble.hands.hand_region import POINTS
from sign_ensemble.hands.landmark_features import KNUCKLES, TINY
from sign_ensemble.serving.graph_weights import rounded, stored

FIFTH_SIDE = 6  # of the fifth layer's maps after pooling
LARGEST_FEATURE = 100.0  # of the landmarks


@dataclass(frozen=True)
class PixelFeatures:
    """Features of N crops, rounded to float16, as float32."""

    fifth_ND: torch.Tensor
    third_ND: torch.Tensor
    fourth_ND: torch.Tensor
    tips_third_ND: torch.Tensor | None = None  # at the fingertips; None where hands are not used
    tips_fourth_ND: torch.Tensor | None = None

    @property
    def head_ND(self) -> torch.Tensor:
        """The input of heads."""
        return torch.cat([self.fifth_ND, self.third_ND], 1)


class StoredConvolution(nn.Module):
    """A convolution whose weights may be stored as float16."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        assert layer.bias is not None
        self.weight, self.bias = stored(layer.weight), stored(layer.bias)
        self.stride, self.padding = layer.stride[0], int(layer.padding[0])

    def forward(self, maps_NFHW: torch.Tensor) -> torch.Tensor:
        """The convolved maps."""
        weight, bias = self.weight.float(), self.bias.float()
        return conv2d(maps_NFHW, weight, bias, self.stride, self.padding)


class GraphConvolutions(nn.Module):
    """AlexNet's five layers on uint8 crops."""

    def __init__(self, layers: Convolutions) -> None:
        super().__init__()
        each = [
            StoredConvolution(layer) if isinstance(layer, nn.Conv2d) else layer
            for layer in layers.features
        ]
        self.to_third = nn.Sequential(*each[:THIRD])
        self.to_fourth = nn.Sequential(*each[THIRD:FOURTH])
        self.to_fifth = nn.Sequential(*each[FOURTH:LAYERS])

    def forward(
        self, crops_NHW3: torch.Tensor, places_N52: torch.Tensor | None = None
    ) -> PixelFeatures:
        """Features of crops; without a place, those at the fingertips are None."""
        third_NFHW = self.to_third(normalised(crops_NHW3.float().permute(0, 3, 1, 2)))
        fourth_NFHW = self.to_fourth(third_NFHW)
        fifth_NFHW = adaptive(self.to_fifth(fourth_NFHW), FIFTH_SIDE, torch.mean)
        tips: list[torch.Tensor] = []
        if places_N52 is not None:
            tips = [rounded(at_places(maps, places_N52)) for maps in (third_NFHW, fourth_NFHW)]
        return PixelFeatures(
            rounded(fifth_NFHW.flatten(1)),
            rounded(adaptive(third_NFHW, GRID_SIDE, torch.amax).flatten(1)),
            rounded(adaptive(fourth_NFHW, GRID_SIDE, torch.amax).flatten(1)),
            *tips,
        )


def adaptive(maps_NFHW: torch.Tensor, side: int, pool: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Adaptive pooling to side × side with windows of torch's, which are known beforehand: rows
    first, then columns; ``pool`` is the mean or the maximum.
    """
    for axis in (2, 3):
        length = maps_NFHW.shape[axis]
        if length == side:
            continue
        windows = [(i * length // side, -(-(i + 1) * length // side)) for i in range(side)]
        parts = [pool(maps_NFHW.narrow(axis, a, b - a), dim=axis) for a, b in windows]
        maps_NFHW = torch.stack(parts, axis)
    return maps_NFHW


def scaled(points_N21x: torch.Tensor) -> torch.Tensor:
    """Points less the wrist, over the mean distance of the knuckles from it."""
    from_wrist = points_N21x - points_N21x[:, :1]
    size_N = from_wrist[:, list(KNUCKLES)].norm(dim=-1).mean(1)
    return from_wrist / size_N.clamp(min=TINY)[:, None, None]


def landmark_features(
    points_N42: torch.Tensor,
    world_N63: torch.Tensor,
    mirrored_N: torch.Tensor,
    found_N: torch.Tensor,
) -> torch.Tensor:
    """Features of the landmarks (N, D), rounded to float16; zeros without a hand."""
    image = mirrored(scaled(points_N42.unflatten(1, (POINTS, 2))), mirrored_N)
    world = mirrored(scaled(world_N63.unflatten(1, (POINTS, 3))), mirrored_N)
    first, second = (torch.from_numpy(each) for each in np.triu_indices(POINTS, 1))
    between = (world[:, first] - world[:, second]).norm(dim=-1)
    features_ND = torch.cat([image[:, 1:].flatten(1), world[:, 1:].flatten(1), between], 1)
    features_ND = rounded(features_ND.clamp(-LARGEST_FEATURE, LARGEST_FEATURE))
    return torch.where(found_N[:, None], features_ND, 0.0)


def mirrored(values: torch.Tensor, mirrored_N: torch.Tensor) -> torch.Tensor:
    """Points (N, ., 2 or 3) whose x changes its sign where the crop is mirrored."""
    sign_N11 = torch.where(mirrored_N, -1.0, 1.0)[:, None, None]
    return torch.cat([values[..., :1] * sign_N11, values[..., 1:]], -1)


def places(
    points_N42: torch.Tensor, mirrored_N: torch.Tensor, found_N: torch.Tensor
) -> torch.Tensor:
    """Places (N, 5, 2) of the fingertips over the crop, −1 to 1; zeros without a hand."""
    points = points_N42.unflatten(1, (POINTS, 2))
    low, high = points.amin(1), points.amax(1)
    middle = ((low + high) / 2).double()
    size_N = (high - low).amax(1).clamp(min=1.0).double()
    tips = points[:, list(FINGERTIPS)].double() - middle[:, None]
    places_N52 = (tips * 2 / (size_N * (1 + 2 * MARGIN))[:, None, None]).float()
    return torch.where(found_N[:, None, None], mirrored(places_N52, mirrored_N), 0.0)

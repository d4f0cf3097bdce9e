"""AlexNet's five convolution layers as torch modules.

Letters: N images, H and W rows and columns, D features of the fifth layer, E those and the third layer's,
A all; C channels, H and W rows and columns within the layers.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import adaptive_max_pool2d

THIRD, FOURTH, LAYERS = 8, 10, 13  # layers up to the third's ReLU, to the fourth's, and all
PLACES = 3  # along a side of the third and the fourth: the highest value in each is kept


def pooled(found_NCHW: torch.Tensor) -> torch.Tensor:
    """What a ReLU and MaxPool2d(3, 2) make of a convolution's values, to the same bits, without
    gradients.

    In bf16 torch's take three times as long on a processor: its pool also notes where each highest
    value lies, and compares in float32. As integers, the bits of numbers from 0 on are in these
    numbers' order and those of numbers below 0 are below them. So they are compared as integers,
    of rows and then of columns; the ReLU follows, of a quarter of the values.

    Args:
        found_NCHW: No NaN whose sign is minus; quick where channels lie last in memory.
    """
    whole = torch.int16 if found_NCHW.dtype.itemsize == 2 else torch.int32
    bits_NHWC = found_NCHW.permute(0, 2, 3, 1).view(whole)
    highest_NHWC = highest(highest(bits_NHWC, 1), 2).view(found_NCHW.dtype)
    return highest_NHWC.relu_().permute(0, 3, 1, 2)


def highest(bits: torch.Tensor, axis: int) -> torch.Tensor:
    """The highest of places 0 to 2, of 2 to 4 and so on along an axis."""
    end = 2 * ((bits.shape[axis] - 1) // 2) - 1
    before = [slice(None)] * axis
    first, second, third = (bits[(*before, slice(i, i + end, 2))] for i in range(3))
    found = torch.maximum(first, second)
    return torch.maximum(found, third, out=found)


class Convolutions(nn.Module):
    """The layers ``features`` and ``avgpool`` of torchvision's AlexNet, under the same names.

    Built here so that processes which need them do not wait four seconds for torchvision's import;
    a test holds them equal to torchvision's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)

    def forward(self, images_N3HW: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) to features (N, E).

        The first 9,216 are what torchvision's classifier is given; after them, of the third layer
        (384 maps), the highest value in each of 3 x 3 places: 3,456.
        """
        return self.every(images_N3HW, beside=False)

    def through(self, first: int, end: int, images_N3HW: torch.Tensor) -> torch.Tensor:
        """What some of the layers make of what those before them gave."""
        if torch.is_grad_enabled() or images_N3HW.device.type != "cpu":
            found: torch.Tensor = self.features[first:end](images_N3HW)
            return found
        layers = list(self.features.children())[first:end]
        for layer, then in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(then, nn.MaxPool2d):
                continue  # a ReLU, which ``pooled`` does
            pools = isinstance(layer, nn.MaxPool2d)
            images_N3HW = pooled(images_N3HW) if pools else layer(images_N3HW)
        return images_N3HW

    def every(self, images_N3HW: torch.Tensor, beside: bool = True) -> torch.Tensor:
        """The features (N, E) and, beside them, the highest value in each of 3 x 3 places of the
        fourth layer's 256 maps: (N, A). Heads do not read those.
        """
        third = self.through(0, THIRD, images_N3HW)
        third_ND = adaptive_max_pool2d(third, PLACES).flatten(1)
        fourth = self.through(THIRD, FOURTH, third)
        fifth_ND = self.avgpool(self.through(FOURTH, LAYERS, fourth)).flatten(1)
        each = [fifth_ND, third_ND]
        if beside:
            each.append(adaptive_max_pool2d(fourth, PLACES).flatten(1))
        return torch.cat(each, 1)

"""AlexNet's five convolution layers as torch modules.

Letters: N images, H and W rows and columns, F feature maps (channels), D features.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import adaptive_max_pool2d, grid_sample

THIRD, FOURTH, LAYERS = 8, 10, 13  # layers up to the third's ReLU, to the fourth's, and all
GRID_SIDE = 3  # regions along a side that the third and fourth layer are max-pooled to


def pooled(found_NFHW: torch.Tensor) -> torch.Tensor:
    """MaxPool2d(3, 2) and ReLU of a convolution's output, to the same bits, without gradients.

    Compares numbers as integers, whose order is that of non-negative floats, rows first, then
    columns: in bf16 on a CPU, channels last, faster than torch's pooling; see docs/design-log.md.
    There must be no NaN of negative sign.
    """
    integer = torch.int16 if found_NFHW.dtype.itemsize == 2 else torch.int32
    bits_NHWF = found_NFHW.permute(0, 2, 3, 1).view(integer)
    highest_NHWF = highest(highest(bits_NHWF, 1), 2).view(found_NFHW.dtype)
    return highest_NHWF.relu_().permute(0, 3, 1, 2)


def highest(bits: torch.Tensor, axis: int) -> torch.Tensor:
    """Maximum of entries 0 to 2, 2 to 4 and so on along an axis."""
    end = 2 * ((bits.shape[axis] - 1) // 2) - 1
    before = [slice(None)] * axis
    first, second, third = (bits[(*before, slice(i, i + end, 2))] for i in range(3))
    found = torch.maximum(first, second)
    return torch.maximum(found, third, out=found)


def at_places(maps_NFHW: torch.Tensor, places_N52: torch.Tensor) -> torch.Tensor:
    """Values of the maps at five places, bilinear, map by map: (N, 5 F)."""
    grid = places_N52[:, :, None].to(maps_NFHW.device)
    found = grid_sample(maps_NFHW.float(), grid, padding_mode="border", align_corners=False)
    return found[..., 0].flatten(1).to(maps_NFHW.dtype)


class Convolutions(nn.Module):
    """The layers ``features`` and ``avgpool`` of torchvision's AlexNet, under the same names.

    Defined here because importing torchvision takes seconds; a test holds both equal.
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
        """Features that heads read, (N, D), of normalised images: torchvision's 9,216 of the fifth
        layer, then the highest value in each of 3 x 3 regions of the third layer's 384 maps.
        """
        return self.every(images_N3HW, fourth=False)

    def through(self, first: int, end: int, values_NFHW: torch.Tensor) -> torch.Tensor:
        """Output of layers ``first`` to ``end`` - 1."""
        if torch.is_grad_enabled() or values_NFHW.device.type != "cpu":
            return self.features[first:end](values_NFHW)
        layers = list(self.features.children())[first:end]
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(following, nn.MaxPool2d):
                continue  # a ReLU, which ``pooled`` includes
            pools = isinstance(layer, nn.MaxPool2d)
            values_NFHW = pooled(values_NFHW) if pools else layer(values_NFHW)
        return values_NFHW

    def every(
        self,
        images_N3HW: torch.Tensor,
        fourth: bool = True,
        places_N52: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """:meth:`forward`'s features and, if ``fourth``, the highest value in each of 3 x 3 regions
        of the fourth layer's 256 maps; then, of each of 5 places, the values of the third layer's
        and the fourth layer's maps there, (N, D).

        Places are x and y from -1 to 1 over the image.
        """
        third_NFHW = self.through(0, THIRD, images_N3HW)
        third_ND = adaptive_max_pool2d(third_NFHW, GRID_SIDE).flatten(1)
        fourth_NFHW = self.through(THIRD, FOURTH, third_NFHW)
        fifth_ND = self.avgpool(self.through(FOURTH, LAYERS, fourth_NFHW)).flatten(1)
        if not fourth:
            return torch.cat([fifth_ND, third_ND], 1)
        fourth_ND = adaptive_max_pool2d(fourth_NFHW, GRID_SIDE).flatten(1)
        parts = [fifth_ND, third_ND, fourth_ND]
        if places_N52 is not None:
            parts += [at_places(third_NFHW, places_N52), at_places(fourth_NFHW, places_N52)]
        return torch.cat(parts, 1)

"""Which pixels of a surface are looked at, and what the others get from them.

Letters: B scenes, N pixels, n of them looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SQUARE_MM = 1.6  # light is looked at once in a square of pixels this wide
FALL_MM = 2.4  # a surface that falls by more within three pixels is looked at everywhere


@dataclass(frozen=True)
class Sparse:
    """Where light is looked for: light changes slowly, and looking for it is dear.

    One pixel of each small square stands for its square, but where the surface falls away every
    pixel stands for itself, so that no light leaks from one finger to the one behind.

    Args:
        chosen_n: Numbers of the pixels that are looked at.
        place_N: For each pixel, the place in ``chosen_n`` of the one that stands for it.
        smooth_N: The pixels that another may stand for.
        rows_N: Pixel row, from the first one.
        columns_N: Pixel column, from the first one.
    """

    chosen_n: Tensor
    place_N: Tensor
    smooth_N: Tensor
    rows_N: Tensor
    columns_N: Tensor

    @classmethod
    def of(cls, rows_N: Tensor, columns_N: Tensor, z_BN: Tensor, pixel_mm: float) -> Sparse:
        """Pixels this wide that see surfaces at these depths."""
        device = rows_N.device
        rows_N, columns_N = rows_N - rows_N.min(), columns_N - columns_N.min()
        height, width = int(rows_N.max()) + 1, int(columns_N.max()) + 1
        numbers = torch.arange(len(rows_N), device=device)
        side = round(SQUARE_MM / pixel_mm)
        if side < 2:
            all_smooth = torch.ones_like(rows_N, dtype=torch.bool)
            return cls(numbers, numbers, all_smooth, rows_N, columns_N)
        depth = torch.full((2, len(z_BN), height, width), -1e4, device=device)
        depth[:, :, rows_N, columns_N] = torch.stack([z_BN, -z_BN])
        most, least = torch.nn.functional.max_pool2d(depth, 3, 1, 1)[:, :, rows_N, columns_N]
        fall_N = (most + least).amax(0)
        square_N = (rows_N // side) * (width // side + 1) + columns_N // side
        squares = int(square_N.max()) + 1
        fall = torch.zeros(squares, device=device).scatter_reduce(0, square_N, fall_N, "amax")
        smooth_N = (fall < FALL_MM)[square_N]
        first = torch.full((squares,), len(numbers), device=device)
        first = first.scatter_reduce(0, square_N, numbers, "amin")
        by_N = torch.where(smooth_N, first[square_N], numbers)
        chosen_n = (by_N == numbers).nonzero()[:, 0]
        place = torch.zeros_like(numbers)
        place[chosen_n] = torch.arange(len(chosen_n), device=device)
        return cls(chosen_n, place[by_N], smooth_N, rows_N, columns_N)

    def spread(self, values_Bn: Tensor) -> Tensor:
        """Values of all pixels (B, N); where one stands for others, blurred over three by three."""
        values_BN = values_Bn[:, self.place_N]
        if len(self.chosen_n) == len(self.rows_N):
            return values_BN
        size = (int(self.rows_N.max()) + 1, int(self.columns_N.max()) + 1)
        image = torch.zeros(len(values_BN) + 1, *size, device=values_BN.device)
        rows, columns = self.rows_N[self.smooth_N], self.columns_N[self.smooth_N]
        image[:-1, rows, columns] = values_BN[:, self.smooth_N]
        image[-1, rows, columns] = 1.0
        blurred = torch.nn.functional.avg_pool2d(image[None], 3, 1, 1)[0][:, rows, columns]
        values_BN[:, self.smooth_N] = blurred[:-1] / blurred[-1]
        return values_BN

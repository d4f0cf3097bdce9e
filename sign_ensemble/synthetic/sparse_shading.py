"""Which pixels of a surface are shaded, and how the others get their light from them.

Letters: B scenes of a batch, X pixels, x of them shaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE_MM = 1.6  # one pixel of a tile this wide is shaded
SMOOTH_MM = 2.4  # where depth changes by more within three pixels, every pixel is shaded


@dataclass(frozen=True)
class SparseShading:
    """Pixels that are shaded: light changes slowly, and computing it is expensive.

    One pixel of each small tile stands for its tile, but where depth is not smooth every pixel
    stands for itself, so that no light leaks from one finger to the one behind.
    """

    chosen_x: Tensor  # numbers of the shaded pixels
    place_X: Tensor  # for each pixel, the index in ``chosen_x`` of the one that stands for it
    smooth_X: Tensor  # the pixels that another may stand for
    rows_X: Tensor  # pixel row, from the first one
    columns_X: Tensor  # pixel column, from the first one

    @classmethod
    def chosen(
        cls, rows_X: Tensor, columns_X: Tensor, z_BX: Tensor, pixel_mm: float
    ) -> SparseShading:
        """Choose among pixels of this width that see surfaces at these depths."""
        device = rows_X.device
        rows_X, columns_X = rows_X - rows_X.min(), columns_X - columns_X.min()
        height, width = int(rows_X.max()) + 1, int(columns_X.max()) + 1
        numbers = torch.arange(len(rows_X), device=device)
        side = round(TILE_MM / pixel_mm)
        if side < 2:
            all_smooth = torch.ones_like(rows_X, dtype=torch.bool)
            return cls(numbers, numbers, all_smooth, rows_X, columns_X)
        depth = torch.full((2, len(z_BX), height, width), -1e4, device=device)
        depth[:, :, rows_X, columns_X] = torch.stack([z_BX, -z_BX])
        most, least = torch.nn.functional.max_pool2d(depth, 3, 1, 1)[:, :, rows_X, columns_X]
        change_X = (most + least).amax(0)
        tile_X = (rows_X // side) * (width // side + 1) + columns_X // side
        tiles = int(tile_X.max()) + 1
        change = torch.zeros(tiles, device=device).scatter_reduce(0, tile_X, change_X, "amax")
        smooth_X = (change < SMOOTH_MM)[tile_X]
        first = torch.full((tiles,), len(numbers), device=device)
        first = first.scatter_reduce(0, tile_X, numbers, "amin")
        by_X = torch.where(smooth_X, first[tile_X], numbers)
        chosen_x = (by_X == numbers).nonzero()[:, 0]
        place = torch.zeros_like(numbers)
        place[chosen_x] = torch.arange(len(chosen_x), device=device)
        return cls(chosen_x, place[by_X], smooth_X, rows_X, columns_X)

    def spread(self, values_Bx: Tensor) -> Tensor:
        """Values of all pixels (B, X); where one stands for others, blurred over three by three."""
        values_BX = values_Bx[:, self.place_X]
        if len(self.chosen_x) == len(self.rows_X):
            return values_BX
        size = (int(self.rows_X.max()) + 1, int(self.columns_X.max()) + 1)
        image = torch.zeros(len(values_BX) + 1, *size, device=values_BX.device)
        rows, columns = self.rows_X[self.smooth_X], self.columns_X[self.smooth_X]
        image[:-1, rows, columns] = values_BX[:, self.smooth_X]
        image[-1, rows, columns] = 1.0
        blurred = torch.nn.functional.avg_pool2d(image[None], 3, 1, 1)[0][:, rows, columns]
        values_BX[:, self.smooth_X] = blurred[:-1] / blurred[-1]
        return values_BX

"""Shapes as signed distance: cones with round ends, melted together limb by limb.

A limb is a chain of cones, each joined to what is there by a smooth minimum (Quilez, "Smooth
minimum", polynomial form); limbs meet with a crease, as fingers do.

Letters: B scenes, N points, C cones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CREASE = 0.8  # millimetres over which two limbs melt


@dataclass(frozen=True)
class Limb:
    """Cones joined one after another, beginning with another limb's surface.

    Args:
        cones: (number of the cone, millimetres over which it melts into what is there).
        parent: Number of an earlier limb that this one grows from; -1 for none.
    """

    cones: tuple[tuple[int, float], ...]
    parent: int = -1


@dataclass(frozen=True)
class Shape:
    """Scenes of one make-up: the same limbs, other places.

    Args:
        a_BC3: One end of each cone's axis, millimetres.
        b_BC3: The other end.
        radii_BC2: Radius at both ends.
        limbs: How cones are joined; the shape is the union of all limbs.
        kinds: What each cone is made of: 0 skin, 1 cloth, 2 thing.
    """

    a_BC3: Tensor
    b_BC3: Tensor
    radii_BC2: Tensor
    limbs: tuple[Limb, ...]
    kinds: tuple[int, ...]

    def cone_distances(self, points_BN3: Tensor) -> Tensor:
        """Distance to each cone (B, N, C), negative inside.

        Written with matrix products: |p − a − t·(b − a)| expands into dot products.
        """
        axis_BC3 = self.b_BC3 - self.a_BC3
        square_BC = (axis_BC3 * axis_BC3).sum(-1).clamp_min(1e-6)
        foot_BC = (self.a_BC3 * axis_BC3).sum(-1)
        h_BNC = torch.baddbmm(-foot_BC[:, None], points_BN3, axis_BC3.transpose(1, 2))
        t_BNC = (h_BNC / square_BC[:, None]).clamp(0, 1)
        to_a_BC = (self.a_BC3 * self.a_BC3).sum(-1)
        apart_BNC = torch.baddbmm(to_a_BC[:, None], points_BN3, self.a_BC3.transpose(1, 2), alpha=-2)
        apart_BNC = apart_BNC + (points_BN3 * points_BN3).sum(-1, keepdim=True)
        apart_BNC = apart_BNC + t_BNC * (t_BNC * square_BC[:, None] - 2 * h_BNC)
        growth_BC = self.radii_BC2[..., 1] - self.radii_BC2[..., 0]
        thick_BNC = self.radii_BC2[:, None, :, 0] + t_BNC * growth_BC[:, None]
        return apart_BNC.clamp_min(1e-4).sqrt() - thick_BNC

    def joined(self, cones_BNC: Tensor) -> Tensor:
        """Distance to the whole shape (B, N) from the distances to its cones."""
        cones = cones_BNC.unbind(-1)
        done: list[Tensor] = []
        whole: Tensor | None = None
        for limb in self.limbs:
            here = done[limb.parent] if limb.parent >= 0 else None
            for number, melt in limb.cones:
                here = cones[number] if here is None else smooth_min(here, cones[number], melt)
            assert here is not None, "a limb without cones"
            done.append(here)
            whole = here if whole is None else smooth_min(whole, here, CREASE)
        assert whole is not None, "a shape without limbs"
        return whole

    def distance(self, points_BN3: Tensor) -> Tensor:
        """Signed distance (B, N), millimetres; at most the true one outside."""
        return self.joined(self.cone_distances(points_BN3))


def smooth_min(a: Tensor, b: Tensor, melt: float) -> Tensor:
    """The smaller of two distances, rounded where they differ by less than ``melt``."""
    h = (melt - (a - b).abs()).clamp_min(0)
    return torch.minimum(a, b) - h * h * (0.25 / melt)


def together(shapes: list[Shape]) -> Shape:
    """Scenes of one make-up side by side in one batch."""
    first = shapes[0]
    return Shape(
        torch.cat([s.a_BC3 for s in shapes]),
        torch.cat([s.b_BC3 for s in shapes]),
        torch.cat([s.radii_BC2 for s in shapes]),
        first.limbs,
        first.kinds,
    )

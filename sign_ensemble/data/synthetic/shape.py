"""Shapes as signed distance: cones with round ends, melted together limb by limb.

A limb is a chain of cones, each joined to what is there by a smooth minimum (Quilez, "Smooth
minimum", polynomial form); limbs meet with a crease, as fingers do.

Letters: B scenes, N points, C cones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        """Distance to each cone (B, C, N), negative inside.

        Written with matrix products: |p − a − t·(b − a)| expands into dot products.
        """
        axis_BC3, square_BC1, foot_BC1, to_a_BC1, growth_BC1 = self._constants
        points_B3N = points_BN3.transpose(1, 2)
        h_BCN = torch.baddbmm(foot_BC1, axis_BC3, points_B3N)
        t_BCN = (h_BCN / square_BC1).clamp_(0, 1)
        apart_BCN = torch.baddbmm(to_a_BC1, self.a_BC3, points_B3N, alpha=-2)
        apart_BCN += (points_BN3 * points_BN3).sum(-1)[:, None]
        apart_BCN += h_BCN.mul_(-2).addcmul_(t_BCN, square_BC1).mul_(t_BCN)
        thick_BCN = t_BCN.mul_(growth_BC1).add_(self.radii_BC2[..., :1])
        return apart_BCN.clamp_min_(1e-4).sqrt_().sub_(thick_BCN)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Axis, its square, minus its foot's place, the square of a, growth of the radius."""
        axis = self.b_BC3 - self.a_BC3
        return (
            axis,
            (axis * axis).sum(-1, keepdim=True).clamp_min(1e-6),
            -(self.a_BC3 * axis).sum(-1, keepdim=True),
            (self.a_BC3 * self.a_BC3).sum(-1, keepdim=True),
            (self.radii_BC2[..., 1] - self.radii_BC2[..., 0])[..., None],
        )

    def joined(self, cones_BCN: Tensor) -> Tensor:
        """Distance to the whole shape (B, N) from the distances to its cones."""
        cones = cones_BCN.unbind(1)
        done: list[Tensor | None] = []
        whole: Tensor | None = None
        for limb in self.limbs:
            here = done[limb.parent] if limb.parent >= 0 else None
            for number, melt in limb.cones:
                here = cones[number] if here is None else smooth_min(here, cones[number], melt)
            done.append(here)
            if limb.cones and here is not None:
                whole = here if whole is None else smooth_min(whole, here, CREASE)
        assert whole is not None, "a shape without cones"
        return whole

    def distance(self, points_BN3: Tensor) -> Tensor:
        """Signed distance (B, N), millimetres; at most the true one outside."""
        return self.joined(self.cone_distances(points_BN3))


def smooth_min(a: Tensor, b: Tensor, melt: float) -> Tensor:
    """The smaller of two distances, rounded where they differ by less than ``melt``."""
    h = (a - b).abs_().neg_().add_(melt).relu_()
    return torch.minimum(a, b).addcmul_(h, h, value=-0.25 / melt)


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

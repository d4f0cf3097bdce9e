"""Shapes as signed distance: cones with round ends, melted together limb by limb.

A limb is a chain of cones, each joined to what is there by a smooth minimum (Quilez, "Smooth
minimum", polynomial form); limbs meet with a crease, as fingers do.

Letters: B scenes, N points, C cones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

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

        With u the place of a point's foot on the axis, t = u within 0 to 1 and s the axis' square,
        the squared distance is |p − a|² + s·t·(t − 2u): two matrix products and few passes.
        """
        foot_BC4, square_BC5, axis_BC1, growth_BC1 = self._constants
        B, N = points_BN3.shape[:2]
        points_B5N = points_BN3.new_ones(B, 5, N)
        points_B5N[:, 1:4] = points_BN3.transpose(1, 2)
        torch.sum(points_BN3 * points_BN3, -1, out=points_B5N[:, 4])
        u_BCN = foot_BC4 @ points_B5N[:, :4]
        apart_BCN = square_BC5 @ points_B5N
        t_BCN = u_BCN.clamp(0, 1)
        apart_BCN.addcmul_(u_BCN.mul_(-2).add_(t_BCN).mul_(t_BCN), axis_BC1)
        apart_BCN.clamp_min_(1e-4).sqrt_().sub_(self.radii_BC2[..., :1])
        return apart_BCN.addcmul_(t_BCN, growth_BC1, value=-1)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a point (1, x, y, z) is multiplied with for its foot, and (1, x, y, z, |p|²) for its
        squared distance to a; the axis' square; how much the radius grows along it.
        """
        axis = self.b_BC3 - self.a_BC3
        square = (axis * axis).sum(-1, keepdim=True).clamp_min(1e-6)
        ahead = -(self.a_BC3 * axis).sum(-1, keepdim=True)
        away = (self.a_BC3 * self.a_BC3).sum(-1, keepdim=True)
        return (
            torch.cat([ahead, axis], -1) / square,
            torch.cat([away, -2 * self.a_BC3, torch.ones_like(away)], -1),
            square,
            (self.radii_BC2[..., 1] - self.radii_BC2[..., 0])[..., None],
        )

    @cached_property
    def _sheaves(self) -> tuple[Sheaf, ...]:
        return sheaves(self.limbs, self.a_BC3.device)

    def joined(self, cones_BCN: Tensor) -> Tensor:
        """Distance to the whole shape (B, N) from the distances to its cones."""
        done: list[Tensor | None] = []
        whole: Tensor | None = None
        for sheaf in self._sheaves:
            parent = done[sheaf.parent] if sheaf.parent >= 0 else None
            here = None if parent is None else parent[:, None]
            for cones, melt, share in sheaf.steps:
                there = cones_BCN[:, cones]
                here = there if here is None else _melted(here, there, melt, share)
            if not sheaf.steps or here is None:  # a limb without cones is where it grows from
                done += [parent] * sheaf.size
                continue
            for limb in here.unbind(1):
                done.append(limb)
                whole = limb if whole is None else smooth_min(whole, limb, CREASE)
        assert whole is not None, "a shape without cones"
        return whole

    def distance(self, points_BN3: Tensor) -> Tensor:
        """Signed distance (B, N), millimetres; at most the true one outside."""
        return self.joined(self.cone_distances(points_BN3))


def smooth_min(a: Tensor, b: Tensor, melt: float) -> Tensor:
    """The smaller of two distances, rounded where they differ by less than ``melt``."""
    return _melted(a, b, melt, -0.25 / melt)


def _melted(a: Tensor, b: Tensor, melt: Tensor | float, share: Tensor | float) -> Tensor:
    """``smooth_min`` with ``share`` = −1 / (4 melt)."""
    short = (a - b).abs_().sub_(melt).clamp_max_(0)
    return torch.minimum(a, b).add_(short.mul_(short).mul_(share))


@dataclass(frozen=True)
class Sheaf:
    """Limbs that grow side by side, each step of all of them in one go.

    Args:
        parent: Number of the limb that they grow from; -1 for none.
        size: How many they are, L.
        steps: Which cones, one of each limb; millimetres over which each melts (L, 1); −1 / (4
            times that).
    """

    parent: int
    size: int
    steps: tuple[tuple[slice | list[int], Tensor, Tensor], ...]


def sheaves(limbs: tuple[Limb, ...], device: torch.device) -> tuple[Sheaf, ...]:
    """Neighbours of one parent and one length together, in the limbs' order."""
    gathered = []
    for (parent, length), some in groupby(limbs, lambda limb: (limb.parent, len(limb.cones))):
        side_by_side = list(some)
        steps = []
        for k in range(length):
            cones = [limb.cones[k][0] for limb in side_by_side]
            melt = torch.tensor([[limb.cones[k][1]] for limb in side_by_side], device=device)
            steps.append((_evenly(cones), melt, -0.25 / melt))
        gathered.append(Sheaf(parent, len(side_by_side), tuple(steps)))
    return tuple(gathered)


def _evenly(numbers: list[int]) -> slice | list[int]:
    """A slice where the numbers lie evenly: no copy."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    even = range(numbers[0], numbers[-1] + 1, step) if step > 0 else range(0)
    return slice(even.start, even.stop, step) if list(even) == numbers else numbers


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

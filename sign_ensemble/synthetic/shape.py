"""Signed distance of cones with round ends that blend into one another.

A limb is a chain of cones, each joined to those before it by a smooth minimum (Quilez, "Smooth
minimum", polynomial form); limbs meet with a crease, as fingers do.

Letters: B scenes of a batch, Y cones, X points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

CREASE = 0.8  # millimetres over which two limbs blend


@dataclass(frozen=True)
class Limb:
    """Cones joined one after another, starting from another limb's surface."""

    # Number of each cone, and millimetres over which it blends into those before it.
    cones: tuple[tuple[int, float], ...]
    parent: int = -1  # number of an earlier limb that this one grows from; -1 for none


@dataclass(frozen=True)
class _LimbGroup:
    """Limbs of one parent and length, which are computed at once."""

    parent: int  # number of the limb that they grow from; -1 for none
    size: int  # number of limbs
    # One cone of each limb; their blends (size, 1), millimetres; −1 / (4 blend).
    steps: tuple[tuple[slice | list[int], Tensor, Tensor], ...]


@dataclass(frozen=True)
class Shape:
    """Scenes with the same limbs in different places."""

    a_BY3: Tensor  # one end of each cone's axis, millimetres
    b_BY3: Tensor  # the other end
    radii_BY2: Tensor  # radius at both ends
    limbs: tuple[Limb, ...]  # how cones are joined; the shape is the union of all limbs
    materials: tuple[int, ...]  # material of each cone: 0 skin, 1 cloth, 2 object

    def cone_distances(self, points_BX3: Tensor) -> Tensor:
        """Distance to each cone (B, Y, X), negative inside.

        With u the position of a point's foot on the axis, t = u clamped to 0..1 and s the axis'
        squared length, the squared distance to the axis is |p − a|² + s·t·(t − 2u).
        """
        foot_BY4, square_BY5, axis_BY1, growth_BY1 = self._constants
        B, X = points_BX3.shape[:2]
        points_B5X = points_BX3.new_ones(B, 5, X)
        points_B5X[:, 1:4] = points_BX3.transpose(1, 2)
        torch.sum(points_BX3 * points_BX3, -1, out=points_B5X[:, 4])
        u_BYX = foot_BY4 @ points_B5X[:, :4]
        distance_BYX = square_BY5 @ points_B5X
        t_BYX = u_BYX.clamp(0, 1)
        distance_BYX.addcmul_(u_BYX.mul_(-2).add_(t_BYX).mul_(t_BYX), axis_BY1)
        distance_BYX.clamp_min_(1e-4).sqrt_().sub_(self.radii_BY2[..., :1])
        return distance_BYX.addcmul_(t_BYX, growth_BY1, value=-1)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Factors of (1, x, y, z) for u, and of (1, x, y, z, |p|²) for |p − a|²; the axis' squared
        length; how much the radius grows along it.
        """
        axis = self.b_BY3 - self.a_BY3
        square = (axis * axis).sum(-1, keepdim=True).clamp_min(1e-6)
        ahead = -(self.a_BY3 * axis).sum(-1, keepdim=True)
        away = (self.a_BY3 * self.a_BY3).sum(-1, keepdim=True)
        return (
            torch.cat([ahead, axis], -1) / square,
            torch.cat([away, -2 * self.a_BY3, torch.ones_like(away)], -1),
            square,
            (self.radii_BY2[..., 1] - self.radii_BY2[..., 0])[..., None],
        )

    @cached_property
    def _limb_groups(self) -> tuple[_LimbGroup, ...]:
        """Adjacent limbs of one parent and length together, in the limbs' order."""
        groups = []
        for (parent, length), adjacent in groupby(self.limbs, lambda b: (b.parent, len(b.cones))):
            limbs = list(adjacent)
            steps = []
            for k in range(length):
                cones = [limb.cones[k][0] for limb in limbs]
                blend = [[limb.cones[k][1]] for limb in limbs]
                blends = torch.tensor(blend, device=self.a_BY3.device)
                steps.append((_slice_if_even(cones), blends, -0.25 / blends))
            groups.append(_LimbGroup(parent, len(limbs), tuple(steps)))
        return tuple(groups)

    def distance(self, points_BX3: Tensor) -> Tensor:
        """Signed distance to the shape (B, X), millimetres; outside, a lower bound."""
        cones_BYX = self.cone_distances(points_BX3)
        done: list[Tensor | None] = []
        union: Tensor | None = None
        for group in self._limb_groups:
            parent = done[group.parent] if group.parent >= 0 else None
            so_far = None if parent is None else parent[:, None]
            for cones, blend, factor in group.steps:
                cone = cones_BYX[:, cones]
                so_far = cone if so_far is None else _blended(so_far, cone, blend, factor)
            if not group.steps or so_far is None:  # without cones: its parent's surface
                done += [parent] * group.size
                continue
            for limb in so_far.unbind(1):
                done.append(limb)
                union = limb if union is None else smooth_min(union, limb, CREASE)
        assert union is not None, "a shape without cones"
        return union


def smooth_min(a: Tensor, b: Tensor, blend: float) -> Tensor:
    """The smaller of two distances, smooth where they differ by less than ``blend``."""
    return _blended(a, b, blend, -0.25 / blend)


def _blended(a: Tensor, b: Tensor, blend: Tensor | float, factor: Tensor | float) -> Tensor:
    """``smooth_min`` with ``factor`` = −1 / (4 blend)."""
    excess = (a - b).abs_().sub_(blend).clamp_max_(0)
    return torch.minimum(a, b).add_(excess.mul_(excess).mul_(factor))


def _slice_if_even(numbers: list[int]) -> slice | list[int]:
    """A slice where the numbers are evenly spaced, as it copies nothing."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    even = range(numbers[0], numbers[-1] + 1, step) if step > 0 else range(0)
    return slice(even.start, even.stop, step) if list(even) == numbers else numbers


def batched(shapes: list[Shape]) -> Shape:
    """One batch of scenes with the same limbs."""
    first = shapes[0]
    return Shape(
        torch.cat([s.a_BY3 for s in shapes]),
        torch.cat([s.b_BY3 for s in shapes]),
        torch.cat([s.radii_BY2 for s in shapes]),
        first.limbs,
        first.materials,
    )

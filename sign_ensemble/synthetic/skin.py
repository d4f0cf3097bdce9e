"""What colour a point of the hand is: tone, lighter palm, nails, creases, lines of the palm.

Everything is a function of the point in the hand's own frame, so it moves with the hand.

Letters: N points, K marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sign_ensemble.synthetic.hand import Array, Bones, Proportions

# Lines of the palm as broken lines in x, y (mm): heart, head, life.
PALM_LINES = (
    ((-40, 63), (-20, 68), (0, 71), (12, 80)),
    ((33, 66), (18, 63), (0, 56), (-24, 44)),
    ((33, 66), (17, 58), (6, 44), (3, 28), (7, 12)),
)


@dataclass(frozen=True)
class Marks:
    """Where nails and creases are, in the hand's frame.

    Args:
        nails_K33: Middle, direction along the finger, direction outwards.
        nail_sizes_K2: Half length, half width, millimetres.
        creases_K33: Middle of the joint, direction along the finger, palmar direction.
        crease_radii_K: The finger's radius there.
    """

    nails_K33: Array
    nail_sizes_K2: Array
    creases_K33: Array
    crease_radii_K: Array


def marks(bones: Bones, sizes: Proportions) -> Marks:
    """Nails of all five fingers; creases at PIP and DIP, and at the thumb's MCP and IP."""
    nails, nail_sizes, creases, radii = [], [], [], []
    chains = [(bones.fingers_F43[f], bones.palmar_F33[f], sizes.radii_F4[f]) for f in range(4)] + [
        (bones.thumb_43, bones.thumb_palmar_33, sizes.thumb_radii_4)
    ]
    for joints_43, palmar_33, radii_4 in chains:
        along_33 = np.diff(joints_43, axis=0)
        along_33 /= np.linalg.norm(along_33, axis=1, keepdims=True)
        r = radii_4[3]
        nails.append(
            (joints_43[3] + 0.15 * r * along_33[2] - r * palmar_33[2], along_33[2], -palmar_33[2])
        )
        nail_sizes.append((0.92 * r, 0.74 * r))
        for j in (1, 2):
            along = along_33[j - 1] + along_33[j]
            palmar = palmar_33[j - 1] + palmar_33[j]
            creases.append(
                (joints_43[j], along / np.linalg.norm(along), palmar / np.linalg.norm(palmar))
            )
            radii.append(radii_4[j])
    return Marks(np.array(nails), np.array(nail_sizes), np.array(creases), np.array(radii))


def albedo(
    points_N3: Tensor,
    normals_N3: Tensor,
    fingers_N: Tensor,
    tone: tuple[float, float, float],
    marks_: Marks,
) -> tuple[Tensor, Tensor]:
    """Linear colour (N, 3) and gloss (N,) of points on the skin, both given in the hand's frame.

    Args:
        points_N3: Millimetres.
        normals_N3: Unit outward normals.
        fingers_N: Which finger each point is on, 0 to 4 from index to thumb; -1 for palm and arm.
        tone: Linear colour of the back of the hand.
        marks_: Nails and creases.
    """
    device = points_N3.device
    base = torch.tensor(tone, dtype=torch.float32, device=device)
    light = base.mean()
    palm_tone = base**0.8 * torch.tensor((1.04, 0.93, 0.91), device=device)
    blush = torch.tensor((1.0, 0.80, 0.78), device=device)

    on_finger = (fingers_N >= 0).nonzero()[:, 0]
    finger = _Finger.of(marks_, points_N3[on_finger], normals_N3[on_finger], fingers_N[on_finger])
    towards = normals_N3[:, 2].index_copy(0, on_finger, finger.palmar())
    dark = (0.8 * _palm_lines(points_N3, normals_N3, fingers_N)).index_copy(
        0, on_finger, finger.creases()
    )
    facing = torch.sigmoid(5 * towards)[:, None]
    mottle = _waves(points_N3)[:, None]
    colour = base + facing * (palm_tone - base)
    colour *= 1 + 0.035 * mottle
    colour *= 1 + (blush - 1) * (0.30 + 0.30 * mottle).clamp(0, 1)
    colour *= 1 + (blush**1.4 * 0.72 - 1) * dark[:, None]

    near, nail, rim = finger.nails()
    there = on_finger[near]
    nail_tone = base * 0.55 + torch.tensor((0.52, 0.30, 0.27), device=device) * (0.25 + light)
    under = colour[there]
    nailed = under + nail[:, None] * (nail_tone - under)
    colour[there] = nailed * (1 - 0.35 * rim[:, None])
    gloss = torch.ones(len(points_N3), device=device)
    gloss[there] += 4 * nail
    return colour.clamp_(0, 1), gloss


@dataclass(frozen=True)
class _Finger:
    """Points on fingers, each with the marks of its own finger.

    Args:
        points_N3: Millimetres.
        normals_N3: Unit outward normals.
        creases_2N33: Of the two joints: middle, direction along, palmar direction.
        crease_radii_2N: The finger's radius there.
        nails_N33: Middle, direction along the finger, direction outwards.
        nail_sizes_N2: Half length, half width.
    """

    points_N3: Tensor
    normals_N3: Tensor
    creases_2N33: Tensor
    crease_radii_2N: Tensor
    nails_N33: Tensor
    nail_sizes_N2: Tensor

    @classmethod
    def of(cls, marks_: Marks, points_N3: Tensor, normals_N3: Tensor, fingers_N: Tensor) -> _Finger:
        """Points with the marks of the finger they are on."""

        def tensors(values: Array) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=points_N3.device)

        creases = tensors(marks_.creases_K33)
        radii = tensors(marks_.crease_radii_K)
        return cls(
            points_N3,
            normals_N3,
            torch.stack([creases[2 * fingers_N], creases[2 * fingers_N + 1]]),
            torch.stack([radii[2 * fingers_N], radii[2 * fingers_N + 1]]),
            tensors(marks_.nails_K33)[fingers_N],
            tensors(marks_.nail_sizes_K2)[fingers_N],
        )

    def palmar(self) -> Tensor:
        """From −1 on the back to 1 on the palmar side (N,); towards the knuckles, the palm's."""
        apart = (self.points_N3 - self.creases_2N33[:, :, 0]).norm(dim=-1)
        second = torch.sigmoid((apart[0] - apart[1]) / 3.0)[:, None]
        first_N3, second_N3 = self.creases_2N33[:, :, 2]
        finger = first_N3 + second * (second_N3 - first_N3)
        reach = 2.6 * self.crease_radii_2N.mean(0)
        near = torch.sigmoid((reach - torch.minimum(apart[0], apart[1])) / 3.0)[:, None]
        near = torch.maximum(near, torch.sigmoid(self._beyond() / 3.0)[:, None])
        body = torch.tensor((0.0, 0.0, 1.0), device=near.device)
        return (self.normals_N3 * (body + near * (finger - body))).sum(1)

    def _beyond(self) -> Tensor:
        """Millimetres past the last crease (N,)."""
        last_N33 = self.creases_2N33[1]
        return ((self.points_N3 - last_N33[:, 0]) * last_N33[:, 1]).sum(-1)

    def creases(self) -> Tensor:
        """Darkness (N,) of folds over joints: fine lines on palmar sides, wrinkles behind."""
        apart = self.points_N3 - self.creases_2N33[:, :, 0]
        along = (apart * self.creases_2N33[:, :, 1]).sum(-1)
        facing = (self.normals_N3 * self.creases_2N33[:, :, 2]).sum(-1)
        here = torch.sigmoid((1.35 * self.crease_radii_2N - apart.norm(dim=-1)) / 0.6)
        palmar = torch.exp(-((along / 0.7) ** 2)) * (facing + 0.1).clamp(0, 1)
        ripple = torch.exp(-((along / 4.0) ** 2)) * (0.5 + 0.5 * torch.cos(along * 2.6))
        dorsal = 0.55 * ripple * (-facing - 0.2).clamp(0, 1)
        return (here * (palmar + dorsal)).amax(0)

    def nails(self) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of points near a nail (n,), how much nail each is, and how much of its rim."""
        apart = self.points_N3 - self.nails_N33[:, 0]
        reach = 1.6 * self.nail_sizes_N2[:, 0]
        near = ((apart * apart).sum(-1) < reach * reach).nonzero()[:, 0]
        nails, sizes, apart = self.nails_N33[near], self.nail_sizes_N2[near], apart[near]
        along = (apart * nails[:, 1]).sum(-1)
        out = (apart * nails[:, 2]).sum(-1)
        across = (apart * torch.linalg.cross(nails[:, 1], nails[:, 2])).sum(-1)
        square = (along / sizes[:, 0]).abs() ** 3 + (across / sizes[:, 1]).abs() ** 3
        edge = square.clamp_min(1e-6) ** (1 / 3)
        on = torch.sigmoid((out + 0.75 * sizes[:, 1]) / 0.3) * torch.sigmoid((2.0 - out) / 0.3)
        facing = (self.normals_N3[near] * nails[:, 2]).sum(-1)
        on = on * torch.sigmoid((facing - 0.35) / 0.06)
        inside = torch.sigmoid((1 - edge) / 0.05) * on
        return near, inside, torch.exp(-(((edge - 1) / 0.09) ** 2)) * on


def _palm_lines(points_N3: Tensor, normals_N3: Tensor, fingers_N: Tensor) -> Tensor:
    """Darkness (N,) of the palm's three lines."""
    dark = torch.zeros(len(points_N3), device=points_N3.device)
    on_palm = ((fingers_N < 0) & (normals_N3[:, 2] > 0.2)).nonzero()[:, 0]
    points, facing = points_N3[on_palm], normals_N3[on_palm, 2]
    ends = [pair for line in PALM_LINES for pair in pairwise(line)]
    a, b = torch.tensor(ends, dtype=torch.float32, device=points_N3.device).unbind(1)
    x, y = points[:, 0], points[:, 1]
    nearest = torch.full_like(x, 1e6)
    for (ax, ay), (dx, dy) in zip(a.tolist(), (b - a).tolist(), strict=True):
        px, py = x - ax, y - ay
        t = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp_(0, 1)
        nearest = torch.minimum(nearest, (px - t * dx) ** 2 + (py - t * dy) ** 2)
    facing_up = torch.sigmoid((24 - points[:, 2]) / 2) * torch.sigmoid(12 * (facing - 0.55))
    return dark.index_copy(0, on_palm, torch.exp(-nearest / 0.81) * facing_up)


def _waves(points_N3: Tensor) -> Tensor:
    """A smooth unevenness from about −1 to 1 (N,)."""
    x, y, z = (points_N3 * 0.11).unbind(-1)
    one = torch.sin(1.9 * x + 1.3 * z + 1.0) * torch.sin(1.7 * y - 0.9 * x)
    two = torch.sin(4.1 * y + 2.3 * z) * torch.sin(3.7 * x - 2.9 * z + 2.0)
    return 0.7 * one + 0.4 * two

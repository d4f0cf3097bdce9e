"""Skin colour: tone, lighter palm, nails, creases, lines of the palm.

Colour is a function of the point in the hand's own frame, so it moves with the hand.

Letters: I marks (nails or creases), X points.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sign_ensemble.synthetic.kinematics import Array, Bones, Proportions

# Lines of the palm as polylines in x, y (mm): heart, head, life.
PALM_LINES = (
    ((-40, 63), (-20, 68), (0, 71), (12, 80)),
    ((33, 66), (18, 63), (0, 56), (-24, 44)),
    ((33, 66), (17, 58), (6, 44), (3, 28), (7, 12)),
)


@dataclass(frozen=True)
class Marks:
    """Nails and creases in the hand's frame, index finger first, thumb last."""

    nails_I33: Array  # centre, direction along the finger, direction outwards
    nail_sizes_I2: Array  # half length, half width, millimetres
    creases_I33: Array  # centre of the joint, direction along the finger, palmar direction
    crease_radii_I: Array  # radius of the finger there, millimetres


def marks(bones: Bones, sizes: Proportions) -> Marks:
    """Nails of all five fingers; creases at PIP and DIP, and at the thumb's MCP and IP."""
    nails, nail_sizes, creases, radii = [], [], [], []
    chains = [(bones.fingers_443[f], bones.palmar_433[f], sizes.radii_44[f]) for f in range(4)] + [
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
    points_X3: Tensor,
    normals_X3: Tensor,
    fingers_X: Tensor,
    tone: tuple[float, float, float],
    marks_: Marks,
) -> tuple[Tensor, Tensor]:
    """Linear colour (X, 3) and gloss (X,) of points on the skin, in the hand's frame.

    ``fingers_X`` is 0 to 4 from index to thumb, and -1 for palm and arm; ``tone`` is the linear
    colour of the back of the hand.
    """
    device = points_X3.device
    base = torch.tensor(tone, dtype=torch.float32, device=device)
    light = base.mean()
    palm_tone = base**0.8 * torch.tensor((1.04, 0.93, 0.91), device=device)
    blush = torch.tensor((1.0, 0.80, 0.78), device=device)

    on_finger = (fingers_X >= 0).nonzero()[:, 0]
    finger = _Finger.of(marks_, points_X3[on_finger], normals_X3[on_finger], fingers_X[on_finger])
    towards = normals_X3[:, 2].index_copy(0, on_finger, finger.palmar())
    dark = (0.8 * _palm_lines(points_X3, normals_X3, fingers_X)).index_copy(
        0, on_finger, finger.creases()
    )
    facing = torch.sigmoid(5 * towards)[:, None]
    mottle = _waves(points_X3)[:, None]
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
    gloss = torch.ones(len(points_X3), device=device)
    gloss[there] += 4 * nail
    return colour.clamp_(0, 1), gloss


@dataclass(frozen=True)
class _Finger:
    """Points on fingers, each with the marks of its own finger: two creases and a nail."""

    points_X3: Tensor
    normals_X3: Tensor
    creases_2X33: Tensor
    crease_radii_2X: Tensor
    nails_X33: Tensor
    nail_sizes_X2: Tensor

    @classmethod
    def of(cls, marks_: Marks, points_X3: Tensor, normals_X3: Tensor, fingers_X: Tensor) -> _Finger:
        """Look up the marks of each point's finger."""

        def tensors(values: Array) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=points_X3.device)

        creases = tensors(marks_.creases_I33)
        radii = tensors(marks_.crease_radii_I)
        return cls(
            points_X3,
            normals_X3,
            torch.stack([creases[2 * fingers_X], creases[2 * fingers_X + 1]]),
            torch.stack([radii[2 * fingers_X], radii[2 * fingers_X + 1]]),
            tensors(marks_.nails_I33)[fingers_X],
            tensors(marks_.nail_sizes_I2)[fingers_X],
        )

    def palmar(self) -> Tensor:
        """From −1 on the back to 1 on the palmar side (X,); near the knuckles, that of the palm."""
        distance = (self.points_X3 - self.creases_2X33[:, :, 0]).norm(dim=-1)
        second = torch.sigmoid((distance[0] - distance[1]) / 3.0)[:, None]
        first_X3, second_X3 = self.creases_2X33[:, :, 2]
        finger = first_X3 + second * (second_X3 - first_X3)
        reach = 2.6 * self.crease_radii_2X.mean(0)
        near = torch.sigmoid((reach - torch.minimum(distance[0], distance[1])) / 3.0)[:, None]
        last_X33 = self.creases_2X33[1]
        past_X = ((self.points_X3 - last_X33[:, 0]) * last_X33[:, 1]).sum(-1)
        near = torch.maximum(near, torch.sigmoid(past_X / 3.0)[:, None])
        body = torch.tensor((0.0, 0.0, 1.0), device=near.device)
        return (self.normals_X3 * (body + near * (finger - body))).sum(1)

    def creases(self) -> Tensor:
        """Darkness (X,) of the joints: fine lines on palmar sides, wrinkles on dorsal sides."""
        offset = self.points_X3 - self.creases_2X33[:, :, 0]
        along = (offset * self.creases_2X33[:, :, 1]).sum(-1)
        facing = (self.normals_X3 * self.creases_2X33[:, :, 2]).sum(-1)
        here = torch.sigmoid((1.35 * self.crease_radii_2X - offset.norm(dim=-1)) / 0.6)
        palmar = torch.exp(-((along / 0.7) ** 2)) * (facing + 0.1).clamp(0, 1)
        ripple = torch.exp(-((along / 4.0) ** 2)) * (0.5 + 0.5 * torch.cos(along * 2.6))
        dorsal = 0.55 * ripple * (-facing - 0.2).clamp(0, 1)
        return (here * (palmar + dorsal)).amax(0)

    def nails(self) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of the points near a nail, and how far each is nail and rim of a nail, 0 to 1."""
        offset = self.points_X3 - self.nails_X33[:, 0]
        reach = 1.6 * self.nail_sizes_X2[:, 0]
        near = ((offset * offset).sum(-1) < reach * reach).nonzero()[:, 0]
        nails, sizes, offset = self.nails_X33[near], self.nail_sizes_X2[near], offset[near]
        along = (offset * nails[:, 1]).sum(-1)
        out = (offset * nails[:, 2]).sum(-1)
        across = (offset * torch.linalg.cross(nails[:, 1], nails[:, 2])).sum(-1)
        square = (along / sizes[:, 0]).abs() ** 3 + (across / sizes[:, 1]).abs() ** 3
        edge = square.clamp_min(1e-6) ** (1 / 3)
        on = torch.sigmoid((out + 0.75 * sizes[:, 1]) / 0.3) * torch.sigmoid((2.0 - out) / 0.3)
        facing = (self.normals_X3[near] * nails[:, 2]).sum(-1)
        on = on * torch.sigmoid((facing - 0.35) / 0.06)
        inside = torch.sigmoid((1 - edge) / 0.05) * on
        return near, inside, torch.exp(-(((edge - 1) / 0.09) ** 2)) * on


def _palm_lines(points_X3: Tensor, normals_X3: Tensor, fingers_X: Tensor) -> Tensor:
    """Darkness (X,) of the palm's three lines."""
    dark = torch.zeros(len(points_X3), device=points_X3.device)
    on_palm = ((fingers_X < 0) & (normals_X3[:, 2] > 0.2)).nonzero()[:, 0]
    points, facing = points_X3[on_palm], normals_X3[on_palm, 2]
    ends = [pair for line in PALM_LINES for pair in pairwise(line)]
    a, b = torch.tensor(ends, dtype=torch.float32, device=points_X3.device).unbind(1)
    x, y = points[:, 0], points[:, 1]
    nearest = torch.full_like(x, 1e6)
    for (ax, ay), (dx, dy) in zip(a.tolist(), (b - a).tolist(), strict=True):
        px, py = x - ax, y - ay
        t = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp_(0, 1)
        nearest = torch.minimum(nearest, (px - t * dx) ** 2 + (py - t * dy) ** 2)
    facing_up = torch.sigmoid((24 - points[:, 2]) / 2) * torch.sigmoid(12 * (facing - 0.55))
    return dark.index_copy(0, on_palm, torch.exp(-nearest / 0.81) * facing_up)


def _waves(points_X3: Tensor) -> Tensor:
    """Smooth mottling from about −1 to 1 (X,)."""
    x, y, z = (points_X3 * 0.11).unbind(-1)
    one = torch.sin(1.9 * x + 1.3 * z + 1.0) * torch.sin(1.7 * y - 0.9 * x)
    two = torch.sin(4.1 * y + 2.3 * z) * torch.sin(3.7 * x - 2.9 * z + 2.0)
    return 0.7 * one + 0.4 * two

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

from sign_ensemble.data.synthetic.hand import Array, Bones, Proportions

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
    points_N3: Tensor, normals_N3: Tensor, tone: tuple[float, float, float], marks_: Marks
) -> tuple[Tensor, Tensor]:
    """Linear colour (N, 3) and gloss (N,) of points on the skin, both given in the hand's frame.

    Args:
        points_N3: Millimetres.
        normals_N3: Unit outward normals.
        tone: Linear colour of the back of the hand.
        marks_: Nails and creases.
    """
    device = points_N3.device
    base = torch.tensor(tone, dtype=torch.float32, device=device)
    light = base.mean()
    palm_tone = base**0.8 * torch.tensor((1.04, 0.93, 0.91), device=device)
    blush = torch.tensor((1.0, 0.80, 0.78), device=device)

    facing = torch.sigmoid(5 * (_palmar(points_N3, normals_N3, marks_)))[:, None]
    colour = base + facing * (palm_tone - base)
    mottle = _waves(points_N3)[:, None]
    colour = colour * (1 + 0.035 * mottle)
    colour = colour * (1 + (blush - 1) * (0.30 + 0.30 * mottle).clamp(0, 1))

    dark = _creases(points_N3, normals_N3, marks_)
    dark = torch.maximum(dark, 0.8 * _palm_lines(points_N3, normals_N3))
    colour = colour * (1 + (blush**1.4 * 0.72 - 1) * dark[:, None])

    nail, rim = _nails(points_N3, normals_N3, marks_)
    nail_tone = base * 0.55 + torch.tensor((0.52, 0.30, 0.27), device=device) * (0.25 + light)
    colour = colour + nail[:, None] * (nail_tone - colour)
    colour = colour * (1 - 0.35 * rim[:, None])
    return colour.clamp(0, 1), 1 + 4 * nail


def _tensors(points_N3: Tensor, values: Array) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=points_N3.device)


def _palmar(points_N3: Tensor, normals_N3: Tensor, marks_: Marks) -> Tensor:
    """From −1 on the hand's back to 1 on its palmar side (N,)."""
    creases = _tensors(points_N3, marks_.creases_K33)
    radii = _tensors(points_N3, marks_.crease_radii_K)
    apart = torch.cdist(points_N3, creases[:, 0])
    weight = torch.softmax(-apart / 3.0, 1)
    finger = weight @ creases[:, 2]
    near = torch.sigmoid((2.6 * radii.mean() - apart.min(1).values) / 3.0)[:, None]
    body = torch.tensor((0.0, 0.0, 1.0), device=points_N3.device)
    return (normals_N3 * (near * finger + (1 - near) * body)).sum(1)


def _creases(points_N3: Tensor, normals_N3: Tensor, marks_: Marks) -> Tensor:
    """Darkness (N,) of the folds over the joints: fine lines on palmar sides, wrinkles behind."""
    creases = _tensors(points_N3, marks_.creases_K33)
    radii = _tensors(points_N3, marks_.crease_radii_K)
    apart = points_N3[:, None] - creases[:, 0]
    along = (apart * creases[:, 1]).sum(-1)
    facing = normals_N3 @ creases[:, 2].T
    here = torch.sigmoid((1.35 * radii - apart.norm(dim=-1)) / 0.6)
    palmar = torch.exp(-((along / 0.7) ** 2)) * (facing + 0.1).clamp(0, 1)
    ripple = torch.exp(-((along / 4.0) ** 2)) * (0.5 + 0.5 * torch.cos(along * 2.6))
    dorsal = 0.55 * ripple * (-facing - 0.2).clamp(0, 1)
    return (here * (palmar + dorsal)).max(1).values


def _palm_lines(points_N3: Tensor, normals_N3: Tensor) -> Tensor:
    """Darkness (N,) of the palm's three lines."""
    ends = [pair for line in PALM_LINES for pair in pairwise(line)]
    a, b = _tensors(points_N3, np.array(ends, np.float64)).unbind(1)
    to = points_N3[:, None, :2] - a
    t = ((to * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1)).clamp(0, 1)
    apart = (to - t[..., None] * (b - a)).norm(dim=-1).min(1).values
    on_palm = torch.sigmoid((24 - points_N3[:, 2]) / 2) * torch.sigmoid(
        12 * (normals_N3[:, 2] - 0.55)
    )
    return torch.exp(-((apart / 0.9) ** 2)) * on_palm


def _nails(points_N3: Tensor, normals_N3: Tensor, marks_: Marks) -> tuple[Tensor, Tensor]:
    """How much nail (N,), and how much of its rim (N,)."""
    nails = _tensors(points_N3, marks_.nails_K33)
    sizes = _tensors(points_N3, marks_.nail_sizes_K2)
    apart = points_N3[:, None] - nails[:, 0]
    along = (apart * nails[:, 1]).sum(-1)
    out = (apart * nails[:, 2]).sum(-1)
    across = (apart * torch.linalg.cross(nails[:, 1], nails[:, 2])).sum(-1)
    square = (along / sizes[:, 0]).abs() ** 3 + (across / sizes[:, 1]).abs() ** 3
    edge = square.clamp_min(1e-6) ** (1 / 3)
    near = torch.sigmoid((out + 0.75 * sizes[:, 1]) / 0.3) * torch.sigmoid((2.0 - out) / 0.3)
    near = near * torch.sigmoid((normals_N3 @ nails[:, 2].T - 0.35) / 0.06)
    inside = (torch.sigmoid((1 - edge) / 0.05) * near).max(1).values
    rim = (torch.exp(-(((edge - 1) / 0.09) ** 2)) * near).max(1).values
    return inside, rim


def _waves(points_N3: Tensor) -> Tensor:
    """A smooth unevenness from about −1 to 1 (N,)."""
    x, y, z = (points_N3 * 0.11).unbind(-1)
    one = torch.sin(1.9 * x + 1.3 * z + 1.0) * torch.sin(1.7 * y - 0.9 * x)
    two = torch.sin(4.1 * y + 2.3 * z) * torch.sin(3.7 * x - 2.9 * z + 2.0)
    return 0.7 * one + 0.4 * two

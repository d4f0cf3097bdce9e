"""Light on a traced surface: soft shadow, ambient occlusion, diffuse and weak specular light.

Soft shadow and occlusion after Quilez ("Soft shadows in raymarched SDFs", "Multiresolution
ambient occlusion"): few looks at the distance field along the light and along the normal.

Letters: B scenes, N pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sign_ensemble.synthetic.shape import Shape
from sign_ensemble.synthetic.sparse import Sparse
from sign_ensemble.synthetic.trace import CHUNK, Patch, in_chunks, normals

SHADOW_STEPS = 6
SOFTNESS = 9.0  # a lamp about six degrees wide
OCCLUSION_MM = (3.0, 8.0, 18.0)
# Light enters skin and comes out redder beyond the shadow's edge: how far the diffuse term wraps.
WRAP = (0.32, 0.18, 0.14)
GLOSS, SHARPNESS = 0.035, 18.0


@dataclass(frozen=True)
class Lamp:
    """The light of one picture.

    Args:
        towards: Unit direction from the hand to the lamp.
        colour: Linear red, green, blue of the lamp.
        ambient: Linear red, green, blue from everywhere.
    """

    towards: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """What pixels see of a surface, and what light it gets.

    Args:
        normals_BN3: Unit outward normals.
        nearest_BN: Number of the nearest cone.
        open_BN: Openness to the surroundings, 0 to 1.
        seen_BN: How much of the lamp is seen, 0 to 1.
    """

    normals_BN3: Tensor
    nearest_BN: Tensor
    open_BN: Tensor
    seen_BN: Tensor

    @classmethod
    def of(cls, shape: Shape, patch: Patch, lamps: list[Lamp], pixel_mm: float) -> Surface:
        """Looked at sparsely where it is smooth; pixels are this wide."""
        some = Sparse.of(patch.rows_N, patch.columns_N, patch.points_BN3[..., 2], pixel_mm)
        points_Bn3 = patch.points_BN3[:, some.chosen_n]
        normals_Bn3 = normals(shape, points_Bn3)
        smooth = torch.stack([some.spread(axis) for axis in normals_Bn3.unbind(-1)], -1)
        return cls(
            smooth / smooth.norm(dim=-1, keepdim=True).clamp_min(1e-9),
            nearest(shape, patch.points_BN3),
            some.spread(openness(shape, points_Bn3, normals_Bn3)),
            some.spread(shadows(shape, points_Bn3, normals_Bn3, _towards(lamps, points_Bn3))),
        )


def nearest(shape: Shape, points_BN3: Tensor) -> Tensor:
    """Number of the cone nearest to each point (B, N)."""
    parts = points_BN3.split(CHUNK, 1)
    return torch.cat([shape.cone_distances(part).argmin(1) for part in parts], 1)


def _towards(lamps: list[Lamp], like: Tensor) -> Tensor:
    return torch.tensor([lamp.towards for lamp in lamps], dtype=torch.float32, device=like.device)


def shadows(shape: Shape, points_BN3: Tensor, normals_BN3: Tensor, lamp_B3: Tensor) -> Tensor:
    """How much of the lamp each point sees (B, N), 0 to 1."""
    facing = (normals_BN3 * lamp_B3[:, None]).sum(-1)
    some = (facing > -max(WRAP)).any(0).nonzero()[:, 0]  # the others are dark anyway
    start = points_BN3[:, some] + 1.0 * normals_BN3[:, some]
    seen = torch.ones(start.shape[:2], device=start.device)
    along = torch.full_like(seen, 2.0)
    for _ in range(SHADOW_STEPS):
        distance = in_chunks(shape, start + along[..., None] * lamp_B3[:, None])
        seen = torch.minimum(seen, 0.5 + 0.5 * SOFTNESS * distance / along)
        along = along + distance.clamp(4.0, 30.0)
    seen = seen.clamp(0, 1)
    smooth = seen * seen * (3 - 2 * seen)
    return torch.ones_like(facing).index_copy(1, some, smooth)


def openness(shape: Shape, points_BN3: Tensor, normals_BN3: Tensor) -> Tensor:
    """How much of its surroundings each point sees (B, N), 0 to 1."""
    hidden = torch.zeros(points_BN3.shape[:2], device=points_BN3.device)
    for mm in OCCLUSION_MM:
        distance = in_chunks(shape, points_BN3 + mm * normals_BN3)
        hidden += (1 - distance / mm).clamp_min(0) / len(OCCLUSION_MM)
    return (1 - 1.05 * hidden).clamp(0.05, 1)


def lit(surface: Surface, albedo_BN3: Tensor, gloss_BN: Tensor, lamps: list[Lamp]) -> Tensor:
    """Linear colour (B, N, 3) that leaves the surface towards the camera."""
    device = albedo_BN3.device
    normals_BN3, seen_BN, open_BN = surface.normals_BN3, surface.seen_BN, surface.open_BN
    lamp_B3 = _towards(lamps, albedo_BN3)
    colour_B3 = torch.tensor([lamp.colour for lamp in lamps], dtype=torch.float32, device=device)
    ambient_B3 = torch.tensor([lamp.ambient for lamp in lamps], dtype=torch.float32, device=device)
    facing = (normals_BN3 * lamp_B3[:, None]).sum(-1, keepdim=True)
    wrap = torch.tensor(WRAP, device=device)
    diffuse = ((facing + wrap) / (1 + wrap)).clamp_min(0) * (0.12 + 0.88 * seen_BN[..., None])
    sky = 0.75 + 0.25 * normals_BN3[..., 1:2]
    # Light bounced inside a fold has passed skin: its shade is warm.
    shade = open_BN[..., None] ** torch.tensor((0.8, 1.05, 1.15), device=device)
    around = ambient_B3[:, None] * sky * shade
    half = lamp_B3 + torch.tensor((0.0, 0.0, 1.0), device=device)
    half = half / half.norm(dim=-1, keepdim=True)
    shine = (normals_BN3 * half[:, None]).sum(-1).clamp_min(0) ** SHARPNESS
    shine = (shine * seen_BN * gloss_BN)[..., None] * colour_B3[:, None]
    shaded = diffuse * shade.sqrt() * colour_B3[:, None]
    return albedo_BN3 * (shaded + around) + GLOSS * shine

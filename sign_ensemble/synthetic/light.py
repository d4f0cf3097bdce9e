"""Light on a traced surface: soft shadow, ambient occlusion, diffuse and weak specular light.

Soft shadow and occlusion after Quilez ("Soft shadows in raymarched SDFs", "Multiresolution
ambient occlusion"): a few samples of the distance along the light and along the normal.

Letters: B scenes of a batch, X pixels, x of them shaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sign_ensemble.synthetic.shape import Shape
from sign_ensemble.synthetic.sparse_shading import SparseShading
from sign_ensemble.synthetic.trace import CHUNK, Patch, in_chunks, normals

SHADOW_STEPS = 6
SOFTNESS = 9.0  # a lamp about six degrees wide
OCCLUSION_MM = (3.0, 8.0, 18.0)
# Subsurface scattering, stronger in red: how far the diffuse term wraps beyond the shadow's edge.
WRAP = (0.32, 0.18, 0.14)
GLOSS, SHARPNESS = 0.035, 18.0


@dataclass(frozen=True)
class Lamp:
    """The light of one picture."""

    towards: tuple[float, float, float]  # unit direction from the hand to the lamp
    colour: tuple[float, float, float]  # linear red, green, blue of the lamp
    ambient: tuple[float, float, float]  # linear red, green, blue from everywhere


@dataclass(frozen=True)
class Surface:
    """The surface that pixels show, and the light that reaches it."""

    normals_BX3: Tensor  # unit outward normals
    nearest_BX: Tensor  # number of the nearest cone
    openness_BX: Tensor  # share of the surroundings that is visible, 0 to 1
    lamp_BX: Tensor  # share of the lamp that is visible, 0 to 1

    @classmethod
    def sampled(cls, shape: Shape, patch: Patch, lamps: list[Lamp], pixel_mm: float) -> Surface:
        """Computed sparsely where the surface is smooth; pixels are this wide."""
        z_BX = patch.points_BX3[..., 2]
        some = SparseShading.chosen(patch.rows_X, patch.columns_X, z_BX, pixel_mm)
        points_Bx3 = patch.points_BX3[:, some.chosen_x]
        normals_Bx3 = normals(shape, points_Bx3)
        smooth = torch.stack([some.spread(axis) for axis in normals_Bx3.unbind(-1)], -1)
        visible_Bx = lamp_visibility(shape, points_Bx3, normals_Bx3, _towards(lamps, z_BX))
        return cls(
            smooth / smooth.norm(dim=-1, keepdim=True).clamp_min(1e-9),
            nearest_cone(shape, patch.points_BX3),
            some.spread(openness(shape, points_Bx3, normals_Bx3)),
            some.spread(visible_Bx),
        )


def nearest_cone(shape: Shape, points_BX3: Tensor) -> Tensor:
    """Number of the cone nearest to each point (B, X)."""
    parts = points_BX3.split(CHUNK, 1)
    return torch.cat([shape.cone_distances(part).argmin(1) for part in parts], 1)


def _towards(lamps: list[Lamp], like: Tensor) -> Tensor:
    return torch.tensor([lamp.towards for lamp in lamps], dtype=torch.float32, device=like.device)


def lamp_visibility(
    shape: Shape, points_BX3: Tensor, normals_BX3: Tensor, lamp_B3: Tensor
) -> Tensor:
    """Share of the lamp that each point sees (B, X), 0 to 1."""
    facing = (normals_BX3 * lamp_B3[:, None]).sum(-1)
    some = (facing > -max(WRAP)).any(0).nonzero()[:, 0]  # the others are dark
    start = points_BX3[:, some] + 1.0 * normals_BX3[:, some]
    seen = torch.ones(start.shape[:2], device=start.device)
    along = torch.full_like(seen, 2.0)
    for _ in range(SHADOW_STEPS):
        distance = in_chunks(shape, start + along[..., None] * lamp_B3[:, None])
        seen = torch.minimum(seen, 0.5 + 0.5 * SOFTNESS * distance / along)
        along = along + distance.clamp(4.0, 30.0)
    seen = seen.clamp(0, 1)
    smooth = seen * seen * (3 - 2 * seen)
    return torch.ones_like(facing).index_copy(1, some, smooth)


def openness(shape: Shape, points_BX3: Tensor, normals_BX3: Tensor) -> Tensor:
    """Share of its surroundings that each point sees (B, X), 0 to 1."""
    hidden = torch.zeros(points_BX3.shape[:2], device=points_BX3.device)
    for mm in OCCLUSION_MM:
        distance = in_chunks(shape, points_BX3 + mm * normals_BX3)
        hidden += (1 - distance / mm).clamp_min(0) / len(OCCLUSION_MM)
    return (1 - 1.05 * hidden).clamp(0.05, 1)


def reflected(surface: Surface, albedo_BX3: Tensor, gloss_BX: Tensor, lamps: list[Lamp]) -> Tensor:
    """Linear colour (B, X, 3) that leaves the surface towards the camera."""
    device = albedo_BX3.device
    normals_BX3, visible_BX = surface.normals_BX3, surface.lamp_BX
    lamp_B3 = _towards(lamps, albedo_BX3)
    colour_B3 = torch.tensor([lamp.colour for lamp in lamps], dtype=torch.float32, device=device)
    ambient_B3 = torch.tensor([lamp.ambient for lamp in lamps], dtype=torch.float32, device=device)
    facing = (normals_BX3 * lamp_B3[:, None]).sum(-1, keepdim=True)
    wrap = torch.tensor(WRAP, device=device)
    diffuse = ((facing + wrap) / (1 + wrap)).clamp_min(0) * (0.12 + 0.88 * visible_BX[..., None])
    sky = 0.75 + 0.25 * normals_BX3[..., 1:2]
    # Light inside a fold has bounced off skin: its shade is warm.
    shade = surface.openness_BX[..., None] ** torch.tensor((0.8, 1.05, 1.15), device=device)
    around = ambient_B3[:, None] * sky * shade
    half = lamp_B3 + torch.tensor((0.0, 0.0, 1.0), device=device)
    half = half / half.norm(dim=-1, keepdim=True)
    shine = (normals_BX3 * half[:, None]).sum(-1).clamp_min(0) ** SHARPNESS
    shine = (shine * visible_BX * gloss_BX)[..., None] * colour_B3[:, None]
    shaded = diffuse * shade.sqrt() * colour_B3[:, None]
    return albedo_BX3 * (shaded + around) + GLOSS * shine

"""Sphere tracing: where each pixel's ray meets a shape, coarse blocks first.

A block's ray advances until the shape is nearer than the block is wide (cone marching, Seven et
al., 2012); only pixels of blocks that come that near are traced, from there on. The same code runs
on CPU and GPU; a batch shares its active pixels.

Letters: B scenes, N pixels, H and W the picture's sides in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sign_ensemble.data.synthetic.shape import Shape

BLOCK = 8  # pixels
BLOCK_STEPS = 28
STEPS = (6, 6, 8, 12, 20)  # after each round only rays that have not arrived go on
NEAR = 0.02  # millimetres; a twentieth of a pixel
CHUNK = 8192  # points at once on a CPU: their distances to all cones stay in its cache
EPSILON = 0.3  # millimetres between the four taps of a normal


@dataclass(frozen=True)
class Camera:
    """A pinhole on the z axis that looks at the origin.

    Args:
        width: Pixels.
        height: Pixels.
        distance: Millimetres from the origin.
        frame: Millimetres that the picture is high at the origin.
    """

    width: int
    height: int
    distance: float
    frame: float

    @property
    def pixel(self) -> float:
        """Width of a pixel at unit depth."""
        return self.frame / self.height / self.distance

    def rays(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Unit directions (N, 3) through these places of the picture."""
        x = (columns - (self.width - 1) / 2) * self.pixel
        y = ((self.height - 1) / 2 - rows) * self.pixel
        towards = torch.stack([x, y, -torch.ones_like(x)], -1)
        return towards / towards.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Hits:
    """Active pixels and what their rays meet.

    Args:
        rows_N: Pixel row.
        columns_N: Pixel column.
        points_BN3: Where the ray meets the shape or comes nearest to it, millimetres.
        cover_BN: Share of the pixel that the shape covers, 0 to 1.
    """

    rows_N: Tensor
    columns_N: Tensor
    points_BN3: Tensor
    cover_BN: Tensor


def in_chunks(shape: Shape, points_BN3: Tensor) -> Tensor:
    """Distances (B, N), a cacheful at a time on a CPU."""
    if points_BN3.is_cuda or points_BN3.shape[1] <= CHUNK:
        return shape.distance(points_BN3)
    return torch.cat([shape.distance(part) for part in points_BN3.split(CHUNK, 1)], 1)


def trace(shape: Shape, camera: Camera, reach: float) -> Hits:
    """Follow every pixel's ray.

    Args:
        shape: In the camera's coordinates, around the origin.
        camera: Where from.
        reach: Nothing is nearer to the camera than distance − reach, or further than + reach.
    """
    device = shape.a_BC3.device
    batch = shape.a_BC3.shape[0]
    near, far = camera.distance - reach, camera.distance + reach
    rows, columns = torch.meshgrid(
        torch.arange(BLOCK / 2 - 0.5, camera.height, BLOCK, device=device),
        torch.arange(BLOCK / 2 - 0.5, camera.width, BLOCK, device=device),
        indexing="ij",
    )
    across = rows.shape[1]
    rays = camera.rays(rows.flatten(), columns.flatten())
    origin = torch.tensor([0.0, 0.0, camera.distance], device=device)
    depth_BN = torch.full((batch, rows.numel()), near, device=device)
    widen = camera.pixel * BLOCK * 0.75  # from a block's middle to its corner and a little more
    for _ in range(BLOCK_STEPS):
        distance = in_chunks(shape, origin + depth_BN[..., None] * rays)
        free = distance - widen * depth_BN
        depth_BN = torch.where(free > 0, (depth_BN + free * 0.95).clamp_max(far), depth_BN)
    active = (depth_BN < far).any(0).nonzero()[:, 0]
    inside = torch.arange(BLOCK, device=device)
    rows_N = (active // across * BLOCK)[:, None, None] + inside[:, None]
    columns_N = (active % across * BLOCK)[:, None, None] + inside[None, :]
    rows_N, columns_N = (x.flatten() for x in torch.broadcast_tensors(rows_N, columns_N))
    depth_BN = depth_BN[:, active].repeat_interleave(BLOCK * BLOCK, 1)
    seen = (rows_N < camera.height) & (columns_N < camera.width)
    rows_N, columns_N, depth_BN = rows_N[seen], columns_N[seen], depth_BN[:, seen]
    rays_N3 = camera.rays(rows_N.float(), columns_N.float())
    parts = [
        _arrive(shape, origin, rays, depth, camera.pixel, far)
        for rays, depth in zip(
            rays_N3.split(_chunk(rays_N3)), depth_BN.split(_chunk(rays_N3), 1), strict=True
        )
    ]
    if not parts:
        empty = torch.zeros(batch, 0, device=device)
        return Hits(rows_N, columns_N, empty[..., None].expand(-1, -1, 3), empty)
    depth_BN, cover_BN = (torch.cat(x, 1) for x in zip(*parts, strict=True))
    return Hits(rows_N, columns_N, origin + depth_BN[..., None] * rays_N3, cover_BN)


def _chunk(rays_N3: Tensor) -> int:
    return max(1, rays_N3.shape[0]) if rays_N3.is_cuda else CHUNK


def _arrive(
    shape: Shape, origin: Tensor, rays_N3: Tensor, depth_BN: Tensor, pixel: float, far: float
) -> tuple[Tensor, Tensor]:
    """Depth and cover (B, N) of some pixels."""
    state = _State(depth_BN, depth_BN, torch.full_like(depth_BN, 1e6), depth_BN)
    going = torch.arange(len(rays_N3), device=rays_N3.device)
    for steps in STEPS:
        some = _State(*(x[:, going] for x in state.all()))
        some = _march(shape, origin, rays_N3[going], some, pixel, far, steps)
        state = _State(
            *(x.index_copy(1, going, y) for x, y in zip(state.all(), some.all(), strict=True))
        )
        going = ((state.distance > NEAR) & (state.depth < far)).any(0).nonzero()[:, 0]
        if not len(going):
            break
    hit = (state.distance <= 1.0) & (state.depth < far)  # what still grazes is as good as there
    cover = (1 - state.nearest).clamp(0, 1)
    return torch.where(hit, state.depth, state.nearest_at), cover.masked_fill(hit, 1.0)


@dataclass(frozen=True)
class _State:
    """Rays under way (B, N): depth, distance to the shape, the least one in pixels and where."""

    depth: Tensor
    distance: Tensor
    nearest: Tensor
    nearest_at: Tensor

    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.depth, self.distance, self.nearest, self.nearest_at


def _march(
    shape: Shape,
    origin: Tensor,
    rays_N3: Tensor,
    state: _State,
    pixel: float,
    far: float,
    steps: int,
) -> _State:
    """Some steps along each ray, each as long as the shape is far."""
    depth, distance, nearest, nearest_at = state.all()
    for _ in range(steps):
        distance = shape.distance(origin + depth[..., None] * rays_N3)
        apart = distance / (pixel * depth)
        nearest_at = torch.where(apart < nearest, depth, nearest_at)
        nearest = torch.minimum(apart, nearest)
        depth = (depth + 0.97 * distance).clamp_max(far)
    return _State(depth, distance, nearest, nearest_at)


def normals(shape: Shape, points_BN3: Tensor) -> Tensor:
    """Unit outward normals (B, N, 3) from four taps at a tetrahedron's corners (Quilez)."""
    corners = torch.tensor(
        [[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], device=points_BN3.device
    )
    total = torch.zeros_like(points_BN3)
    for corner in corners:
        total += in_chunks(shape, points_BN3 + EPSILON * corner)[..., None] * corner
    return total / total.norm(dim=-1, keepdim=True).clamp_min(1e-9)

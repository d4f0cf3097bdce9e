"""Sphere tracing: where each pixel's ray meets a shape, coarse blocks first, tile by tile.

A block's ray advances until the shape is nearer than the block is wide (cone marching, Seven et
al., 2012); only pixels of blocks that come that near are traced, from there on, and only against
the cones near their tile. The same code runs on CPU and GPU; a batch shares its active pixels.

Letters: B scenes, N pixels or blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sign_ensemble.data.synthetic.shape import Shape

TILE = 128  # pixels; small enough that few cones are near, large enough for long vectors
BLOCK = 8  # pixels of the coarsest blocks
FINER = (2, 1)  # sides of the blocks after them
BLOCK_STEPS, FINER_STEPS = 16, 4
STEPS = (4, 3)  # in each tile; after each round only rays that have not arrived go on
LAST_STEPS = (6, 8, 16)  # for those of all tiles: they graze an edge or pass between fingers
SAMPLES = 6  # points on a cone's axis when asking whether it is near
MARGIN = 26.0  # millimetres; more than any melting and than occlusion looks far
NEAR = 0.02  # millimetres; a twentieth of a pixel
GRAZE = 0.5  # millimetres; a ray still this near after its last step is taken as arrived
CHUNK = 8192  # points at once on a CPU: their distances to all cones stay in its cache
EPSILON = 0.3  # millimetres between the four taps of a normal

Blocks = tuple[Tensor, Tensor, Tensor]  # middle row, middle column (N,), clear depth (B, N)


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

    def origin(self, like: Tensor) -> Tensor:
        """Where the pinhole is (3,)."""
        return torch.tensor([0.0, 0.0, self.distance], device=like.device)


@dataclass(frozen=True)
class Patch:
    """A tile's pixels that the shape covers, wholly or in part.

    Args:
        rows_N: Pixel row.
        columns_N: Pixel column.
        points_BN3: Where the ray meets the shape or comes nearest to it, millimetres.
        cover_BN: Share of the pixel that the shape covers, 0 to 1.
        shape: What of the shape is near.
        cones: The numbers of that shape's cones in the whole one.
    """

    rows_N: Tensor
    columns_N: Tensor
    points_BN3: Tensor
    cover_BN: Tensor
    shape: Shape
    cones: list[int]


def in_chunks(shape: Shape, points_BN3: Tensor) -> Tensor:
    """Distances (B, N), a cacheful at a time on a CPU."""
    if points_BN3.is_cuda or points_BN3.shape[1] <= CHUNK:
        return shape.distance(points_BN3)
    return torch.cat([shape.distance(part) for part in points_BN3.split(CHUNK, 1)], 1)


def trace(shape: Shape, camera: Camera) -> list[Patch]:
    """Follow every pixel's ray.

    Args:
        shape: In the camera's coordinates, around the origin.
        camera: Where from.
    """
    device = shape.a_BC3.device
    ends_z = torch.stack([shape.a_BC3[..., 2], shape.b_BC3[..., 2]], -1)
    near = max(20.0, camera.distance - float((ends_z + shape.radii_BC2).max()) - 5)
    far = camera.distance - float((ends_z - shape.radii_BC2).min()) + 5
    rows, columns = torch.meshgrid(
        torch.arange(BLOCK / 2 - 0.5, camera.height, BLOCK, device=device),
        torch.arange(BLOCK / 2 - 0.5, camera.width, BLOCK, device=device),
        indexing="ij",
    )
    rows, columns = rows.flatten(), columns.flatten()
    depth_BN = torch.full((shape.a_BC3.shape[0], len(rows)), near, device=device)
    depth_BN = _clear(shape, camera, (rows, columns, depth_BN), BLOCK, far, BLOCK_STEPS)
    active = (depth_BN < far).any(0)
    blocks = _those((rows, columns, depth_BN), active)
    tile = (blocks[0] // TILE) * 10_000 + blocks[1] // TILE
    traced = []
    for number in tile.unique():
        here = _those(blocks, tile == number)
        cones = _near(shape, camera, here[0], here[1])
        if not cones:
            continue
        near_shape = shape.only(cones)
        for side in FINER:
            here = _finer(near_shape, camera, here, side, far)
        if len(here[0]):
            rays = _Rays.at(here).marched(near_shape, camera, far, STEPS)
            traced.append((rays, near_shape, cones))
    if not traced:
        return []
    rays = _Rays.joined([rays for rays, _, _ in traced]).marched(shape, camera, far, LAST_STEPS)
    parts = rays.split([len(part.rows_N) for part, _, _ in traced])
    return [
        rays.patch(camera, far, near_shape, cones)
        for rays, (_, near_shape, cones) in zip(parts, traced, strict=True)
    ]


def _those(blocks: Blocks, chosen: Tensor) -> Blocks:
    rows, columns, depth_BN = blocks
    return rows[chosen], columns[chosen], depth_BN[:, chosen]


def _clear(
    shape: Shape, camera: Camera, blocks: Blocks, side: int, far: float, steps: int
) -> Tensor:
    """Depth (B, N) up to which blocks of pixels meet nothing; far where they never do."""
    rows, columns, depth_BN = blocks
    rays_N3 = camera.rays(rows, columns)
    origin = camera.origin(rays_N3)
    widen = camera.pixel * (side * 0.75 + 1)  # from a block's middle past its corner
    for _ in range(steps):
        distance = in_chunks(shape, origin + depth_BN[..., None] * rays_N3)
        free = distance - widen * depth_BN
        depth_BN = torch.where(free > 0, (depth_BN + free * 0.97).clamp_max(far), depth_BN)
    return depth_BN


def _finer(shape: Shape, camera: Camera, blocks: Blocks, side: int, far: float) -> Blocks:
    """Blocks split into smaller ones of this side, without those that meet nothing.

    A side of 1 is pixels, which are split off and not looked at.
    """
    rows, columns, depth_BN = blocks
    parts = BLOCK // FINER[0] if side == FINER[0] else FINER[0]
    offset = (torch.arange(parts, device=rows.device) - (parts - 1) / 2) * side
    rows = (rows[:, None, None] + offset[:, None]).expand(-1, parts, parts).flatten()
    columns = (columns[:, None, None] + offset[None, :]).expand(-1, parts, parts).flatten()
    depth_BN = depth_BN.repeat_interleave(parts * parts, 1)
    keep = (rows < camera.height) & (columns < camera.width)
    if side > 1:
        depth_BN = _clear(shape, camera, (rows, columns, depth_BN), side, far, FINER_STEPS)
        keep = keep & (depth_BN < far).any(0)
    return _those((rows, columns, depth_BN), keep)


def _near(shape: Shape, camera: Camera, rows: Tensor, columns: Tensor) -> list[int]:
    """Numbers of the cones that these blocks' pixels may see, or whose melting shows there."""
    ray = camera.rays(
        (rows.min() + rows.max())[None] / 2, (columns.min() + columns.max())[None] / 2
    )[0]
    half = torch.hypot(rows.max() - rows.min() + BLOCK, columns.max() - columns.min() + BLOCK) / 2
    axis_BC3 = shape.b_BC3 - shape.a_BC3
    share = torch.linspace(0, 1, SAMPLES, device=rows.device)[:, None]
    points = shape.a_BC3[:, :, None] + share * axis_BC3[:, :, None] - camera.origin(rows)
    depth = points @ ray
    apart = (points - depth[..., None] * ray).norm(dim=-1)
    wide = half * camera.pixel * depth * 1.1
    radius = shape.radii_BC2.max(-1).values[..., None]
    gap = axis_BC3.norm(dim=-1)[..., None] / (2 * (SAMPLES - 1))
    close = (apart < wide + radius + gap + MARGIN).any(-1).any(0)
    found: list[int] = close.nonzero()[:, 0].tolist()
    return found


@dataclass(frozen=True)
class _Rays:
    """Rays under way.

    Args:
        rows_N: Pixel row.
        columns_N: Pixel column.
        state_4BN: Depth, distance to the shape there (mm), the least distance so far in pixels,
            and the depth where it was.
    """

    rows_N: Tensor
    columns_N: Tensor
    state_4BN: Tensor

    @classmethod
    def at(cls, pixels: Blocks) -> _Rays:
        """Pixels' rays at their clear depth."""
        rows, columns, depth = pixels
        far_off = torch.full_like(depth, 1e6)
        return cls(rows, columns, torch.stack([depth, far_off, far_off, depth]))

    @classmethod
    def joined(cls, parts: list[_Rays]) -> _Rays:
        """All parts' rays, one after another."""
        return cls(
            torch.cat([p.rows_N for p in parts]),
            torch.cat([p.columns_N for p in parts]),
            torch.cat([p.state_4BN for p in parts], 2),
        )

    def split(self, counts: list[int]) -> list[_Rays]:
        """The parts again."""
        return [
            _Rays(*part)
            for part in zip(
                self.rows_N.split(counts),
                self.columns_N.split(counts),
                self.state_4BN.split(counts, 2),
                strict=True,
            )
        ]

    def marched(self, shape: Shape, camera: Camera, far: float, rounds: tuple[int, ...]) -> _Rays:
        """The rays further on; those that have arrived or passed rest."""
        rays_N3 = camera.rays(self.rows_N, self.columns_N)
        origin = camera.origin(rays_N3)
        state = self.state_4BN
        for steps in rounds:
            depth, distance, nearest, nearest_at = state
            going = ((distance > NEAR) & (depth < far)).any(0).nonzero()[:, 0]
            if not len(going):
                break
            some_N3 = rays_N3[going]
            depth, distance, nearest, nearest_at = state[:, :, going]
            for _ in range(steps):
                distance = in_chunks(shape, origin + depth[..., None] * some_N3)
                apart = distance / (camera.pixel * depth)
                nearest_at = torch.where(apart < nearest, depth, nearest_at)
                nearest = torch.minimum(apart, nearest)
                depth = (depth + 0.97 * distance).clamp_max(far)
            moved = torch.stack([depth, distance, nearest, nearest_at])
            state = state.index_copy(2, going, moved)
        return _Rays(self.rows_N, self.columns_N, state)

    def patch(self, camera: Camera, far: float, shape: Shape, cones: list[int]) -> Patch:
        """What the rays have met."""
        depth, distance, nearest, nearest_at = self.state_4BN
        hit = (distance <= GRAZE) & (depth < far)
        cover = (1 - nearest).clamp(0, 1).masked_fill(hit, 1.0)
        depth = torch.where(hit, depth, nearest_at)
        touched = (cover > 0).any(0).nonzero()[:, 0]
        rays_N3 = camera.rays(self.rows_N[touched], self.columns_N[touched])
        return Patch(
            self.rows_N[touched].long(),
            self.columns_N[touched].long(),
            camera.origin(rays_N3) + depth[:, touched, None] * rays_N3,
            cover[:, touched],
            shape,
            cones,
        )


def normals(shape: Shape, points_BN3: Tensor) -> Tensor:
    """Unit outward normals (B, N, 3) from four taps at a tetrahedron's corners (Quilez)."""
    corners = torch.tensor(
        [[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], device=points_BN3.device
    )
    total = torch.zeros_like(points_BN3)
    for corner in corners:
        total += in_chunks(shape, points_BN3 + EPSILON * corner)[..., None] * corner
    return total / total.norm(dim=-1, keepdim=True).clamp_min(1e-9)

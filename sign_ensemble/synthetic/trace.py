"""Sphere tracing: where each pixel's ray meets a shape, coarse blocks first.

A block's ray advances until the shape is nearer than the block is wide (cone marching, Seven et
al., 2012); only pixels of blocks that come that near are traced, from there on. Where four pixels'
middles see a smooth surface the pixels lie between them; the others are traced one by one. The same
code runs on CPU and GPU; a batch shares its active pixels.

Letters: B scenes, N pixels or blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sign_ensemble.synthetic.shape import Shape

BLOCK = 8  # pixels of the coarsest blocks
FINER = (2, 1)  # sides of the blocks after them
BLOCK_STEPS, FINER_STEPS = 16, 4
FALL = 3.5  # millimetres over three blocks of pixels; below, a surface is smooth
MIDDLE_STEPS = (3, 2)  # after each round only rays that have not arrived go on
STEPS = (3, 2, 3, 5, 8, 12, 20)  # the last ones graze an edge or pass between fingers
NEAR = 0.05  # millimetres; a tenth of a pixel, before a last step
GLIDE = 0.8  # pixels
STEADY = 0.4  # a ray's distance falls by at least this share of its way; less is grazing
GRAZE = 2.5  # millimetres; a ray still this near after its last step is deep in a fold: arrived
CHUNK = 16384  # points at once on a CPU; more leave its cache
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
    """The pixels that the shape covers, or is beside.

    Args:
        rows_N: Pixel row.
        columns_N: Pixel column.
        points_BN3: Where the ray meets the shape or comes nearest to it, millimetres.
        cover_BN: How opaque the shape is there: 1 where the ray meets it, falling to 0 over one
            pixel outside its silhouette.
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


def trace(shape: Shape, camera: Camera) -> Patch | None:
    """Follow every pixel's ray.

    Args:
        shape: In the camera's coordinates, around the origin.
        camera: Where from.

    Returns:
        The pixels that the shape covers; None if it is out of the picture.
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
    blocks = _those((rows, columns, depth_BN), (depth_BN < far).any(0))
    pairs = _finer(shape, camera, blocks, FINER[0], far)
    pixels = _finer(shape, camera, pairs, FINER[1], far)
    if not len(pixels[0]):
        return None
    middles = _Rays.at(pairs).marched(shape, camera, far, MIDDLE_STEPS)
    rays = _Rays.at(pixels).between(middles).marched(shape, camera, far, STEPS)
    return rays.patch(camera, far)


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
    target_coverage = (rows < camera.height) & (columns < camera.width)
    if side > 1:
        depth_BN = _clear(shape, camera, (rows, columns, depth_BN), side, far, FINER_STEPS)
        target_coverage = target_coverage & (depth_BN < far).any(0)
    return _those((rows, columns, depth_BN), target_coverage)


@dataclass(frozen=True)
class _Rays:
    """Rays under way.

    Args:
        rows_N: Pixel row.
        columns_N: Pixel column.
        state_5BN: Depth, distance to the shape one step before (mm), that step (mm), the least
            distance so far in pixels, and the depth where it was.
    """

    rows_N: Tensor
    columns_N: Tensor
    state_5BN: Tensor

    @classmethod
    def at(cls, pixels: Blocks) -> _Rays:
        """Pixels' rays at their clear depth, with a past that makes the first step the distance."""
        rows, columns, depth = pixels
        far_off = torch.full_like(depth, 1e6)
        return cls(rows, columns, torch.stack([depth, far_off, depth, far_off, depth]))

    def between(self, middles: _Rays) -> _Rays:
        """Pixels' rays, those of smooth places having arrived between blocks' middles."""
        top, left = middles.rows_N.min(), middles.columns_N.min()
        rows = ((middles.rows_N - top) / FINER[0]).long()
        columns = ((middles.columns_N - left) / FINER[0]).long()
        depth_BN, distance_BN = middles.state_5BN[:2]
        size = (2, len(depth_BN), int(rows.max()) + 1, int(columns.max()) + 1)
        image = torch.full(size, 1e4, device=rows.device)
        both = torch.stack([depth_BN, -depth_BN])
        image[:, :, rows, columns] = torch.where(distance_BN.abs() <= NEAR, both, 1e4)
        most, least = torch.nn.functional.max_pool2d(
            torch.nn.functional.pad(image, (1,) * 4, value=1e4), 3, 1
        )
        smooth = (most + least < FALL).all(0)
        finer = torch.nn.functional.interpolate(
            image[:1], scale_factor=FINER[0], mode="bilinear", align_corners=False
        )[0]
        rows = (self.rows_N - top + (FINER[0] - 1) / 2).round().long()
        columns = (self.columns_N - left + (FINER[0] - 1) / 2).round().long()
        there_N = smooth[rows // FINER[0], columns // FINER[0]]
        depth_BN = finer[:, rows, columns]
        still = torch.zeros_like(depth_BN)
        settled = torch.stack([depth_BN, still, still, still, depth_BN])
        return _Rays(self.rows_N, self.columns_N, torch.where(there_N, settled, self.state_5BN))

    def marched(self, shape: Shape, camera: Camera, far: float, rounds: tuple[int, ...]) -> _Rays:
        """The rays further on; those that have arrived or passed rest."""
        rays_N3 = camera.rays(self.rows_N, self.columns_N)
        origin = camera.origin(rays_N3)
        state = self.state_5BN
        for steps in rounds:
            depth, distance = state[:2]
            going = ((distance.abs() > NEAR) & (depth < far)).any(0).nonzero()[:, 0]
            if not len(going):
                break
            some_N3 = rays_N3[going]
            depth, distance, step, nearest, nearest_at = state[:, :, going]
            for _ in range(steps):
                before, distance = distance, in_chunks(shape, origin + depth[..., None] * some_N3)
                apart = distance / (camera.pixel * depth)
                nearest_at = torch.where(apart < nearest, depth, nearest_at)
                nearest = torch.minimum(apart, nearest)
                slope = ((before - distance) / step).nan_to_num_(1.0)  # a step of 0 has arrived
                # Where the surface comes nearer steadily, to where a flat one would be met;
                # beside a surface, at least some of a pixel.
                least = GLIDE * camera.pixel * depth
                along = torch.where(distance > NEAR, torch.maximum(distance, least), distance)
                step = torch.where(slope < STEADY, along, distance / slope.clamp(STEADY, 1.0))
                depth = (depth + step).clamp_max(far)
            moved = torch.stack([depth, distance, step, nearest, nearest_at])
            state = state.index_copy(2, going, moved)
        return _Rays(self.rows_N, self.columns_N, state)

    def patch(self, camera: Camera, far: float) -> Patch | None:
        """What the rays have met."""
        depth, distance, _, nearest, nearest_at = self.state_5BN
        hit = (distance <= GRAZE) & (depth < far)
        cover = (1 - nearest).clamp(0, 1).masked_fill(hit, 1.0)
        depth = torch.where(hit, depth, nearest_at)
        touched = (cover > 0).any(0).nonzero()[:, 0]
        if not len(touched):
            return None
        rays_N3 = camera.rays(self.rows_N[touched], self.columns_N[touched])
        return Patch(
            self.rows_N[touched].long(),
            self.columns_N[touched].long(),
            camera.origin(rays_N3) + depth[:, touched, None] * rays_N3,
            cover[:, touched],
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

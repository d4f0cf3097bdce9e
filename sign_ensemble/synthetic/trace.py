"""Sphere tracing: where each pixel's ray meets a shape.

Blocks of pixels come first (cone marching, Seven et al., 2012): a block's ray advances until the
shape is nearer than the block is wide, and only pixels of blocks that come that near are traced.
Where the middles of 2 × 2 pixels see a smooth surface, depths are interpolated between them; the
other pixels are traced one by one. A batch shares its active pixels.

Letters: B scenes of a batch, X pixels or blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sign_ensemble.synthetic.shape import Shape

BLOCK, FINE = 8, 2  # pixels along the side of the coarsest blocks, and of the next ones
BLOCK_STEPS, FINE_STEPS = 16, 4
SMOOTH_MM = 3.5  # depth range over three blocks below which a surface is smooth
MIDDLE_STEPS = (3, 2)  # after each round only rays that have not arrived go on
STEPS = (3, 2, 3, 5, 8, 12, 20)  # the last ones graze an edge or pass between fingers
ARRIVED_MM = 0.05  # a tenth of a pixel, before a last step
MIN_STEP = 0.8  # pixels
MIN_SLOPE = 0.4  # decrease of the distance per step length; less is grazing
HIT_MM = 2.5  # a ray this near after its last step is deep in a fold, and counts as a hit
CHUNK = 16384  # points at once on a CPU; more leave its cache
EPSILON = 0.3  # millimetres between the four taps of a normal

Blocks = tuple[Tensor, Tensor, Tensor]  # middle row, middle column (X,), clear depth (B, X)


@dataclass(frozen=True)
class Camera:
    """A pinhole on the z axis that looks at the origin."""

    width: int  # pixels
    height: int  # pixels
    distance: float  # millimetres from the origin
    frame: float  # millimetres that the picture is high at the origin

    @property
    def pixel(self) -> float:
        """Width of a pixel at unit depth."""
        return self.frame / self.height / self.distance

    def rays(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Unit directions (X, 3) through these positions of the picture."""
        x = (columns - (self.width - 1) / 2) * self.pixel
        y = ((self.height - 1) / 2 - rows) * self.pixel
        towards = torch.stack([x, y, -torch.ones_like(x)], -1)
        return towards / towards.norm(dim=-1, keepdim=True)

    def origin(self, like: Tensor) -> Tensor:
        """Position of the pinhole (3,)."""
        return torch.tensor([0.0, 0.0, self.distance], device=like.device)


@dataclass(frozen=True)
class Patch:
    """The pixels that the shape covers or touches."""

    rows_X: Tensor  # pixel row
    columns_X: Tensor  # pixel column
    points_BX3: Tensor  # where the ray meets the shape or comes nearest to it, millimetres
    cover_BX: Tensor  # opacity: 1 on the shape, falling to 0 over one pixel outside its silhouette


def in_chunks(shape: Shape, points_BX3: Tensor) -> Tensor:
    """Distances (B, X), in parts that fit a CPU's cache."""
    if points_BX3.is_cuda or points_BX3.shape[1] <= CHUNK:
        return shape.distance(points_BX3)
    return torch.cat([shape.distance(part) for part in points_BX3.split(CHUNK, 1)], 1)


def trace(shape: Shape, camera: Camera) -> Patch | None:
    """The pixels that a shape around the origin covers; None if it is out of the picture."""
    device = shape.a_BY3.device
    ends_z = torch.stack([shape.a_BY3[..., 2], shape.b_BY3[..., 2]], -1)
    near = max(20.0, camera.distance - float((ends_z + shape.radii_BY2).max()) - 5)
    far = camera.distance - float((ends_z - shape.radii_BY2).min()) + 5
    rows, columns = torch.meshgrid(
        torch.arange(BLOCK / 2 - 0.5, camera.height, BLOCK, device=device),
        torch.arange(BLOCK / 2 - 0.5, camera.width, BLOCK, device=device),
        indexing="ij",
    )
    rows, columns = rows.flatten(), columns.flatten()
    depth_BX = torch.full((shape.a_BY3.shape[0], len(rows)), near, device=device)
    depth_BX = _clear_depth(shape, camera, (rows, columns, depth_BX), BLOCK, far, BLOCK_STEPS)
    blocks = _selected((rows, columns, depth_BX), (depth_BX < far).any(0))
    pairs = _split(shape, camera, blocks, FINE, far)
    pixels = _split(shape, camera, pairs, 1, far)
    if not len(pixels[0]):
        return None
    middles = _Rays.at(pairs).marched(shape, camera, far, MIDDLE_STEPS)
    rays = _Rays.at(pixels).interpolated(middles).marched(shape, camera, far, STEPS)
    return rays.patch(camera, far)


def _selected(blocks: Blocks, chosen: Tensor) -> Blocks:
    rows, columns, depth_BX = blocks
    return rows[chosen], columns[chosen], depth_BX[:, chosen]


def _clear_depth(
    shape: Shape, camera: Camera, blocks: Blocks, side: int, far: float, steps: int
) -> Tensor:
    """Depth (B, X) up to which blocks of pixels meet nothing; ``far`` where they never do."""
    rows, columns, depth_BX = blocks
    rays_X3 = camera.rays(rows, columns)
    origin = camera.origin(rays_X3)
    widen = camera.pixel * (side * 0.75 + 1)  # from a block's middle past its corner
    for _ in range(steps):
        distance = in_chunks(shape, origin + depth_BX[..., None] * rays_X3)
        free = distance - widen * depth_BX
        depth_BX = torch.where(free > 0, (depth_BX + free * 0.97).clamp_max(far), depth_BX)
    return depth_BX


def _split(shape: Shape, camera: Camera, blocks: Blocks, side: int, far: float) -> Blocks:
    """Blocks split into smaller ones of this side, without those that meet nothing.

    Pixels (a side of 1) are all kept.
    """
    rows, columns, depth_BX = blocks
    parts = BLOCK // FINE if side == FINE else FINE
    offset = (torch.arange(parts, device=rows.device) - (parts - 1) / 2) * side
    rows = (rows[:, None, None] + offset[:, None]).expand(-1, parts, parts).flatten()
    columns = (columns[:, None, None] + offset[None, :]).expand(-1, parts, parts).flatten()
    depth_BX = depth_BX.repeat_interleave(parts * parts, 1)
    kept = (rows < camera.height) & (columns < camera.width)
    if side > 1:
        depth_BX = _clear_depth(shape, camera, (rows, columns, depth_BX), side, far, FINE_STEPS)
        kept = kept & (depth_BX < far).any(0)
    return _selected((rows, columns, depth_BX), kept)


@dataclass(frozen=True)
class _Rays:
    """Rays and how far they have marched."""

    rows_X: Tensor  # pixel row
    columns_X: Tensor  # pixel column
    # Depth, the previous distance to the shape (mm), the previous step (mm), the least distance so
    # far (pixels), and the depth where it was.
    state_5BX: Tensor

    @classmethod
    def at(cls, pixels: Blocks) -> _Rays:
        """Pixels' rays at their clear depth; the first step is the distance."""
        rows, columns, depth = pixels
        far_off = torch.full_like(depth, 1e6)
        return cls(rows, columns, torch.stack([depth, far_off, depth, far_off, depth]))

    def interpolated(self, middles: _Rays) -> _Rays:
        """Pixels' rays; where the surface is smooth, at depths interpolated between the blocks'
        middles.
        """
        top, left = middles.rows_X.min(), middles.columns_X.min()
        rows = ((middles.rows_X - top) / FINE).long()
        columns = ((middles.columns_X - left) / FINE).long()
        depth_BX, distance_BX = middles.state_5BX[:2]
        size = (2, len(depth_BX), int(rows.max()) + 1, int(columns.max()) + 1)
        image = torch.full(size, 1e4, device=rows.device)
        both = torch.stack([depth_BX, -depth_BX])
        image[:, :, rows, columns] = torch.where(distance_BX.abs() <= ARRIVED_MM, both, 1e4)
        most, least = torch.nn.functional.max_pool2d(
            torch.nn.functional.pad(image, (1,) * 4, value=1e4), 3, 1
        )
        smooth = (most + least < SMOOTH_MM).all(0)
        finer = torch.nn.functional.interpolate(
            image[:1], scale_factor=FINE, mode="bilinear", align_corners=False
        )[0]
        rows = (self.rows_X - top + (FINE - 1) / 2).round().long()
        columns = (self.columns_X - left + (FINE - 1) / 2).round().long()
        smooth_X = smooth[rows // FINE, columns // FINE]
        depth_BX = finer[:, rows, columns]
        zero = torch.zeros_like(depth_BX)
        arrived = torch.stack([depth_BX, zero, zero, zero, depth_BX])
        return _Rays(self.rows_X, self.columns_X, torch.where(smooth_X, arrived, self.state_5BX))

    def marched(self, shape: Shape, camera: Camera, far: float, rounds: tuple[int, ...]) -> _Rays:
        """The rays after more steps; those that have arrived or passed the shape rest."""
        rays_X3 = camera.rays(self.rows_X, self.columns_X)
        origin = camera.origin(rays_X3)
        state = self.state_5BX
        for steps in rounds:
            depth, distance = state[:2]
            going = ((distance.abs() > ARRIVED_MM) & (depth < far)).any(0).nonzero()[:, 0]
            if not len(going):
                break
            some_X3 = rays_X3[going]
            depth, distance, step, nearest, nearest_at = state[:, :, going]
            for _ in range(steps):
                before, distance = distance, in_chunks(shape, origin + depth[..., None] * some_X3)
                pixels_off = distance / (camera.pixel * depth)
                nearest_at = torch.where(pixels_off < nearest, depth, nearest_at)
                nearest = torch.minimum(pixels_off, nearest)
                slope = ((before - distance) / step).nan_to_num_(1.0)  # a step of 0 has arrived
                # Where the distance falls steadily, step to where a flat surface would be met;
                # along a surface, step at least part of a pixel.
                least = MIN_STEP * camera.pixel * depth
                along = torch.where(distance > ARRIVED_MM, torch.maximum(distance, least), distance)
                step = torch.where(slope < MIN_SLOPE, along, distance / slope.clamp(MIN_SLOPE, 1.0))
                depth = (depth + step).clamp_max(far)
            moved = torch.stack([depth, distance, step, nearest, nearest_at])
            state = state.index_copy(2, going, moved)
        return _Rays(self.rows_X, self.columns_X, state)

    def patch(self, camera: Camera, far: float) -> Patch | None:
        """Points and cover of the pixels whose rays hit or touch the shape."""
        depth, distance, _, nearest, nearest_at = self.state_5BX
        hit = (distance <= HIT_MM) & (depth < far)
        cover = (1 - nearest).clamp(0, 1).masked_fill(hit, 1.0)
        depth = torch.where(hit, depth, nearest_at)
        touched = (cover > 0).any(0).nonzero()[:, 0]
        if not len(touched):
            return None
        rays_X3 = camera.rays(self.rows_X[touched], self.columns_X[touched])
        return Patch(
            self.rows_X[touched].long(),
            self.columns_X[touched].long(),
            camera.origin(rays_X3) + depth[:, touched, None] * rays_X3,
            cover[:, touched],
        )


def normals(shape: Shape, points_BX3: Tensor) -> Tensor:
    """Unit outward normals (B, X, 3) from four taps at a tetrahedron's corners (Quilez)."""
    corners = torch.tensor(
        [[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], device=points_BX3.device
    )
    total = torch.zeros_like(points_BX3)
    for corner in corners:
        total += in_chunks(shape, points_BX3 + EPSILON * corner)[..., None] * corner
    return total / total.norm(dim=-1, keepdim=True).clamp_min(1e-9)

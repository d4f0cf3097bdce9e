"""Tracing and light against shapes whose surface is known.

Letters: B scenes of a batch, Y cones, X pixels or points.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_fill_holes
from scipy.ndimage import label as label_parts

from sign_ensemble.synthetic.picture_set import Picture, Recipe, scene_of
from sign_ensemble.synthetic.shape import CREASE, Limb, Shape
from sign_ensemble.synthetic.sparse_shading import SparseShading
from sign_ensemble.synthetic.trace import Camera, Patch, normals, trace

CAMERA = Camera(160, 120, 700.0, 120.0)  # a millimetre a pixel
LENS = torch.tensor([0.0, 0.0, 700.0])


def balls(*balls: tuple[tuple[float, float, float], float]) -> Shape:
    """Balls by centre and radius in one scene."""
    middles = torch.tensor([[middle for middle, _ in balls]])
    radii = torch.tensor([[(radius, radius) for _, radius in balls]])
    limbs = tuple(Limb(((n, 1.0),)) for n in range(len(balls)))
    return Shape(middles, middles + 1e-3, radii, limbs, (0,) * len(balls))


def traced(shape: Shape, camera: Camera = CAMERA) -> Patch:
    patch = trace(shape, camera)
    assert patch is not None
    return patch


@pytest.mark.parametrize("radius", [3.0, 12.0, 40.0])
@pytest.mark.parametrize("middle", [(0.0, 0.0, 0.0), (9.3, -14.6, 20.0)])
def test_a_ball_is_where_it_is(radius: float, middle: tuple[float, float, float]) -> None:
    patch = traced(balls((middle, radius)))
    outward_X3 = patch.points_BX3[0] - torch.tensor(middle)
    inner_X = patch.cover_BX[0] == 1
    facing_X = ((outward_X3 / radius) * (LENS - patch.points_BX3[0])).sum(-1) / 700
    clear_X = inner_X & (facing_X > 0.3)  # nearly all: the rest grazes
    off_X = (outward_X3.norm(dim=-1) - radius).abs()
    assert off_X[clear_X].max() < 0.1
    away = 700 - middle[2]
    seen = 700 * radius / np.sqrt(away**2 - radius**2)  # the cone it is seen in, pixels
    soft = np.pi * (seen**2 + seen + 1 / 3)  # cover falls to 0 over the pixel outside
    assert float(patch.cover_BX.sum()) == pytest.approx(soft, rel=0.02, abs=radius)
    found_X3 = normals(balls((middle, radius)), patch.points_BX3)[0]
    assert (found_X3 - outward_X3 / radius)[clear_X].norm(dim=-1).max() < 0.06


def test_the_nearer_ball_hides_the_other() -> None:
    patch = traced(balls(((0.0, 0.0, 40.0), 15.0), ((8.0, 0.0, -40.0), 25.0)))
    near = patch.points_BX3[0, :, 2] > 0
    at = (patch.rows_X - 59.5) ** 2 + (patch.columns_X - 79.5) ** 2
    disc = 15 * 700 / 660
    assert near[at < (disc - 1) ** 2].all()
    assert not near[at > (disc + 1) ** 2].any()


def test_limbs_grow_as_if_each_were_joined_by_itself() -> None:
    """Grouped or not, evenly numbered or not, with other blends: the same distances."""
    rng = torch.Generator().manual_seed(3)
    a_BY3, b_BY3 = 40 * torch.randn(2, 1, 12, 3, generator=rng)
    radii_BY2 = 5 + 5 * torch.rand(1, 12, 2, generator=rng)
    limbs = (
        Limb(((0, 9.0), (1, 9.0))),
        Limb(()),  # where a sleeve would be
        Limb(((2, 6.0), (3, 2.5)), 0),
        Limb(((5, 8.0), (4, 3.0)), 0),
        Limb(((7, 6.0), (9, 2.0)), 0),
        Limb(((8, 4.0),), 2),
        Limb(((6, 4.0),), 1),
        Limb(((10, 4.0),)),
        Limb(((11, 4.0),)),
    )
    shape = Shape(a_BY3, b_BY3, radii_BY2, limbs, (0,) * 12)
    points_BX3 = 60 * torch.randn(1, 500, 3, generator=rng)
    expected = []
    for p in points_BX3[0].double().numpy():
        cones = []
        for a, b, (r_a, r_b) in zip(
            *(x[0].double().numpy() for x in (a_BY3, b_BY3, radii_BY2)), strict=True
        ):
            t = float(np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1))
            cones.append(np.linalg.norm(p - a - t * (b - a)) - (r_a + t * (r_b - r_a)))
        done: list[float] = []
        for limb in limbs:
            here = done[limb.parent] if limb.parent >= 0 else np.inf
            for number, blend in limb.cones:
                close = min(abs(here - cones[number]), blend)
                here = min(here, cones[number]) - (blend - close) ** 2 / 4 / blend
            done.append(here)
        union = np.inf
        for each in (d for d, limb in zip(done, limbs, strict=True) if limb.cones):
            close = min(abs(union - each), CREASE)
            union = min(union, each) - (CREASE - close) ** 2 / 4 / CREASE
        expected.append(union)
    found = shape.distance(points_BX3)[0]
    assert found.numpy() == pytest.approx(np.array(expected), abs=2e-3)


def test_what_is_out_of_the_picture_is_not_seen() -> None:
    assert trace(balls(((300.0, 0.0, 0.0), 20.0)), CAMERA) is None


@pytest.mark.parametrize("label", ["a", "i", "s", "m", "c", "x"])
def test_no_wall_shines_through_a_hand(label: str) -> None:
    """Rays that run out of steps in a fold count as hits; otherwise white seams appear."""
    scene = scene_of(Picture("sign", label, 2, 1), Recipe(width=320, height=240))
    assert scene.cones is not None
    patch = traced(scene.cones.shape(), Camera(320, 240, scene.distance, scene.frame))
    cover = np.zeros((240, 320))
    cover[patch.rows_X, patch.columns_X] = patch.cover_BX[0]
    # Inside the outline, what is not hand is a gap between fingers: two pixels wide somewhere.
    gaps, n_gaps = label_parts(binary_fill_holes(cover == 1) & (cover < 1))
    for gap in range(1, n_gaps + 1):
        assert cover[gaps == gap].min() < 0.5


def test_a_shaded_pixel_stands_for_its_tile_and_not_across_an_edge() -> None:
    rows, columns = torch.cartesian_prod(torch.arange(8), torch.arange(8)).T
    step = torch.where(columns < 3, 50.0, 0.0)  # a finger before a palm
    some = SparseShading.chosen(rows, columns, step[None], 0.8)
    assert len(some.chosen_x) < 64
    at_edge = (columns >= 2) & (columns <= 3)
    assert set(at_edge.nonzero()[:, 0].tolist()) <= set(some.chosen_x.tolist())
    values = torch.where(columns < 3, 1.0, 0.0)
    spread = some.spread(values[some.chosen_x][None])[0]
    assert torch.equal(spread, values)
    even = torch.full((1, len(some.chosen_x)), 0.7)
    assert some.spread(even) == pytest.approx(np.full((1, 64), 0.7))


def test_wide_pixels_are_all_shaded() -> None:
    rows, columns = torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    some = SparseShading.chosen(rows, columns, torch.zeros(1, 16), 2.0)
    assert some.chosen_x.tolist() == list(range(16))


def test_the_same_scene_twice_in_a_batch_is_traced_alike() -> None:
    one = balls(((0.0, 0.0, 0.0), 20.0))
    both = replace(
        one,
        a_BY3=one.a_BY3.repeat(2, 1, 1),
        b_BY3=one.b_BY3.repeat(2, 1, 1),
        radii_BY2=one.radii_BY2.repeat(2, 1, 1),
    )
    alone, two = traced(one), traced(both)
    assert torch.equal(alone.rows_X, two.rows_X)
    for points_X3 in two.points_BX3:
        assert points_X3.numpy() == pytest.approx(alone.points_BX3[0].numpy(), abs=1e-2)

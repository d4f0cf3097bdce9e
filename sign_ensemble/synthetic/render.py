"""Scenes → pictures: traced, coloured, reflected, set before a wall, blurred and with sensor noise.

Letters: B scenes of a batch, X pixels, H and W rows and columns of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sign_ensemble.synthetic.hand_cones import CLOTH, FINGER_OF_CONE, SKIN, Cones
from sign_ensemble.synthetic.kinematics import Array
from sign_ensemble.synthetic.light import Lamp, Surface, reflected
from sign_ensemble.synthetic.shape import batched
from sign_ensemble.synthetic.skin import Marks, albedo
from sign_ensemble.synthetic.trace import Camera, trace

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class PosedHand:
    """One hand of a scene."""

    turn_33: Array  # rotation from the hand's frame to the camera's
    shift_3: Array  # millimetres, after the rotation
    marks: Marks  # nails and creases in the hand's frame
    cones: tuple[int, int]  # numbers of its first cone and of the one after its last


@dataclass(frozen=True)
class Wall:
    """The background: a slightly uneven white."""

    colour: Colour  # linear red, green, blue at the middle
    slope: tuple[float, float]  # change of brightness from the middle to the right, lower edge
    corners: float  # share of brightness lost in the corners
    shade: float  # darkness of the hand's blurred shadow, 0 to 1


@dataclass(frozen=True)
class Scene:
    """Everything that one picture shows; colours are linear."""

    tone: Colour  # skin
    cloth: Colour  # sleeve
    lamp: Lamp
    wall: Wall
    distance: float  # millimetres from the camera to the origin
    frame: float  # height of the picture at the origin, millimetres
    mirrored: bool  # flip the picture, so that it shows a left hand
    blur: float  # standard deviation of the lens's blur as a share of the picture's height
    noise: float  # standard deviation of the sensor's noise in levels of 255
    seed: int = 0  # of the noise
    cones: Cones | None = None  # in the camera's coordinates; None for an empty wall
    hands: tuple[PosedHand, ...] = ()  # the hands among the cones
    object_colour: Colour = (0.5, 0.5, 0.5)


def render(scene: Scene, width: int, height: int, device: str = "cpu") -> NDArray[np.uint8]:
    """One scene's picture (H, W, 3)."""
    return render_batch([scene], width, height, device)[0]


@torch.inference_mode()
def render_batch(
    scenes: list[Scene], width: int, height: int, device: str = "cpu"
) -> list[NDArray[np.uint8]]:
    """Pictures of scenes with the same limbs, camera distance and frame."""
    first = scenes[0]
    camera = Camera(width, height, first.distance, first.frame)
    cones = [s.cones for s in scenes if s.cones is not None]
    shape = batched([c.shape(device) for c in cones]) if cones else None
    patch = trace(shape, camera) if shape is not None else None
    if shape is None or patch is None:
        return [_sensor(_background(s.wall, width, height, None, s.lamp), s) for s in scenes]
    surface = Surface.sampled(shape, patch, [s.lamp for s in scenes], first.frame / height)
    coloured = [
        _surface_colour(s, patch.points_BX3[b], surface.normals_BX3[b], surface.nearest_BX[b])
        for b, s in enumerate(scenes)
    ]
    albedo_BX3 = torch.stack([colour for colour, _ in coloured])
    gloss_BX = torch.stack([gloss for _, gloss in coloured])
    colour_BX3 = reflected(surface, albedo_BX3, gloss_BX, [s.lamp for s in scenes])
    pictures = []
    rows, columns = patch.rows_X.cpu(), patch.columns_X.cpu()
    cover_BX, colour_BX3 = patch.cover_BX.cpu(), colour_BX3.cpu()
    for b, scene in enumerate(scenes):
        cover_HW = torch.zeros(height, width)
        cover_HW[rows, columns] = cover_BX[b]
        linear = _background(scene.wall, width, height, cover_HW, scene.lamp)
        alpha = cover_BX[b][:, None]
        linear[rows, columns] = linear[rows, columns] * (1 - alpha) + colour_BX3[b] * alpha
        pictures.append(_sensor(linear, scene))
    return pictures


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a JPEG file."""
    out = BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=90)
    return out.getvalue()


def _surface_colour(
    scene: Scene, points_X3: Tensor, normals_X3: Tensor, nearest_X: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear colour (X, 3) and gloss (X,) of surface points."""
    assert scene.cones is not None
    device = points_X3.device
    materials_X = torch.tensor(scene.cones.materials, device=device)[nearest_X]
    colour = torch.tensor(scene.object_colour, dtype=torch.float32, device=device)
    colour = colour.repeat(len(points_X3), 1)
    gloss = torch.full((len(points_X3),), 3.0, device=device)
    weave = 1 + 0.03 * torch.sin(points_X3[:, :2].sum(1) * 2.2)
    cloth = materials_X == CLOTH
    cloth_3 = torch.tensor(scene.cloth, dtype=torch.float32, device=device)
    colour[cloth] = (cloth_3 * weave[:, None])[cloth]
    gloss[cloth] = 0.0
    for hand in scene.hands:
        skin_X = (materials_X == SKIN) & (nearest_X >= hand.cones[0]) & (nearest_X < hand.cones[1])
        turn_33 = torch.tensor(hand.turn_33, dtype=torch.float32, device=device)
        shift_3 = torch.tensor(hand.shift_3, dtype=torch.float32, device=device)
        finger_of = torch.tensor(FINGER_OF_CONE, device=device)
        colour[skin_X], gloss[skin_X] = albedo(
            (points_X3[skin_X] - shift_3) @ turn_33,
            normals_X3[skin_X] @ turn_33,
            finger_of[nearest_X[skin_X] - hand.cones[0]],
            scene.tone,
            hand.marks,
        )
    return colour, gloss


def _background(wall: Wall, width: int, height: int, cover_HW: Tensor | None, lamp: Lamp) -> Tensor:
    """The linear background (H, W, 3), with the blurred shadow of the covered pixels."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None, :]
    bright = 1 + wall.slope[0] * x + wall.slope[1] * y - wall.corners * (x * x + y * y) / 2
    if cover_HW is not None:
        bright = bright * (1 - wall.shade * _soft_shadow(cover_HW, lamp))
    return bright[..., None] * torch.tensor(wall.colour, dtype=torch.float32)


def _soft_shadow(cover_HW: Tensor, lamp: Lamp) -> Tensor:
    """Soft shadow of the covered pixels, shifted away from the lamp."""
    height, width = cover_HW.shape
    small = torch.nn.functional.adaptive_avg_pool2d(cover_HW[None, None], (height // 8, width // 8))
    side = 2 * (height // 80) + 3
    for _ in range(3):
        small = torch.nn.functional.avg_pool2d(
            small, side, stride=1, padding=side // 2, count_include_pad=False
        )
    down = round(0.07 * lamp.towards[1] * small.shape[2])
    right = round(-0.07 * lamp.towards[0] * small.shape[2])
    pad = abs(down) + abs(right) + 1
    small = torch.nn.functional.pad(small, (pad,) * 4, mode="replicate")
    small = small[..., pad - down :, pad - right :][..., : height // 8, : width // 8]
    big = torch.nn.functional.interpolate(
        small, (height, width), mode="bilinear", align_corners=False
    )
    return big[0, 0]


def _sensor(linear_HW3: Tensor, scene: Scene) -> NDArray[np.uint8]:
    """The picture in levels (H, W, 3), with the lens's blur and the sensor's noise."""
    picture = linear_HW3.numpy()
    if scene.mirrored:
        picture = picture[:, ::-1]
    sigma = max(0.3, scene.blur * picture.shape[0])
    picture = gaussian_filter(picture, (sigma, sigma, 0), mode="nearest", truncate=2.5)
    levels = picture.clip(0, 1) ** np.float32(1 / 2.2) * np.float32(255)
    rng = np.random.default_rng(scene.seed)
    grain = rng.standard_normal(levels.shape, np.float32) * np.float32(scene.noise)
    return np.clip(np.rint(levels + grain), 0, 255).astype(np.uint8)

"""Scenes → pictures: traced, coloured, lit, put before a wall and seen by a sensor.

Letters: B scenes, N pixels, H and W the picture's sides.
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

from sign_ensemble.synthetic.flesh import CLOTH, FINGER_OF_CONE, SKIN, Cones
from sign_ensemble.synthetic.hand import Array
from sign_ensemble.synthetic.light import Lamp, Surface, lit
from sign_ensemble.synthetic.shape import together
from sign_ensemble.synthetic.skin import Marks, albedo
from sign_ensemble.synthetic.trace import Camera, trace

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Worn:
    """One hand of a scene, for its colours.

    Args:
        turn_33: Rotation from the hand's frame to the camera's.
        shift_3: Millimetres, after the rotation.
        marks: Nails and creases in the hand's frame.
        cones: Numbers of its cones, first and one past the last.
    """

    turn_33: Array
    shift_3: Array
    marks: Marks
    cones: tuple[int, int]


@dataclass(frozen=True)
class Wall:
    """The background: a white that is not quite even.

    Args:
        colour: Linear red, green, blue at the middle.
        slope: Change of brightness from the middle to the right and to the lower edge.
        corners: Share of brightness lost in the corners.
        shade: How dark the hand's blurred shadow on it is, 0 to 1.
    """

    colour: Colour
    slope: tuple[float, float]
    corners: float
    shade: float


@dataclass(frozen=True)
class Scene:
    """All that one picture shows.

    Args:
        cones: In the camera's coordinates; None for an empty wall.
        hands: Which cones are hands.
        tone: Linear skin colour.
        cloth: Linear colour of the sleeve.
        thing: Linear colour of an object.
        lamp: Light.
        wall: Background.
        distance: Millimetres from the camera to the origin.
        frame: Millimetres that the picture is high at the origin.
        mirrored: A left hand: the picture is flipped before the sensor sees it.
        blur: Standard deviation of the lens's blur as a share of the picture's height.
        noise: Standard deviation of the sensor's noise in levels of 255.
        seed: Of the noise.
        quality: Of the JPEG, 1 to 95.
    """

    cones: Cones | None
    hands: tuple[Worn, ...]
    tone: Colour
    cloth: Colour
    thing: Colour
    lamp: Lamp
    wall: Wall
    distance: float
    frame: float
    mirrored: bool
    blur: float
    noise: float
    seed: int
    quality: int


def render(scene: Scene, width: int, height: int, device: str = "cpu") -> NDArray[np.uint8]:
    """One picture (H, W, 3)."""
    return render_batch([scene], width, height, device)[0]


@torch.inference_mode()
def render_batch(
    scenes: list[Scene], width: int, height: int, device: str = "cpu"
) -> list[NDArray[np.uint8]]:
    """Pictures of scenes that have cones of one make-up and one camera distance and frame."""
    first = scenes[0]
    camera = Camera(width, height, first.distance, first.frame)
    if first.cones is None:
        return [_sensed(_wall(s.wall, width, height, None), s) for s in scenes]
    shape = together([s.cones.shape(device) for s in scenes if s.cones is not None])
    patch = trace(shape, camera)
    if patch is None:
        return [_sensed(_wall(s.wall, width, height, None), s) for s in scenes]
    rows, columns, cover_BN = patch.rows_N, patch.columns_N, patch.cover_BN
    points = patch.points_BN3
    surface = Surface.of(shape, patch, [s.lamp for s in scenes], first.frame / height)
    coloured = [
        _coloured(s, points[b], surface.normals_BN3[b], surface.nearest_BN[b])
        for b, s in enumerate(scenes)
    ]
    albedo_BN3 = torch.stack([colour for colour, _ in coloured])
    gloss_BN = torch.stack([gloss for _, gloss in coloured])
    colour_BN3 = lit(surface, albedo_BN3, gloss_BN, [s.lamp for s in scenes])
    pictures = []
    rows, columns, cover_BN, colour_BN3 = (x.cpu() for x in (rows, columns, cover_BN, colour_BN3))
    for b, scene in enumerate(scenes):
        cover = torch.zeros(height, width)
        cover[rows, columns] = cover_BN[b]
        linear = _wall(scene.wall, width, height, (cover, scene.lamp))
        part = cover_BN[b][:, None]
        linear[rows, columns] = linear[rows, columns] * (1 - part) + colour_BN3[b] * part
        pictures.append(_sensed(linear, scene))
    return pictures


def jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """The picture as a JPEG file."""
    out = BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _coloured(
    scene: Scene, points_N3: Tensor, normals_N3: Tensor, nearest_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear colour (N, 3) and gloss (N,) of surface points."""
    assert scene.cones is not None
    device = points_N3.device
    kinds_N = torch.tensor(scene.cones.kinds, device=device)[nearest_N]
    colour = (
        torch.tensor(scene.thing, dtype=torch.float32, device=device)
        .expand(len(points_N3), 3)
        .clone()
    )
    gloss = torch.full((len(points_N3),), 3.0, device=device)
    weave = 1 + 0.03 * torch.sin(points_N3[:, :2].sum(1) * 2.2)
    cloth = kinds_N == CLOTH
    colour[cloth] = (
        torch.tensor(scene.cloth, dtype=torch.float32, device=device) * weave[:, None]
    )[cloth]
    gloss[cloth] = 0.0
    for hand in scene.hands:
        here = (kinds_N == SKIN) & (nearest_N >= hand.cones[0]) & (nearest_N < hand.cones[1])
        turn = torch.tensor(hand.turn_33, dtype=torch.float32, device=device)
        shift = torch.tensor(hand.shift_3, dtype=torch.float32, device=device)
        finger_of = torch.tensor(FINGER_OF_CONE, device=device)
        colour[here], gloss[here] = albedo(
            (points_N3[here] - shift) @ turn,
            normals_N3[here] @ turn,
            finger_of[nearest_N[here] - hand.cones[0]],
            scene.tone,
            hand.marks,
        )
    return colour, gloss


def _wall(wall: Wall, width: int, height: int, before: tuple[Tensor, Lamp] | None) -> Tensor:
    """The linear background (H, W, 3), with the blurred shadow of what is before it."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None, :]
    bright = 1 + wall.slope[0] * x + wall.slope[1] * y - wall.corners * (x * x + y * y) / 2
    if before is not None:
        cover, lamp = before
        bright = bright * (1 - wall.shade * _cast(cover, lamp))
    return bright[..., None] * torch.tensor(wall.colour, dtype=torch.float32)


def _cast(cover_HW: Tensor, lamp: Lamp) -> Tensor:
    """A soft shadow of the covered pixels, away from the lamp."""
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


def _sensed(linear_HW3: Tensor, scene: Scene) -> NDArray[np.uint8]:
    """Blurred by the lens, brought to levels, with the sensor's noise."""
    picture = linear_HW3.numpy()
    if scene.mirrored:
        picture = picture[:, ::-1]
    sigma = max(0.3, scene.blur * picture.shape[0])
    picture = gaussian_filter(picture, (sigma, sigma, 0), mode="nearest", truncate=2.5)
    levels = picture.clip(0, 1) ** np.float32(1 / 2.2) * np.float32(255)
    rng = np.random.default_rng(scene.seed)
    grain = rng.standard_normal(levels.shape, np.float32) * np.float32(scene.noise)
    return np.clip(np.rint(levels + grain), 0, 255).astype(np.uint8)

"""Augmented views of training images: light, colour and a small change of viewpoint.

A view depends on its image's key and its number alone, so the same image gets the same view in any
batch, order or process, to the bit on one kind of device.

Letters: N images, H and W rows and columns, T the 256 levels of a pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from sign_ensemble.core.opencv_module import opencv

Images = TypeVar("Images", NDArray[np.uint8], torch.Tensor)

VERSION = 4  # raise when a view's pixels change, so that cached features are computed again
DRAWS = 19  # uniform numbers per view; every view draws all of them, used or not
CORNERS_4x2 = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


@dataclass(frozen=True)
class AugmentationRanges:
    """How far a view may lie from its image. Ratios are drawn evenly in their logarithm.

    Args:
        rotation: Degrees to either side. A wrist tilts this far without another sign meant; H and U
            differ by a quarter turn, so views of both must stay well below an eighth.
        scale: Ratio of sizes, low to high. Room to shrink more than to grow: growing pushes
            fingertips of a tightly cropped hand out of the picture.
        translation: Shift along either axis, as a share of the side. Croppers err by that.
        corners: Shift of each corner along either axis, as a share of the side: a camera a little
            above or beside the hand.
        contrast: Ratio of distances from the image's mean level.
        gamma: Exponent of levels in 0..1; cameras' tone curves differ by about that.
        brightness: Ratio of levels: indoor exposure differences that still show every finger.
        gain: Ratio per colour channel: white balance, and through it the tone of skin.
        mirror: Chance that a view is mirrored where mirroring is allowed: both hands alike.
    """

    rotation: float = 20.0
    scale: tuple[float, float] = (0.8, 1.15)
    translation: float = 0.10
    corners: float = 0.05
    contrast: tuple[float, float] = (0.75, 1.3)
    gamma: tuple[float, float] = (0.75, 1.3)
    brightness: tuple[float, float] = (0.75, 1.3)
    gain: tuple[float, float] = (0.9, 1.1)
    mirror: float = 0.5


RANGES = AugmentationRanges()


def range_settings(ranges: AugmentationRanges = RANGES) -> dict[str, object]:
    """Everything but image, key and number that decides a view; part of a feature cache's key."""
    return {"version": VERSION, **asdict(ranges)}


def uniforms(keys: Sequence[str], augmentation: int) -> NDArray[np.float64]:
    """DRAWS numbers in [0, 1) per key, the SHAKE-256 stream of ``<key>:<view>``.

    A hash instead of a library's generator: the same on every machine and in every version.

    Returns:
        float64 (N, DRAWS).
    """
    stream = b"".join(
        hashlib.shake_256(f"{key}:{augmentation}".encode()).digest(8 * DRAWS) for key in keys
    )
    words = np.frombuffer(stream, dtype="<u8").reshape(len(keys), DRAWS)
    return (words >> np.uint64(11)).astype(np.float64) / 2.0**53


def between(draws: NDArray[np.float64], low_high: tuple[float, float]) -> NDArray[np.float64]:
    """Draws in [0, 1) to ratios in [low, high), evenly in the logarithm."""
    low, high = np.log(low_high[0]), np.log(low_high[1])
    ratios: NDArray[np.float64] = np.exp(low + (high - low) * draws)
    return ratios


def homographies(
    draws_ND: NDArray[np.float64], mirror: bool, ranges: AugmentationRanges
) -> NDArray[np.float64]:
    """Where in the image each place of its view is read.

    Coordinates run from -1 to 1 over the side, y downwards. The view is the image mirrored, scaled
    by s, turned by t, shifted by d, and seen from a place that moves its corners; so a place q of
    the view reads the image at M R(-t) (P(q) - d) / s, where P is the projective map that takes
    the square's corners to the moved ones.

    Args:
        draws_ND: Uniform draws (N, DRAWS); the first thirteen are used.
        mirror: Whether views may be mirrored.
        ranges: How far views may lie from their image.

    Returns:
        float64 (N, 3, 3), the last entry of each P being 1.
    """
    n = len(draws_ND)
    signed = 2 * draws_ND - 1
    angle = np.deg2rad(ranges.rotation * signed[:, 0])
    scale = between(draws_ND[:, 1], ranges.scale)
    shift_N2 = 2 * ranges.translation * signed[:, 2:4]
    moved_N42 = CORNERS_4x2 + 2 * ranges.corners * signed[:, 4:12].reshape(n, 4, 2)
    side = np.where(mirror & (draws_ND[:, 12] < ranges.mirror), -1.0, 1.0)

    x, y = CORNERS_4x2.T
    u, v = moved_N42[:, :, 0], moved_N42[:, :, 1]
    one, zero = np.ones((n, 4)), np.zeros((n, 4))
    # u (g x + h y + 1) = a x + b y + c and v (g x + h y + 1) = d x + e y + f at the four corners
    rows_u = np.stack([one * x, one * y, one, zero, zero, zero, -u * x, -u * y], -1)
    rows_v = np.stack([zero, zero, zero, one * x, one * y, one, -v * x, -v * y], -1)
    equations = np.concatenate([rows_u, rows_v], 1)
    solved = np.linalg.solve(equations, np.concatenate([u, v], 1)[:, :, None])[:, :, 0]
    perspective_N33 = np.concatenate([solved, np.ones((n, 1))], 1).reshape(n, 3, 3)

    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    back_N33 = np.zeros((n, 3, 3))
    back_N33[:, 0, 0], back_N33[:, 0, 1] = side * cos, side * sin
    back_N33[:, 1, 0], back_N33[:, 1, 1] = -sin, cos
    back_N33[:, :2, 2] = -np.einsum("nij,nj->ni", back_N33[:, :2, :2], shift_N2)
    back_N33[:, 2, 2] = 1
    joined_N33: NDArray[np.float64] = np.einsum("nij,njk->nik", back_N33, perspective_N33)
    return joined_N33


def tone_curves(
    draws_ND: NDArray[np.float64], mean_N: NDArray[np.float64], ranges: AugmentationRanges
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What becomes of each pixel level: contrast, then gamma, then brightness; and channel gains.

    f(v) = b clip(m + c (v - m), 0, 1)^g, with m the image's mean level, so that black stays black
    in an image that is all black.

    Args:
        draws_ND: Uniform draws (N, DRAWS); those from the fourteenth are used.
        mean_N: Mean level of each image, 0 to 1.
        ranges: How far views may lie from their image.

    Returns:
        Curves (N, T) in levels 0 to 255 times b, unclipped, and gains (N, 3).
    """
    contrast, gamma, brightness = (
        between(draws_ND[:, [13 + i]], ratio)
        for i, ratio in enumerate((ranges.contrast, ranges.gamma, ranges.brightness))
    )
    mean = mean_N[:, None]
    levels_T = np.arange(256) / 255
    curves_NT = 255 * brightness * np.clip(mean + contrast * (levels_T - mean), 0, 1) ** gamma
    return curves_NT, between(draws_ND[:, 16:19], ranges.gain)


def decided(
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges,
    mean_N: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Tables of levels (N, T, 3) and homographies (N, 3, 3) of one view of each image, from the
    images' mean levels, 0 to 1.
    """
    draws_ND = uniforms(keys, augmentation)
    curves_NT, gains_N3 = tone_curves(draws_ND, mean_N, ranges)
    lit_NT3 = np.clip(curves_NT[:, :, None] * gains_N3[:, None], 0, 255)
    return (lit_NT3 + 0.5).astype(np.uint8), homographies(draws_ND, mirror, ranges)


def by_opencv(
    images: Sequence[NDArray[np.uint8]],
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges,
    into: Sequence[NDArray[Any]],
    table_1T3: NDArray[Any] | None = None,
) -> None:
    """Draw one view of each image, the fastest way on a processor.

    Args:
        images: N of (H, W, 3).
        keys: See :func:`augment`.
        augmentation: See :func:`augment`.
        mirror: See :func:`augment`.
        ranges: How far views may lie from their image.
        into: What takes each view.
        table_1T3: What is written for each channel's levels instead of the levels themselves; to
            look both light and this up at once costs no more than light alone.
    """
    if not keys:
        return
    cv2, side = opencv(), len(images[0])
    total_N = np.array([sum(cv2.sumElems(image_HW3)) for image_HW3 in images])
    lit_NT3, places_N33 = decided(
        keys, augmentation, mirror, ranges, total_N / (255 * 3 * side * side)
    )
    if table_1T3 is not None:
        lit_NT3 = table_1T3[0][lit_NT3, np.arange(3)]
    # from a pixel's number to its middle's place in -1 .. 1, through the homography, and back
    to_place_33 = np.array([[2 / side, 0, 1 / side - 1], [0, 2 / side, 1 / side - 1], [0, 0, 1]])
    # of the image with its edge's pixels repeated on all sides: the sampler takes twice as long for
    # what lies beyond its input, and with a margin of a fifth little does
    margin = side // 5
    to_pixel_33 = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]]) @ np.linalg.inv(to_place_33)
    four_HW4, moved_HW4 = (np.empty((side, side, 4), np.uint8) for _ in range(2))
    wide_HW4 = np.empty((side + 2 * margin, side + 2 * margin, 4), np.uint8)
    moved_HW3 = np.empty((side, side, 3), np.uint8)
    for image_HW3, lit_T3, place_33, augmented_HW3 in zip(
        images, lit_NT3, places_N33, into, strict=True
    ):
        cv2.cvtColor(image_HW3, cv2.COLOR_RGB2RGBA, four_HW4)  # sampled twice as fast as three
        cv2.copyMakeBorder(
            four_HW4, margin, margin, margin, margin, cv2.BORDER_REPLICATE, dst=wide_HW4
        )
        cv2.warpPerspective(
            wide_HW4,
            to_pixel_33 @ place_33 @ to_place_33,
            (side, side),
            dst=moved_HW4,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.cvtColor(moved_HW4, cv2.COLOR_RGBA2RGB, moved_HW3)
        cv2.LUT(moved_HW3, lit_T3[None], augmented_HW3)


def by_torch(
    images_NHW3: torch.Tensor,
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges,
) -> torch.Tensor:
    """What :func:`by_opencv` draws, on any device: uint8 (N, H, W, 3).

    Alike but where a sampled level lies within a few thousandths of halfway between two: it may be
    rounded to the other one before light is looked up.
    """
    n, side = images_NHW3.shape[:2]
    device = images_NHW3.device

    # Every operation on pixels below is one multiplication, addition, division, table lookup or
    # the sampler: all exact or rounded alike wherever a pixel lies in a batch.
    total_N = images_NHW3.view(n, -1).sum(1, dtype=torch.int64).cpu().numpy()
    lit_NT3, places_N33 = decided(
        keys, augmentation, mirror, ranges, total_N / (255 * 3 * side * side)
    )

    # rows a, b, c of h give numerators and denominator as a x + b y + c
    h = torch.from_numpy(places_N33.astype(np.float32)).to(device)
    centres = (2 * torch.arange(side, dtype=torch.float32, device=device) + 1) / side - 1
    x, y = centres.view(1, 1, side), centres.view(1, side, 1)
    u, v, w = (
        h[:, i, 0].view(n, 1, 1) * x + (h[:, i, 1].view(n, 1, 1) * y + h[:, i, 2].view(n, 1, 1))
        for i in range(3)
    )
    places = torch.stack([u / w, v / w], -1)
    read_N3HW = images_NHW3.permute(0, 3, 1, 2).float()
    moved_N3HW = grid_sample(read_N3HW, places, padding_mode="border", align_corners=False)
    levels_NHW3 = moved_N3HW.add_(0.5).int().permute(0, 2, 3, 1)
    tables = torch.from_numpy(lit_NT3).to(device)
    channel = torch.arange(3, device=device, dtype=torch.int32)
    rows_NHW3 = (
        256 * torch.arange(n, device=device, dtype=torch.int32).view(n, 1, 1, 1) + levels_NHW3
    )
    places_NHW3 = 3 * rows_NHW3 + channel  # of each pixel's level in the tables, laid out (N, T, 3)
    return tables.view(-1).index_select(0, places_NHW3.reshape(-1)).view(images_NHW3.shape)


def augment(
    images_NHW3: Images,
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges = RANGES,
) -> Images:
    """One view of each image.

    Beyond the image's edge a view repeats the edge's pixels; between pixels it is bilinear.

    Args:
        images_NHW3: uint8 images (N, H, W, 3), a numpy array or a tensor on any device.
        keys: Each image's content hash; with the view's number it seeds all that is random.
        augmentation: 0 is the image itself, returned as it came; 1 and above are drawn.
        mirror: Whether views may be mirrored.
        ranges: How far views may lie from their image.

    Returns:
        uint8 views (N, H, W, 3), of the kind and on the device of images_NSS3.

    Raises:
        ValueError: keys and images differ in number, or view is below 0.
    """
    if len(keys) != len(images_NHW3):
        raise ValueError(f"{len(keys)} keys for {len(images_NHW3)} images: one each")
    if augmentation < 0:
        raise ValueError(f"view is {augmentation}: it must be 0 or more")
    if augmentation == 0:
        return images_NHW3
    if isinstance(images_NHW3, torch.Tensor):
        if images_NHW3.device.type == "cpu":
            return torch.from_numpy(
                augment(images_NHW3.numpy(), keys, augmentation, mirror, ranges)
            )
        return by_torch(images_NHW3.contiguous(), keys, augmentation, mirror, ranges)
    augmented_NHW3 = np.empty(images_NHW3.shape, np.uint8)
    by_opencv(list(images_NHW3), keys, augmentation, mirror, ranges, list(augmented_NHW3))
    return augmented_NHW3

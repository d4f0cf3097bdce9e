"""Augmentation of training images: light, colour and small changes of viewpoint.

An augmented copy depends only on its image's key and its own number: the same image gets the same
copy in any batch, order or process, to the bit on one kind of device.

Letters: N images, H and W rows and columns.
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

VERSION = 4  # raise when augmented pixels change, so that cached features are computed again
DRAWS = 19  # uniform numbers per copy; every copy draws all of them, used or not
CORNERS_4x2 = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


@dataclass(frozen=True)
class AugmentationRanges:
    """How far an augmented copy may differ from its image; ratios are log-uniform."""

    # degrees to either side: as far as a wrist tilts without changing the sign. H and U differ by a
    # quarter turn, so this must stay well below an eighth.
    rotation: float = 20.0
    # ratio of sizes, low to high. Growing pushes the fingertips of a tightly cropped hand out of
    # the picture, so there is more room to shrink.
    scale: tuple[float, float] = (0.8, 1.15)
    # shift along either axis, as a share of the side: the error of croppers
    translation: float = 0.10
    # shift of each corner along either axis, as a share of the side: perspective
    corners: float = 0.05
    contrast: tuple[float, float] = (0.75, 1.3)  # ratio of distances from the image's mean level
    # exponent of levels in 0..1: the tone curves of cameras
    gamma: tuple[float, float] = (0.75, 1.3)
    # ratio of levels: indoor exposures that still show every finger
    brightness: tuple[float, float] = (0.75, 1.3)
    gain: tuple[float, float] = (0.9, 1.1)  # ratio per colour channel: white balance and skin tone
    mirror: float = 0.5  # probability of a mirror image, where mirroring is allowed


RANGES = AugmentationRanges()


def range_settings(ranges: AugmentationRanges = RANGES) -> dict[str, object]:
    """What decides an augmented copy besides image, key and number; part of the cache's key."""
    return {"version": VERSION, **asdict(ranges)}


def uniforms(keys: Sequence[str], augmentation: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) from the SHAKE-256 stream of ``<key>:<augmentation>``, (N, 19).

    A hash rather than a library's generator: the same on every machine and in every version.
    """
    stream = b"".join(
        hashlib.shake_256(f"{key}:{augmentation}".encode()).digest(8 * DRAWS) for key in keys
    )
    words = np.frombuffer(stream, dtype="<u8").reshape(len(keys), DRAWS)
    return (words >> np.uint64(11)).astype(np.float64) / 2.0**53


def between(draws: NDArray[np.float64], low_high: tuple[float, float]) -> NDArray[np.float64]:
    """Map draws in [0, 1) to log-uniform ratios in [low, high)."""
    low, high = np.log(low_high[0]), np.log(low_high[1])
    return np.exp(low + (high - low) * draws)


def homographies(
    draws_N19: NDArray[np.float64], mirror: bool, ranges: AugmentationRanges
) -> NDArray[np.float64]:
    """Projective maps from points of an augmented copy to points of its image, (N, 3, 3).

    Coordinates run from -1 to 1 over the side, y downwards. Point q of the copy shows the image's
    point M R(-t) (P(q) - d) / s: M mirrors, R(-t) turns back by t, d is the shift, s the scale, and
    P maps the corners of the square to the moved corners (the last entry of P is 1). The first
    thirteen draws are used.
    """
    n = len(draws_N19)
    signed = 2 * draws_N19 - 1
    angle = np.deg2rad(ranges.rotation * signed[:, 0])
    scale = between(draws_N19[:, 1], ranges.scale)
    shift_N2 = 2 * ranges.translation * signed[:, 2:4]
    moved_N42 = CORNERS_4x2 + 2 * ranges.corners * signed[:, 4:12].reshape(n, 4, 2)
    side = np.where(mirror & (draws_N19[:, 12] < ranges.mirror), -1.0, 1.0)

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
    return np.einsum("nij,njk->nik", back_N33, perspective_N33)


def tone_curves(
    draws_N19: NDArray[np.float64], mean_N: NDArray[np.float64], ranges: AugmentationRanges
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tone curve of each copy (N, 256) and its channel gains (N, 3).

    The curve is f(v) = 255 b clip(m + c (v - m), 0, 1)^g for levels v in 0..1, unclipped, with
    contrast c about the image's mean level m, gamma g and brightness b. The draws from the
    fourteenth on are used.
    """
    contrast, gamma, brightness = (
        between(draws_N19[:, [13 + i]], ratio)
        for i, ratio in enumerate((ranges.contrast, ranges.gamma, ranges.brightness))
    )
    mean = mean_N[:, None]
    levels = np.arange(256) / 255
    curves_N256 = 255 * brightness * np.clip(mean + contrast * (levels - mean), 0, 1) ** gamma
    return curves_N256, between(draws_N19[:, 16:19], ranges.gain)


def drawn_parameters(
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges,
    mean_N: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Level tables (N, 256, 3) and homographies (N, 3, 3) of one augmented copy of each image, from
    the images' mean levels, 0 to 1.
    """
    draws_N19 = uniforms(keys, augmentation)
    curves_N256, gains_N3 = tone_curves(draws_N19, mean_N, ranges)
    tables = np.clip(curves_N256[:, :, None] * gains_N3[:, None], 0, 255)
    return (tables + 0.5).astype(np.uint8), homographies(draws_N19, mirror, ranges)


def by_opencv(
    images: Sequence[NDArray[np.uint8]],
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges,
    into: Sequence[NDArray[Any]],
    levels_out: NDArray[Any] | None = None,
) -> None:
    """:func:`augment` with OpenCV, the fastest way on a CPU; writes N copies ``into`` arrays.

    With ``levels_out`` (1, 256, 3), writes its entry for each level of each channel instead of the
    level, in the same lookup as the tone curves.
    """
    if not keys:
        return
    cv2, side = opencv(), len(images[0])
    total_N = np.array([sum(cv2.sumElems(image_HW3)) for image_HW3 in images])
    tables, maps_N33 = drawn_parameters(
        keys, augmentation, mirror, ranges, total_N / (255 * 3 * side * side)
    )
    if levels_out is not None:
        tables = levels_out[0][tables, np.arange(3)]
    # pixel index -> centre in -1..1 -> homography -> pixel index
    to_unit_33 = np.array([[2 / side, 0, 1 / side - 1], [0, 2 / side, 1 / side - 1], [0, 0, 1]])
    # A margin of repeated edge pixels: OpenCV's sampler is slow beyond the edge of its input.
    margin = side // 5
    to_pixel_33 = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]]) @ np.linalg.inv(to_unit_33)
    four_HW4, moved_HW4 = (np.empty((side, side, 4), np.uint8) for _ in range(2))
    wide_HW4 = np.empty((side + 2 * margin, side + 2 * margin, 4), np.uint8)
    moved_HW3 = np.empty((side, side, 3), np.uint8)
    for image_HW3, table, map_33, augmented_HW3 in zip(images, tables, maps_N33, into, strict=True):
        cv2.cvtColor(image_HW3, cv2.COLOR_RGB2RGBA, four_HW4)  # sampled faster than three channels
        cv2.copyMakeBorder(four_HW4, *4 * [margin], cv2.BORDER_REPLICATE, dst=wide_HW4)
        cv2.warpPerspective(
            wide_HW4,
            to_pixel_33 @ map_33 @ to_unit_33,
            (side, side),
            dst=moved_HW4,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.cvtColor(moved_HW4, cv2.COLOR_RGBA2RGB, moved_HW3)
        cv2.LUT(moved_HW3, table[None], augmented_HW3)


def by_torch(
    images_NHW3: torch.Tensor,
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges,
) -> torch.Tensor:
    """:func:`by_opencv` on any device: uint8 (N, H, W, 3).

    Equal to it except where a sampled level lies almost halfway between two: either may be taken.
    """
    n, side = images_NHW3.shape[:2]
    device = images_NHW3.device

    # Every operation on pixels below rounds alike wherever a pixel lies in a batch.
    total_N = images_NHW3.view(n, -1).sum(1, dtype=torch.int64).cpu().numpy()
    level_tables, maps_N33 = drawn_parameters(
        keys, augmentation, mirror, ranges, total_N / (255 * 3 * side * side)
    )

    # rows a, b, c of h give numerators and denominator as a x + b y + c
    h = torch.from_numpy(maps_N33.astype(np.float32)).to(device)
    centres = (2 * torch.arange(side, dtype=torch.float32, device=device) + 1) / side - 1
    x, y = centres.view(1, 1, side), centres.view(1, side, 1)
    u, v, w = (
        h[:, i, 0].view(n, 1, 1) * x + (h[:, i, 1].view(n, 1, 1) * y + h[:, i, 2].view(n, 1, 1))
        for i in range(3)
    )
    points = torch.stack([u / w, v / w], -1)
    images_N3HW = images_NHW3.permute(0, 3, 1, 2).float()
    moved_N3HW = grid_sample(images_N3HW, points, padding_mode="border", align_corners=False)
    levels_NHW3 = moved_N3HW.add_(0.5).int().permute(0, 2, 3, 1)
    image = torch.arange(n, device=device, dtype=torch.int32).view(n, 1, 1, 1)
    channel = torch.arange(3, device=device, dtype=torch.int32)
    entries_NHW3 = 3 * (256 * image + levels_NHW3) + channel  # of the flat (N, 256, 3) tables
    tables = torch.from_numpy(level_tables).to(device)
    return tables.view(-1).index_select(0, entries_NHW3.reshape(-1)).view(images_NHW3.shape)


def augment(
    images_NHW3: Images,
    keys: Sequence[str],
    augmentation: int,
    mirror: bool,
    ranges: AugmentationRanges = RANGES,
) -> Images:
    """One augmented copy of each image: bilinear, its edge pixels repeated beyond the edge.

    All draws are seeded by an image's content hash, its key, and by the number of the copy; number
    0 is the image itself. Images and copies are uint8, numpy arrays or tensors on any device.

    Raises:
        ValueError: keys and images differ in number, or augmentation is below 0.
    """
    if len(keys) != len(images_NHW3):
        raise ValueError(f"{len(keys)} keys for {len(images_NHW3)} images: one each")
    if augmentation < 0:
        raise ValueError(f"augmentation is {augmentation}: it must be 0 or more")
    if augmentation == 0:
        return images_NHW3
    if isinstance(images_NHW3, torch.Tensor):
        if images_NHW3.device.type == "cpu":
            copies_NHW3 = augment(images_NHW3.numpy(), keys, augmentation, mirror, ranges)
            return torch.from_numpy(copies_NHW3)
        return by_torch(images_NHW3.contiguous(), keys, augmentation, mirror, ranges)
    augmented_NHW3 = np.empty(images_NHW3.shape, np.uint8)
    by_opencv(list(images_NHW3), keys, augmentation, mirror, ranges, list(augmented_NHW3))
    return augmented_NHW3

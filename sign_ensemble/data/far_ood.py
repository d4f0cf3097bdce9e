"""Far OOD test sets: images that show no sign, for measuring rejection only.

No set here, and no set of the same kind, may be used to train or to choose anything.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.printable_text import storable
from sign_ensemble.data.hand_removal import without_hand
from sign_ensemble.data.images import SetAside, read_image
from sign_ensemble.data.picture_files import named_pictures

Images = NDArray[np.uint8]
FarSet = Callable[[int, int, np.random.Generator, Images], Images]

# Files in scikit-image's wheel; nothing is downloaded.
PHOTOGRAPHS = (
    "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
    "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
LEAST_SD = 12.0  # levels; a flatter crop would belong to the set "blank"
TEXTURES = ("brick.png", "grass.png", "gravel.png")
MIN_CROP = 64  # pixels; a smaller crop, enlarged, would belong to "smooth-fields"

# Ten skin tones from dark to light, spread as on the Monk scale.
SKIN_TONES = (
    (41, 36, 32), (58, 49, 42), (96, 65, 52), (130, 92, 67), (160, 126, 86),
    (215, 189, 150), (234, 218, 186), (247, 234, 208), (243, 231, 219), (246, 237, 228),
)  # fmt: skip
SENSOR_SD = 8.0  # levels; a phone's camera in a dim room
NOISE_CELLS = (1, 2, 4, 8, 16, 32)  # side of one cell of noise, in 224ths of the image's side


def to_uint8(values: NDArray[np.float64]) -> Images:
    """Levels to uint8: rounded, and clipped to 0..255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def enlarged(cells: Images, size: int, how: Resampling) -> Images:
    """A colour image stretched to (size, size, 3)."""
    return np.asarray(Image.fromarray(cells).resize((size, size), how))


def blank(n: int, size: int, rng: np.random.Generator, signs_NHW3: Images) -> Images:
    """White, grey, black, skin and any flat colour in turn, with sensor noise of 0 to 8 levels."""
    images = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        colours = (
            np.full(3, rng.uniform(235, 255)),
            np.full(3, rng.uniform(60, 200)),
            np.full(3, rng.uniform(0, 20)),
            np.array(SKIN_TONES[rng.integers(len(SKIN_TONES))], float),
            rng.uniform(0, 255, 3),
        )
        sd = rng.uniform(0, SENSOR_SD)
        images[i] = to_uint8(colours[i % len(colours)] + rng.normal(0, sd, (size, size, 3)))
    return images


def noise(n: int, size: int, rng: np.random.Generator, signs_NHW3: Images) -> Images:
    """Uniform noise about mid-grey, 60 to 255 levels wide, in cells of each of NOISE_CELLS in turn;
    colour or grey, square cells or smooth blobs, by chance.
    """
    images = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        side = max(1, round(size * NOISE_CELLS[i % len(NOISE_CELLS)] / 224))
        across = -(-size // side)
        channels = 3 if rng.random() < 0.5 else 1
        how = Resampling.NEAREST if rng.random() < 0.5 else Resampling.BICUBIC
        reach = rng.uniform(30, 127.5)
        cells = to_uint8(127.5 + rng.uniform(-reach, reach, (across, across, channels)))
        cells = np.broadcast_to(cells, (across, across, 3))
        images[i] = enlarged(np.ascontiguousarray(cells), across * side, how)[:size, :size]
    return images


def smooth_fields(n: int, size: int, rng: np.random.Generator, signs_NHW3: Images) -> Images:
    """Smooth colour: enlarged grids of 2 to 5 cells, linear and radial gradients."""
    images = np.empty((n, size, size, 3), np.uint8)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    for i in range(n):
        if i % 2 == 0:
            across = int(rng.integers(2, 6))
            cells = rng.integers(0, 256, (across, across, 3), dtype=np.uint8)
            images[i] = enlarged(cells, size, Resampling.BICUBIC)
            continue
        from_3, to_3 = rng.uniform(0, 255, (2, 3))
        angle, (x0, y0) = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5, 2)
        ramp = x * np.cos(angle) + y * np.sin(angle) if i % 4 == 1 else np.hypot(x - x0, y - y0)
        share = (ramp - ramp.min()) / np.ptp(ramp)
        images[i] = to_uint8(from_3 + (to_3 - from_3) * share[:, :, None])
    return images


@lru_cache
def picture(name: str) -> Images:
    """A picture of scikit-image's wheel as colour, uint8 (H, W, 3)."""
    with files("skimage").joinpath("data", name).open("rb") as opened, Image.open(opened) as image:
        return np.asarray(image.convert("RGB"))


def crops(
    names: tuple[str, ...], n: int, size: int, rng: np.random.Generator, signs_NHW3: Images
) -> Images:
    """Square crops of these pictures in turn, resized, of at least LEAST_SD; their side is
    log-uniform from 64 pixels to the picture's shorter side.
    """
    images = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        pixels = picture(names[i % len(names)])
        height, width, _ = pixels.shape
        crop = pixels[:0]
        while crop.size == 0 or crop.std((0, 1)).max() < LEAST_SD:
            side = int(np.exp(rng.uniform(np.log(MIN_CROP), np.log(min(height, width) + 1))))
            top = rng.integers(0, height - side + 1)
            left = rng.integers(0, width - side + 1)
            crop = pixels[top : top + side, left : left + side]
        images[i] = enlarged(np.ascontiguousarray(crop), size, Resampling.BICUBIC)
    return images


def no_hand(n: int, size: int, rng: np.random.Generator, signs_NHW3: Images) -> Images:
    """Sign images with the hand removed; each is used once before any is used again."""
    order = rng.permutation(len(signs_NHW3))
    chosen = (signs_NHW3[order[i % len(order)]] for i in range(n))
    return np.stack([without_hand(image_HW3, rng) for image_HW3 in chosen])


FAR_SETS: dict[str, FarSet] = {
    "blank": blank,
    "noise": noise,
    "smooth-fields": smooth_fields,
    "photographs": partial(crops, PHOTOGRAPHS),
    "textures": partial(crops, TEXTURES),
    "no-hand": no_hand,
}


def far_images(name: str, n: int, size: int, seed: int, signs_NHW3: Images) -> Images:
    """The first n images, 1 or more, of a built-in far set, uint8 (n, H, W, 3).

    A smaller set is the start of a larger one. Name and seed decide every draw. Only ``no-hand``
    reads the sign images of held-out signers; it needs one or more.
    """
    rng = np.random.default_rng(list(f"{seed}:{name}".encode()))
    return FAR_SETS[name](n, size, rng, signs_NHW3)


def folder_images(
    path_or_glob: str | Path, data: DataConfig
) -> tuple[Images, list[Path], list[str]]:
    """Every picture of :func:`named_pictures`, by :func:`read_image`.

    Returns:
        Images (N, H, W, 3), their files, and a line about each file set aside and about what else
        is left out.

    Raises:
        UserError: no picture file there, or none that can be read.
    """
    images, paths, set_aside = [], [], []
    found = named_pictures([str(path_or_glob)])
    for path in found.files:
        try:
            images.append(read_image(path, data))
            paths.append(path)
        except SetAside as reason:
            set_aside.append(storable(f"{path}: {reason}"))
    if not images:
        raise UserError(
            f"{path_or_glob}: none of its {len(set_aside)} image files can be used; {set_aside[0]}"
        )
    return np.stack(images), paths, [*set_aside, *map(storable, found.words())]

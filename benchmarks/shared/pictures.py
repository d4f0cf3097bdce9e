"""Random pictures, and pictures as tutorials read them.

Letters: H and W rows and columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sign_ensemble.data.backbone import MEAN, STD

SIDE = 224


def write_jpeg(path: Path, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """A JPEG file of random shapes, width and height given."""
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)


def torch_image(path: Path) -> torch.Tensor:
    """What Resize, ToTensor and Normalize make of a file: (3, H, W)."""
    with Image.open(path) as opened:
        image = np.array(opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    pixels_3HW = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    return (pixels_3HW - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)

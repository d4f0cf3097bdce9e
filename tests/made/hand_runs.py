"""A small set of rendered hands, and runs on it.

Four people show four labels and one wrong gesture; the second one shows the left hand.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from rendered_hands import FOUND, flipped
from small_runs import settings
from started_commands import Command, finish

from sign_ensemble.synthetic.picture_set import Picture, Recipe, rendered

SIGNERS, EACH = (1, 2, 3, 4), 3
LABELS, GESTURE = FOUND[:4], FOUND[4]
HANDS = (
    "--data.crop=hand", "--data.test_signers=[signer-4]", f"--data.near_labels=[{GESTURE}]",
    "--ensemble.size=1", "--search.landmark_epochs=[5]", "--search.landmark_widths=[16]",
    "--rejection.held_out_groups=1", "--evaluate.condition_images=4",
)  # fmt: skip


def write_hands(folder: Path) -> Path:
    """Write the pictures, SIGNER/LABEL/NUMBER.png."""
    planned = [
        Picture("sign", label, signer, number)
        for signer in SIGNERS
        for label in (*LABELS, GESTURE)
        for number in range(1, EACH + 1)
    ]
    for picture, content in zip(
        planned, rendered(planned, Recipe(width=256, height=192)), strict=True
    ):
        path = folder / picture.path.removeprefix("signs/")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.array(Image.open(BytesIO(content)))
        Image.fromarray(flipped(pixels) if picture.signer == 2 else pixels).save(
            path.with_suffix(".png")
        )
    return folder


def tuned(home: Path, images: Path, name: str, *more: str) -> tuple[Path, str]:
    """A run and what it printed."""
    command = Command("tune", *settings(home, images, name, 2, *more), folder=home)
    try:
        finish(command)
    finally:
        command.close()
    return home / name, command.out

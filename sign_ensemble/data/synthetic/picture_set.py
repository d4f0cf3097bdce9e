"""A folder of built-in signs: which pictures there are, and each one's bytes.

``signs/<signer>/<label>/<n>.jpg`` and ``strange/<set>/<n>.jpg``. A picture depends on the set's
seed and spread, its size, and its own place, on nothing else: not on how many there are, in what
order or on how many machines they are rendered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from sign_ensemble.data.images import SetAside, decode_rgb
from sign_ensemble.data.synthetic.alphabet import POSES
from sign_ensemble.data.synthetic.render import Scene, jpeg, render
from sign_ensemble.data.synthetic.signers import Signer, draw_scene, draw_signer
from sign_ensemble.data.synthetic.strange import STRANGE

LABELS = tuple(POSES)


@dataclass(frozen=True)
class Recipe:
    """What decides the bytes of every picture.

    Args:
        seed: Of the set.
        spread: How far signers lie apart.
        width: Pixels.
        height: Pixels.
    """

    seed: int = 0
    spread: float = 1.0
    width: int = 640
    height: int = 480


@dataclass(frozen=True)
class Picture:
    """One picture's place in the set.

    Args:
        kind: ``sign`` or ``strange``.
        name: Label, or strange set.
        signer: Number of the signer, from 1.
        number: Number within its folder, from 1.
    """

    kind: str
    name: str
    signer: int
    number: int

    @property
    def path(self) -> str:
        """Relative to the set's folder."""
        file = f"{self.number:05d}.jpg"
        if self.kind == "sign":
            return f"signs/signer-{self.signer}/{self.name}/{file}"
        return f"strange/{self.name}/{file}"

    def seeds(self, recipe: Recipe) -> list[int]:
        """What numpy's generator of this picture is seeded with."""
        names = LABELS if self.kind == "sign" else tuple(STRANGE)
        kind = 5 if self.kind == "sign" else 6
        return [recipe.seed, self.signer, names.index(self.name), self.number, kind]


def plan(signers: int, images_per_label: int, strange_per_set: int) -> list[Picture]:
    """All pictures of a set; strange ones go round the signers."""
    signs = [
        Picture("sign", label, signer, n + 1)
        for signer in range(1, signers + 1)
        for label in LABELS
        for n in range(images_per_label)
    ]
    strange = [
        Picture("strange", name, n % signers + 1, n + 1)
        for name in STRANGE
        for n in range(strange_per_set)
    ]
    return signs + strange


@lru_cache(maxsize=64)
def _signer(seed: int, number: int, spread: float) -> Signer:
    return draw_signer(seed, number, spread)


def scene_of(picture: Picture, recipe: Recipe) -> Scene:
    """What the picture shows."""
    signer = _signer(recipe.seed, picture.signer, recipe.spread)
    rng = np.random.default_rng(picture.seeds(recipe))
    if picture.kind == "sign":
        return draw_scene(signer, POSES[picture.name], LABELS.index(picture.name), rng)
    return STRANGE[picture.name](signer, picture.number - 1, rng)


def rendered(pictures: list[Picture], recipe: Recipe, device: str = "cpu") -> Iterator[bytes]:
    """The pictures' JPEG files, on one thread: sums in another order would change bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for picture in pictures:
            scene = scene_of(picture, recipe)
            yield jpeg(render(scene, recipe.width, recipe.height, device), scene.quality)
    finally:
        torch.set_num_threads(threads)


def sha256_if_whole(file: Path, recipe: Recipe) -> str:
    """Digest of a picture that is there, decodes and has the right size; "" otherwise."""
    try:
        content = file.read_bytes()
        shape = decode_rgb(content, max_pixels=recipe.width * recipe.height, min_side=1).shape
    except (OSError, SetAside):
        return ""
    if shape != (recipe.height, recipe.width, 3):
        return ""
    return hashlib.sha256(content).hexdigest()

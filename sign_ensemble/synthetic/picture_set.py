"""A folder of built-in signs: which pictures there are, and each one's bytes.

``signs/<signer>/<label>/<n>.jpg`` and ``strange/<set>/<n>.jpg``. A picture depends on the set's
seed and spread, its size, and its own place, on nothing else: not on how many there are, in what
order or on how many machines they are rendered.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sign_ensemble.core.device import compute_with
from sign_ensemble.synthetic.alphabet import POSES
from sign_ensemble.synthetic.flesh import ARM
from sign_ensemble.synthetic.ood_pictures import STRANGE
from sign_ensemble.synthetic.render import Scene, Wall, jpeg, render
from sign_ensemble.synthetic.signers import Signer, draw_scene, draw_signer

LABELS = tuple(POSES)
MARGIN = 0.04  # around a cropped hand, as a share of its longer side
BLACK = Wall((0.0, 0.0, 0.0), (0.0, 0.0), 0.0, 0.0)


@dataclass(frozen=True)
class Recipe:
    """What decides the bytes of every picture.

    Args:
        seed: Of the set.
        spread: How far signers lie apart.
        width: Pixels.
        height: Pixels.
        hand_only: A black background, and signs cropped to the hand without its forearm, as in
            sets of cut-out hands.
    """

    seed: int = 0
    spread: float = 1.0
    width: int = 640
    height: int = 480
    hand_only: bool = False


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


def hand_box(scene: Scene, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom pixel of the first hand without its forearm, with a margin.

    Raises:
        ValueError: the scene shows no hand.
    """
    if scene.cones is None:
        raise ValueError("the scene shows no hand")
    ends_P3 = scene.cones.ends_C23[ARM:].reshape(-1, 3)
    scale_P = height / scene.frame * scene.distance / (scene.distance - ends_P3[:, 2])
    centres_P2 = ends_P3[:, :2] * [-1 if scene.mirrored else 1, -1] * scale_P[:, None]
    centres_P2 += [width / 2, height / 2]
    radii_P1 = (scene.cones.radii_C2[ARM:].ravel() * scale_P)[:, None]
    low_2, high_2 = (centres_P2 - radii_P1).min(0), (centres_P2 + radii_P1).max(0)
    more = MARGIN * (high_2 - low_2).max()
    left, top = np.maximum(low_2 - more, 0).astype(int)
    right, bottom = np.minimum(high_2 + more + 1, (width, height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def rendered(pictures: list[Picture], recipe: Recipe, device: str = "cpu") -> Iterator[bytes]:
    """The pictures' JPEG files, on one thread: sums in another order would change bits."""
    threads = torch.get_num_threads()
    compute_with(1)
    try:
        for picture in pictures:
            scene = scene_of(picture, recipe)
            if recipe.hand_only:
                scene = replace(scene, wall=BLACK)
            rgb_HW3 = render(scene, recipe.width, recipe.height, device)
            if recipe.hand_only and picture.kind == "sign":
                left, top, right, bottom = hand_box(scene, recipe.width, recipe.height)
                rgb_HW3 = rgb_HW3[top:bottom, left:right]
            yield jpeg(rgb_HW3, scene.quality)
    finally:
        torch.set_num_threads(threads)


def sha256_if_whole(file: Path, recipe: Recipe) -> str:
    """Digest of a picture that is there, decodes and has the right size, or at most that where
    hands are cropped; "" otherwise.
    """
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()  # decodes all of it: a damaged file raises
            shape = (opened.height, opened.width, len(opened.getbands()))
    except OSError:
        return ""
    fits = shape == (recipe.height, recipe.width, 3)
    if recipe.hand_only:
        fits = shape[0] <= recipe.height and shape[1] <= recipe.width
    if not fits:
        return ""
    return hashlib.sha256(content).hexdigest()

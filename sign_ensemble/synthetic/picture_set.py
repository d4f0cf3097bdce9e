"""The pictures of a built-in set: their paths and the bytes of each.

``signs/<signer>/<label>/<n>.jpg`` and ``ood/<set>/<n>.jpg``. A picture's bytes depend on the recipe
and the picture's own path and signer alone, not on how many there are, their order or the machines.

Letters: X points, H and W rows and columns of a picture.
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
from sign_ensemble.synthetic.hand_cones import ARM
from sign_ensemble.synthetic.ood_pictures import OOD_SETS
from sign_ensemble.synthetic.render import Scene, Wall, jpeg, render
from sign_ensemble.synthetic.signers import Signer, draw_scene, draw_signer

LABELS = tuple(POSES)
MARGIN = 0.04  # around a cropped hand, as a share of its longer side
BLACK = Wall((0.0, 0.0, 0.0), (0.0, 0.0), 0.0, 0.0)
# linear red, green and blue against the usual white wall; any: another colour in each picture
BACKGROUNDS = {
    "white": (1.0, 1.0, 1.0), "grey": (0.22, 0.22, 0.22), "green": (0.06, 0.35, 0.08),
    "black": (0.01, 0.01, 0.01), "any": None,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What every picture's bytes depend on."""

    seed: int = 0  # of the set
    spread: float = 1.0  # how far signers lie from the average, see :mod:`.signers`
    width: int = 640  # pixels
    height: int = 480  # pixels
    hand_only: bool = False  # a black background, and signs cropped to the hand without its forearm
    background: str = "white"  # one of BACKGROUNDS
    hand_size: float = 1.0  # of the hand in the picture, against the usual one


@dataclass(frozen=True)
class Picture:
    """One picture of the set."""

    kind: str  # ``sign`` or ``ood``
    name: str  # label, or OOD set
    signer: int  # number of the signer, from 1
    number: int  # number within its folder, from 1

    @property
    def path(self) -> str:
        """Relative to the set's folder."""
        file = f"{self.number:05d}.jpg"
        if self.kind == "sign":
            return f"signs/signer-{self.signer}/{self.name}/{file}"
        return f"ood/{self.name}/{file}"

    def seeds(self, recipe: Recipe) -> list[int]:
        """Seeds of this picture's numpy generator."""
        names = LABELS if self.kind == "sign" else tuple(OOD_SETS)
        kind = 5 if self.kind == "sign" else 6
        return [recipe.seed, self.signer, names.index(self.name), self.number, kind]


def plan(signers: int, images_per_label: int, ood_per_set: int) -> list[Picture]:
    """All pictures of a set; OOD pictures take the signers in turn."""
    signs = [
        Picture("sign", label, signer, n + 1)
        for signer in range(1, signers + 1)
        for label in LABELS
        for n in range(images_per_label)
    ]
    ood = [
        Picture("ood", name, n % signers + 1, n + 1)
        for name in OOD_SETS
        for n in range(ood_per_set)
    ]
    return signs + ood


@lru_cache(maxsize=64)
def _signer(seed: int, number: int, spread: float) -> Signer:
    return draw_signer(seed, number, spread)


def scene_of(picture: Picture, recipe: Recipe) -> Scene:
    """The scene that the picture shows."""
    signer = _signer(recipe.seed, picture.signer, recipe.spread)
    rng = np.random.default_rng(picture.seeds(recipe))
    if picture.kind == "sign":
        scene = draw_scene(signer, POSES[picture.name], LABELS.index(picture.name), rng)
    else:
        scene = OOD_SETS[picture.name](signer, picture.number - 1, rng)
    if recipe.background != "white":
        tint = BACKGROUNDS[recipe.background] or tuple(rng.uniform(0.02, 1, 3))
        red, green, blue = (c * t for c, t in zip(scene.wall.colour, tint, strict=True))
        scene = replace(scene, wall=replace(scene.wall, colour=(red, green, blue)))
    if recipe.hand_size != 1:
        scene = replace(scene, frame=scene.frame / recipe.hand_size)
    return scene


def hand_box(scene: Scene, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom pixel of the hand without its forearm, with a margin.

    Raises:
        ValueError: the scene shows no hand.
    """
    if scene.cones is None:
        raise ValueError("the scene shows no hand")
    ends_X3 = scene.cones.ends_Y23[ARM:].reshape(-1, 3)
    scale_X = height / scene.frame * scene.distance / (scene.distance - ends_X3[:, 2])
    centres_X2 = ends_X3[:, :2] * [-1 if scene.mirrored else 1, -1] * scale_X[:, None]
    centres_X2 += [width / 2, height / 2]
    radii_X1 = (scene.cones.radii_Y2[ARM:].ravel() * scale_X)[:, None]
    low_2, high_2 = (centres_X2 - radii_X1).min(0), (centres_X2 + radii_X1).max(0)
    more = MARGIN * (high_2 - low_2).max()
    left, top = np.maximum(low_2 - more, 0).astype(int)
    right, bottom = np.minimum(high_2 + more + 1, (width, height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def rendered(pictures: list[Picture], recipe: Recipe, device: str = "cpu") -> Iterator[bytes]:
    """The pictures' JPEG files, on one thread, as the order of sums changes bits."""
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
            yield jpeg(rgb_HW3)
    finally:
        torch.set_num_threads(threads)


def sha256_if_valid(file: Path, recipe: Recipe) -> str:
    """Digest of a file that decodes and has the recipe's size (cropped hands: at most that), else
    "".
    """
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()  # raises if the file is damaged
            shape = (opened.height, opened.width, len(opened.getbands()))
    except OSError:
        return ""
    fits = shape == (recipe.height, recipe.width, 3)
    if recipe.hand_only:
        fits = shape[0] <= recipe.height and shape[1] <= recipe.width
    return hashlib.sha256(content).hexdigest() if fits else ""

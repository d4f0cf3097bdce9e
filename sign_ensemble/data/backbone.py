"""AlexNet's five convolution layers, frozen: uint8 images in, float16 features out.

Letters: N images, H and W rows and columns, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors

from sign_ensemble.core.device import best_device, bf16_is_fast
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.opencv_module import opencv
from sign_ensemble.core.threads import map_on_threads, slices_on_threads
from sign_ensemble.data.convolutions import GRID_SIDE, Convolutions

SHIPPED = "alexnet-imagenet1k-features-fp16.safetensors"
FIFTH_FEATURES = 256 * 6 * 6
THIRD_FEATURES = 384 * GRID_SIDE * GRID_SIDE
HEAD_FEATURES = FIFTH_FEATURES + THIRD_FEATURES  # the input of heads, in this order
FOURTH_FEATURES = 256 * GRID_SIDE * GRID_SIDE
OF_IMAGE = HEAD_FEATURES + FOURTH_FEATURES
TIPS = 5  # fingertips, at which the third and the fourth layer are read
TIPS_THIRD, TIPS_FOURTH = 384 * TIPS, 256 * TIPS
OF_PIXELS = OF_IMAGE + TIPS_THIRD + TIPS_FOURTH  # what the convolutions give
OF_LANDMARKS = 310  # see ``landmark_features.py``
ALL_FEATURES = OF_PIXELS + OF_LANDMARKS + 1  # the last is the number of hands found
BATCH = 64  # images of every pass, always: rounding may depend on this number
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as torchvision publishes them with the weights
STD = (0.229, 0.224, 0.225)
SCALE = (tuple(255 * m for m in MEAN), tuple(255 * s for s in STD))  # the same of levels 0 to 255


@dataclass(frozen=True)
class HandFeatures:
    """What Features have of the hands in N images."""

    all_ND: NDArray[np.float16]

    @property
    def tips_third_ND(self) -> NDArray[np.float16]:
        """The third layer at the fingertips."""
        return self.all_ND[:, :TIPS_THIRD]

    @property
    def tips_fourth_ND(self) -> NDArray[np.float16]:
        """The fourth layer at the fingertips."""
        return self.all_ND[:, TIPS_THIRD : TIPS_THIRD + TIPS_FOURTH]

    @property
    def landmarks_ND(self) -> NDArray[np.float16]:
        """Features of the landmarks: the input of landmark members."""
        return self.all_ND[:, TIPS_THIRD + TIPS_FOURTH : -1]

    @property
    def hands_N(self) -> NDArray[np.int64]:
        """How many hands were found."""
        return self.all_ND[:, -1].astype(np.int64)

    def rows(self, chosen: NDArray[np.int64]) -> HandFeatures:
        """Those of the chosen images."""
        return HandFeatures(self.all_ND[chosen])


@dataclass(frozen=True)
class Features:
    """Features of N images, float16: the fifth layer's, the third's, the fourth's; where hands were
    looked for also the third's and the fourth's at the fingertips, those of the landmarks, and the
    number of hands found, all of them zeros where there is none.
    """

    all_ND: NDArray[np.float16]

    @property
    def head_ND(self) -> NDArray[np.float16]:
        """Features of the fifth layer and the third: the input of heads."""
        return self.all_ND[:, :HEAD_FEATURES]

    @property
    def fifth_ND(self) -> NDArray[np.float16]:
        """Features of the fifth layer: what kNN distances are computed on."""
        return self.all_ND[:, :FIFTH_FEATURES]

    @property
    def third_ND(self) -> NDArray[np.float16]:
        """Features of the third layer: what class Gaussians are fitted on."""
        return self.all_ND[:, FIFTH_FEATURES:HEAD_FEATURES]

    @property
    def fourth_ND(self) -> NDArray[np.float16]:
        """Features of the fourth layer: with the third's, those of the regional Mahalanobis."""
        return self.all_ND[:, HEAD_FEATURES:OF_IMAGE]

    @property
    def of_hand(self) -> HandFeatures:
        """Those that come from a hand."""
        return HandFeatures(self.all_ND[:, OF_IMAGE:])

    def rows(self, chosen: NDArray[np.int64]) -> Features:
        """Features of the chosen images."""
        return Features(self.all_ND[chosen])


def concatenate(parts: Sequence[Features]) -> Features:
    """All features in one record, in order."""
    if not parts:
        return Features(np.zeros((0, ALL_FEATURES), np.float16))
    return Features(np.concatenate([part.all_ND for part in parts]))


@lru_cache(maxsize=1)
def convolution_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of the convolutions by torchvision's names."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Convolutions().state_dict().items()}


@dataclass(frozen=True)
class Backbone:
    """Loaded convolutions: their device, whether they run in bf16, and their weights' sha256."""

    layers: Convolutions
    sha256: str
    device: torch.device
    half: bool

    def of_batch(
        self, images_NHW3: NDArray[np.uint8], places_N52: NDArray[np.float32] | None = None
    ) -> Features:
        """Features of 1 to 64 uint8 images (N, H, W, 3), in one pass of 64; for the places
        see :meth:`Convolutions.every`.
        """
        n = len(images_NHW3)
        if n < BATCH:
            padding = np.zeros((BATCH - n, *images_NHW3.shape[1:]), np.uint8)
            images_NHW3 = np.concatenate([images_NHW3, padding])
        images = torch.from_numpy(np.require(images_NHW3, requirements="W"))  # or torch warns
        return self.convolved(as_input(images.to(self.device), self.half), n, places_N52)

    def convolved(
        self, pixels_N3HW: torch.Tensor, n: int, places_N52: NDArray[np.float32] | None = None
    ) -> Features:
        """Features of the first n of the 64 images of a pass, given as :func:`as_input` does."""
        places = None
        if places_N52 is not None:
            places = torch.zeros(BATCH, TIPS, 2)
            places[:n] = torch.from_numpy(places_N52)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half),
        ):
            all_ND = self.layers.every(pixels_N3HW, places_N52=places)[:n]
        return Features(all_ND.clamp(max=65504).to(torch.float16).cpu().numpy())

    def of_images(
        self,
        images_NHW3: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
        places_N52: NDArray[np.float32] | None = None,
    ) -> Features:
        """Features of images in memory; progress is called with (images done, images).

        A CPU runs a pass on each of its threads, a GPU one after the other.
        """
        passes = -(-len(images_NHW3) // BATCH)

        def make(number: int) -> Features:
            some = slice(number * BATCH, (number + 1) * BATCH)
            places = None if places_N52 is None else places_N52[some]
            return self.of_batch(images_NHW3[some], places)

        on_cpu = self.device.type == "cpu"
        parts: list[Features] = []
        for part in map_on_threads(passes, make) if on_cpu else map(make, range(passes)):
            parts.append(part)
            if progress:
                progress(min(len(parts) * BATCH, len(images_NHW3)), len(images_NHW3))
        return concatenate(parts)


def normalised(levels_N3HW: torch.Tensor) -> torch.Tensor:
    """Levels 0 to 255 minus ImageNet's mean over its standard deviation per channel, float32
    (N, 3, H, W).
    """
    mean, std = (torch.tensor(x, device=levels_N3HW.device) for x in SCALE)
    if levels_N3HW.is_contiguous(memory_format=torch.channels_last):  # whole rows at a time
        side = levels_N3HW.shape[3]
        rows = levels_N3HW.permute(0, 2, 3, 1).flatten(2).to(torch.float32, copy=True)
        rows = rows.sub_(mean.repeat(side)).div_(std.repeat(side))
        return rows.unflatten(2, (side, 3)).permute(0, 3, 1, 2)
    return (levels_N3HW - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


@lru_cache(maxsize=2)
def table_of_levels(half: bool) -> NDArray[Any]:
    """Each of the 256 levels of each channel, normalised, (1, 256, 3): float32, or bf16 as int16,
    since numpy has no bf16.
    """
    levels_256x3 = torch.arange(256.0).view(256, 1).expand(256, 3)
    table = normalised(levels_256x3[..., None, None])[None, :, :, 0, 0].contiguous()
    return (table.to(torch.bfloat16).view(torch.int16) if half else table).numpy().copy()


def as_input(images_NHW3: torch.Tensor, half: bool) -> torch.Tensor:
    """uint8 images as input of the convolutions, (N, 3, H, W): normalised, on a CPU by a table of
    the 256 levels on torch's number of threads, there rounded to bf16 if ``half``.
    """
    if images_NHW3.device.type != "cpu":
        return normalised(images_NHW3.permute(0, 3, 1, 2))
    cv2, table, levels_NHW3 = opencv(), table_of_levels(half), images_NHW3.numpy()
    pixels_NHW3 = np.empty(levels_NHW3.shape, table.dtype)

    def look_up(part: slice) -> None:
        for image_HW3, into_HW3 in zip(levels_NHW3[part], pixels_NHW3[part], strict=True):
            cv2.LUT(image_HW3, table, into_HW3)

    slices_on_threads(len(levels_NHW3), look_up)
    return from_bits(pixels_NHW3, half)


def from_bits(pixels_NHW3: NDArray[Any], half: bool) -> torch.Tensor:
    """Entries of :func:`table_of_levels` as input of the convolutions, (N, 3, H, W)."""
    pixels = torch.from_numpy(pixels_NHW3)
    return (pixels.view(torch.bfloat16) if half else pixels).permute(0, 3, 1, 2)


def weights_bytes(weights: str) -> bytes:
    """Content of the weights file: ``shipped``, or a path.

    Raises:
        UserError: no such file.
    """
    if weights == "shipped":
        return files("sign_ensemble").joinpath("weights", SHIPPED).read_bytes()
    path = Path(weights)
    if not path.is_file():
        raise UserError(f"data.weights is {weights}: it must be shipped, random or a file")
    return path.read_bytes()


@lru_cache(maxsize=2)
def load(weights: str = "shipped") -> Backbone:
    """Convolutions on this machine's best device, their weights ``shipped``, ``random`` (a fixed
    draw, for tests of speed) or those of a safetensors file with torchvision's keys
    (``features.0.weight`` and so on).

    Raises:
        UserError: the file is missing or holds other layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = Convolutions()
    sha256 = "random"
    if weights != "random":
        content = weights_bytes(weights)
        sha256 = hashlib.sha256(content).hexdigest()
        try:
            tensors = load_safetensors(content)
            kept = {k: v.float() for k, v in tensors.items() if k.startswith("features.")}
            layers.load_state_dict(kept)
        except Exception as fault:  # safetensors and torch raise kinds of their own
            reason = str(fault).splitlines()[0]
            raise UserError(
                f"data.weights is {weights}: not AlexNet's convolutions ({reason})"
            ) from fault
    return on_best_device(layers, sha256)


def on_best_device(layers: Convolutions, sha256: str) -> Backbone:
    """Move the convolutions to the best device, frozen, channels last."""
    device = best_device()
    layers = layers.eval().requires_grad_(False).to(device)
    for weight in layers.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return Backbone(layers, sha256, device, bf16_is_fast(device))


def finetuned(weights: str, learned: dict[str, NDArray[np.float32]]) -> Backbone:
    """The convolutions of ``weights`` with learned tensors, by torchvision's names, put in."""
    tensors = {name: torch.from_numpy(values) for name, values in learned.items()}
    layers = Convolutions()
    layers.load_state_dict({**load(weights).layers.state_dict(), **tensors})
    return on_best_device(layers, "")

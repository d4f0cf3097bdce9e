"""MediaPipe's two networks, run by onnxruntime.

Letters: N images, A anchors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.onnx_session import onnx_session
from sign_ensemble.hands import hand_region, palm_detection

PALM_FILE = "mediapipe-palm-detection-full.onnx"
HAND_FILE = "mediapipe-hand-landmark-full.onnx"
SHA256 = {
    PALM_FILE: "1624730364404d04de1ad8ab195f6286980713836634deb55b9d8edea4ad1226",
    HAND_FILE: "b74968688eb4d02b8d56827c95075e78af822efcad2dca7dad1f5a132a3d68c5",
}
AGAIN = "install, or export the run, again"
BATCH = 8  # pictures of a pass: larger ones leave the processor's cache
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HandNetworks:
    """Both networks, ready to run; they may be called from several threads."""

    palm: Any  # onnxruntime sessions
    hand: Any

    def palms(self, pixels_NHW3: Floats) -> tuple[Floats, Floats]:
        """Values (N, A, 18) and logits (N, A) of pictures of 192 pixels, levels 0 to 1."""
        values, logits = self.palm.run(None, {self.palm.get_inputs()[0].name: pixels_NHW3})
        return values, logits[..., 0]

    def landmarks(self, pixels_NHW3: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Of regions of 224 pixels, levels 0 to 1: the 21 points in shares of the region (N, 42),
        world points in metres (N, 63), the probability that there is a hand (N,), and that it is a
        right hand as a mirror shows it (N,).
        """
        name = self.hand.get_inputs()[0].name
        points, presence, right, world = self.hand.run(None, {name: pixels_NHW3})
        flat = points.reshape(-1, hand_region.POINTS, 3)[..., :2] / hand_region.SIDE
        return flat.reshape(len(points), -1), world, presence[:, 0], right[:, 0]


def checked(file: str) -> bytes:
    """The shipped file's content.

    Raises:
        UserError: it is missing, or not the file that was shipped.
    """
    path = files("sign_ensemble").joinpath("weights", file)
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror}); {AGAIN}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[file]:
        raise UserError(
            f"{path}: damaged (its sha256 is {found[:12]}…, not {SHA256[file][:12]}…); {AGAIN}"
        )
    return content


@lru_cache(maxsize=1)
def load_networks() -> HandNetworks:
    """The shipped networks, on a GPU if onnxruntime has its CUDA provider, else on CPU threads of
    the callers' own.

    Raises:
        UserError: a file is missing or damaged, or onnxruntime cannot run it.
    """
    palm, hand = (onnx_session(checked(file), file, 1) for file in (PALM_FILE, HAND_FILE))
    return HandNetworks(palm, hand)


def version() -> dict[str, object]:
    """What a hand depends on besides the picture; part of cache keys."""
    return {
        "palm": SHA256[PALM_FILE],
        "hand": SHA256[HAND_FILE],
        "least": palm_detection.LEAST_SCORE,
        "overlap": palm_detection.OVERLAP,
    }

"""Pictures for an export's self-test: training images, and images that are no sign.

All of training signers: the test signers' images are read by the evaluation alone.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data.hand_count_negatives import no_sign, two_signs
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.pipeline.preparation import read_images

SIGNS = 200  # training images
GESTURES = 50  # wrong gestures of training signers, where there are any
MADE = 25  # made pictures without a hand, and as many with two
SEED = 0


def signs_of(listed: Manifest, data: DataConfig) -> NDArray[np.uint8]:
    """At most SIGNS training images, drawn at random, square (N, H, W, 3).

    Raises:
        UserError: one cannot be read any more.
    """
    if not listed.root.is_dir():
        raise UserError(f"{listed.root}: not there; an export's self-test reads training images")
    return _drawn(listed.rows("train"), SIGNS, listed, data)


def negatives_of(
    listed: Manifest, data: DataConfig, signs_NHW3: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Wrong gestures of training signers, and pictures of no hand and of two, made of the signs.

    Raises:
        UserError: an image cannot be read any more.
    """
    unused = listed.rows("unused")
    of_training = pc.and_(
        pc.is_in(unused["label"], pa.array(list(data.near_labels), pa.string())),
        pc.is_in(unused["signer"], pa.array(listed.signers("train"), pa.string())),
    )
    rng = np.random.default_rng(SEED)
    return np.concatenate(
        [
            _drawn(unused.filter(of_training), GESTURES, listed, data),
            no_sign(MADE, rng, signs_NHW3),
            two_signs(MADE, rng, signs_NHW3),
        ]
    )


def _drawn(rows: pa.Table, most: int, listed: Manifest, data: DataConfig) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(SEED).permutation(len(rows))[:most]
    return read_images(rows, listed.root, data, np.sort(drawn).tolist())

"""Left hands are mirrored, so that every sign is read as of a right hand.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data.hand_views import is_left
from sign_ensemble.hands.finder import Hands


def mirrored_rows(hands: Hands, signers: Sequence[str], data: DataConfig) -> NDArray[np.bool_]:
    """Which training images are mirrored: all of a signer's, if most of that signer's hands are
    left ones. Images without a signer ("") are taken one by one.
    """
    left_N = is_left(hands)
    if data.handedness == "as-is":
        return np.zeros(len(left_N), bool)
    names, mirrored_N = np.array(signers, str), left_N.copy()
    for name in np.unique(names[names != ""]):
        of_signer_N = names == name
        seen = of_signer_N & hands.found_N
        mirrored_N[of_signer_N] = bool(2 * left_N[seen].sum() > seen.sum())
    return mirrored_N

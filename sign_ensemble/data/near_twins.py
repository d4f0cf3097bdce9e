"""Near twins: test images of which training holds nearly the same picture, as of a video's frames.

Letters: N images, D cells of a thumbnail (features).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.opencv_module import opencv

SIDE = 16  # cells across a thumbnail
# Of two pictures' grey thumbnails. It is a distance of 0.1 between them, taken to mean 0 and length
# 1. Copies that are moved by half a percent, compressed and noisy lie at 0.04 to 0.1, the frames of
# a recording (Massey's hands) at 0.05 to 0.07 from the nearest; separate pictures of a label by one
# signer (built-in) at 0.10 or more, by several (218 people's digits) at 0.30 or more.
LEAST_CORRELATION = 0.995
AT_ONCE = 1024  # test images compared at a time


def thumbnail_of(rgb_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture in D grey cells."""
    cv2 = opencv()
    small = cv2.resize(rgb_HW3, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8).ravel()


def near_twins(
    thumbnails_ND: NDArray[np.uint8], labels: Sequence[str], splits: Sequence[str]
) -> int:
    """How many test images have a near twin of the same label in training."""
    about_ND = thumbnails_ND - thumbnails_ND.mean(-1, dtype=np.float32, keepdims=True)
    length_N1 = np.linalg.norm(about_ND, axis=-1, keepdims=True)
    unit_ND = about_ND / np.maximum(length_N1, 1)  # a picture of one colour resembles none
    labels_N, splits_N = np.array(labels), np.array(splits)
    found = 0
    for label in np.unique(labels_N[splits_N == "test"]):
        of_label_N = labels_N == label
        test_ND = unit_ND[of_label_N & (splits_N == "test")]
        train_DN = unit_ND[of_label_N & (splits_N == "train")].T
        for start in range(0, len(test_ND), AT_ONCE):
            likeness_NN = test_ND[start : start + AT_ONCE] @ train_DN
            found += int((likeness_NN.max(-1, initial=0) >= LEAST_CORRELATION).sum())
    return found

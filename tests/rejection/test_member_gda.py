"""GDA on a member's own features: which features it reads, and labels without images.

Letters: N images, B images fitted on, D features, K labels.
"""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.data.backbone import FIFTH_FEATURES, HEAD_FEATURES
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians, label_distances
from sign_ensemble.rejection.member_gda import MemberGda, fit_member_gda

LABELS_B = np.repeat([0, 2], 6)  # label 1 has no training image


def features(seed: int, images: int = len(LABELS_B)) -> np.ndarray:
    """Features of two groups of images, by turns six of each."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (images, HEAD_FEATURES))
    values[np.arange(images) // 6 % 2 == 1, :50] += 2
    return values.astype(np.float16)


def test_it_reads_the_fifth_layer_alone() -> None:
    train_BD, new_ND = features(0), features(1)
    found = fit_member_gda(train_BD, LABELS_B)
    to_some, _ = label_distances(
        new_ND[:, :FIFTH_FEATURES], fit_class_gaussians(train_BD[:, :FIFTH_FEATURES], LABELS_B)
    )
    to_labels_NK = found.to_labels(new_ND, 4)
    assert np.array_equal(to_labels_NK[:, [0, 2]], to_some)
    for without in (1, 3):
        assert np.array_equal(to_labels_NK[:, without], to_some.max(1))
    train_BD[:, FIFTH_FEATURES:] = 7
    again = fit_member_gda(train_BD, LABELS_B)
    assert np.array_equal(again.gaussians.means_KP, found.gaussians.means_KP)


def test_it_comes_back_from_arrays() -> None:
    found = fit_member_gda(features(0), LABELS_B)
    arrays = found.arrays()
    back = MemberGda.of_arrays(arrays)
    assert back.labels_L.tolist() == [0, 2]
    assert all(np.array_equal(v, back.arrays()[k]) for k, v in arrays.items())
    del arrays["mean_P"]
    with pytest.raises(KeyError, match="mean_P"):
        MemberGda.of_arrays(arrays)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        fit_member_gda(features(0)[:0], LABELS_B[:0])

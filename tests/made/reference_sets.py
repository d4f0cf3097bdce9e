"""A reference set of three well separated labels, and the features of its images."""

from __future__ import annotations

import numpy as np

from sign_ensemble.data.backbone import Features
from sign_ensemble.rejection.hand_count import HandCountImages
from sign_ensemble.rejection.reference_set import ReferenceSet

CORNERS = np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
FIFTH, THIRD = 12, 18  # features; of the fourth layer as many as of the third


def reference_set(seed: int = 0, signers: int = 3, copies: int = 2) -> ReferenceSet:
    """Eight images by each signer of each of three labels, and augmented copies near them."""
    rng = np.random.default_rng(seed)
    labels_B, groups_B, _ = (x.ravel() for x in np.indices((3, signers, 8)))

    def drawn(width: int) -> np.ndarray:
        values = np.zeros((len(labels_B), width))
        values[:, :3] = CORNERS[labels_B]
        return values + rng.uniform(0, 0.5, values.shape)

    fifth_BVD = np.stack([drawn(FIFTH) for _ in range(1 + copies)], 1).astype(np.float16)
    pictures = HandCountImages(
        np.abs(rng.normal(size=(4 * signers, FIFTH))).astype(np.float16),
        np.tile([1, 2, 0, 1], signers),
        np.repeat(np.arange(signers), 4),
    )
    third_BD, fourth_BD = (drawn(THIRD).astype(np.float16) for _ in range(2))
    return ReferenceSet(fifth_BVD, third_BD, fourth_BD, labels_B, groups_B, pictures=pictures)


class FewFeatures(Features):
    """Features of as few values as the reference set's."""

    @property
    def fifth_ND(self) -> np.ndarray:
        return self.all_ND[:, :FIFTH]

    @property
    def third_ND(self) -> np.ndarray:
        return self.all_ND[:, FIFTH : FIFTH + THIRD]

    @property
    def fourth_ND(self) -> np.ndarray:
        return self.all_ND[:, FIFTH + THIRD :]

    def rows(self, chosen: np.ndarray) -> Features:
        return FewFeatures(self.all_ND[chosen])


def features_of(reference: ReferenceSet) -> Features:
    """Features of its images."""
    layers = (reference.fifth_BVD[:, 0], reference.third_BD, reference.fourth_BD)
    return FewFeatures(np.concatenate(layers, 1))

"""Joint distance: whether pixels and landmarks both fit the *same* label.

    s(x) = min_k [ g(a_k(x)) + v g(b_k(x)) ],      g(z) = z for z ≤ 0, log(1 + z) above
    a_k  = (1 − w) z(tips)_k + w z(tip discriminants)_k,   w = (K − 1) / (K − 1 + HALF)
    b_k  = the same of the landmarks

z is a distance to label k less its median over its median absolute deviation (times 1.4826), both
of the true label's distances of signers whom the Gaussians had not seen. K labels have K − 1
discriminants, which therefore count the more, the more labels there are. g lets one kind, however
sure, not outvote the other: a label that a person's landmarks show unusually is still read by its
pixels.

On most wrong gestures the two kinds name different labels, on most signs the same.

Without a hand the regional Mahalanobis distance of the whole picture takes the place of a, and
NO_HAND that of b: a picture that no hand is found in must fit well to be accepted.

Letters: N images, C calibration images, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.rejection.kind_distances import PARTS, KindDistances

# Chosen on held-out labels (docs/design-log.md).
WEIGHT = 0.5  # v
HALF = 12  # discriminants that count as much as principal components do
NO_HAND = 3.0  # b where no hand was found
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Median and spread of a distance to the true label, of unseen signers' signs."""

    median: float
    spread: float

    def of(self, distances: Floats) -> Floats:
        """The distances in spreads from the median."""
        return (distances - self.median) / self.spread


@dataclass(frozen=True)
class JointScales:
    """The scales of the five distances."""

    tips: Scale
    landmarks: Scale
    tip_discriminants: Scale
    landmark_discriminants: Scale
    regional: Scale  # where no hand was found

    def as_dict(self) -> dict[str, Any]:
        """For rule.json."""
        return {name: vars(scale) for name, scale in vars(self).items()}


@dataclass(frozen=True)
class JointDistance:
    """The joint distance of N images, and its parts at the label that fits best."""

    total_N: Floats
    tips_N: Floats  # g(a)
    landmarks_N: Floats  # g(b)


def joint_scales_of(values: dict[str, Any] | None) -> JointScales | None:
    """Undo :meth:`JointScales.as_dict`."""
    if values is None:
        return None
    return JointScales(**{name: Scale(**scale) for name, scale in values.items()})


def fit_scale(distances_C: Floats) -> Scale:
    """The scale of these distances."""
    median = float(np.median(distances_C))
    spread = 1.4826 * float(np.median(np.abs(distances_C - median)))
    return Scale(median, max(spread, 1e-6))


def fit_joint_scales(
    kinds: KindDistances, regional_C: Floats, labels_C: NDArray[np.int64]
) -> JointScales:
    """From distances of images whose signers the Gaussians had not seen, and their labels."""
    rows = np.flatnonzero(kinds.hands_N > 0)
    labels = labels_C[rows]
    pairs = zip(PARTS, kinds.to_labels, strict=True)
    of_true = {part: fit_scale(to_labels_NK[rows, labels]) for part, to_labels_NK in pairs}
    return JointScales(regional=fit_scale(regional_C), **of_true)


def damped(z: Floats) -> Floats:
    """G: z up to 0, log(1 + z) above."""
    return np.where(z > 0, np.log1p(np.maximum(z, 0)), z)


def discriminant_weight(labels: int) -> float:
    """W: the share of the discriminants in a kind's distance."""
    return (labels - 1) / (labels - 1 + HALF)


def joint_distance(
    kinds: KindDistances, regional_N: Floats | None, scales: JointScales
) -> JointDistance:
    """The joint distance of images; ``regional_N`` is their regional Mahalanobis distance, None
    where it is not known (images without a hand are then at NO_HAND in both).
    """
    w = discriminant_weight(kinds.tips_NK.shape[1])
    tips_NK = damped(
        (1 - w) * scales.tips.of(kinds.tips_NK)
        + w * scales.tip_discriminants.of(kinds.tip_discriminants_NK)
    )
    landmarks_NK = damped(
        (1 - w) * scales.landmarks.of(kinds.landmarks_NK)
        + w * scales.landmark_discriminants.of(kinds.landmark_discriminants_NK)
    )
    best_N = (tips_NK + WEIGHT * landmarks_NK).argmin(1)
    rows, without_N = np.arange(len(best_N)), kinds.hands_N == 0
    tips_N, landmarks_N = tips_NK[rows, best_N], landmarks_NK[rows, best_N]
    unknown = np.full(len(best_N), np.log1p(NO_HAND))
    without_hand_N = unknown if regional_N is None else damped(scales.regional.of(regional_N))
    tips_N = np.where(without_N, without_hand_N, tips_N)
    landmarks_N = np.where(without_N, unknown, landmarks_N)
    return JointDistance(tips_N + WEIGHT * landmarks_N, tips_N, landmarks_N)

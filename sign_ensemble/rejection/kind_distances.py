"""How well a hand fits each label: by its pixels at the fingertips, and by its landmarks.

Both are relative Mahalanobis distances M_k − M_0 to a label's Gaussian, M_0 being to the Gaussian
of all images. At each fingertip two convolution layers have Gaussians of their own, whose distances
are added up: a wrong gesture often differs from a sign by where one finger ends. Each kind is
measured a second time in its linear discriminants, see ``discriminants.py``.

Letters: N images, B images fitted on, D features, K labels, L labels that occur among the B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.bf16_products import to_float32
from sign_ensemble.data.backbone import TIPS, HandFeatures
from sign_ensemble.learning.task import Kind
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    Floats,
    fit_to_hellinger,
    hellinger,
    hellinger_distances,
)
from sign_ensemble.rejection.discriminants import fit_discriminants
from sign_ensemble.rejection.regional_mahalanobis import (
    LAYERS,
    RegionalGaussians,
    by_region,
    fit_regional,
)

# Chosen on held-out labels (docs/design-log.md): 40 to 90 components differ by less than .005.
COMPONENTS, SHRINK = 40, 0.2  # of the landmarks' Gaussians
SCALE = "scale"  # among the arrays
PARTS = ("tips", "landmarks", "tip_discriminants", "landmark_discriminants")
READ_BY: tuple[Kind, ...] = ("pixels", "landmarks")  # see ``in_discriminants_2NK``


@dataclass(frozen=True)
class KindGaussians:
    """Class Gaussians of fingertips and of landmarks."""

    labels_L: NDArray[np.int64]  # the labels that have Gaussians, ascending
    tips: RegionalGaussians
    scale_D: NDArray[np.float32]  # 1 / standard deviation of each landmark feature
    landmarks: ClassGaussians  # of the scaled features
    tip_discriminants: ClassGaussians  # of all fingertips in both layers together
    landmark_discriminants: ClassGaussians  # of the scaled features

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All fields by dotted name."""
        return {
            "labels": self.labels_L,
            SCALE: self.scale_D,
            **{
                f"{part}.{name}": value
                for part in PARTS
                for name, value in getattr(self, part).arrays().items()
            },
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> KindGaussians:
        """Undo :meth:`arrays`."""

        def part(prefix: str) -> dict[str, NDArray[Any]]:
            start = f"{prefix}."
            return {k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)}

        tips = RegionalGaussians.of_arrays(part(PARTS[0]))
        others = {name: ClassGaussians.of_arrays(part(name)) for name in PARTS[1:]}
        return cls(labels_L=arrays["labels"], tips=tips, scale_D=arrays[SCALE], **others)


@dataclass(frozen=True)
class KindDistances:
    """Relative distances of N images to all K labels; zeros where no hand was found."""

    tips_NK: Floats
    landmarks_NK: Floats
    tip_discriminants_NK: Floats
    landmark_discriminants_NK: Floats
    hands_N: NDArray[np.int64]  # how many hands were found

    @classmethod
    def zeros(cls, hands_N: NDArray[np.int64], labels: int) -> KindDistances:
        """Of images in which so many hands were found, before anything is measured."""
        each = {f"{part}_NK": np.zeros((len(hands_N), labels)) for part in PARTS}
        return cls(hands_N=hands_N, **each)

    @property
    def to_labels(self) -> tuple[Floats, ...]:
        """The distances (N, K), in the order of PARTS."""
        return tuple(getattr(self, f"{part}_NK") for part in PARTS)

    @property
    def in_discriminants_2NK(self) -> Floats:
        """Those that become GDA predictions: of fingertips, then of landmarks."""
        return np.stack([self.tip_discriminants_NK, self.landmark_discriminants_NK])

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> KindDistances:
        """Those of some of the images."""
        return KindDistances(*(values[chosen] for values in vars(self).values()))


def concatenate_kinds(parts: list[KindDistances]) -> KindDistances:
    """Those of several sets of images, one after the other."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return KindDistances(*(np.concatenate(values) for values in columns))


def tips_together(features: HandFeatures) -> torch.Tensor:
    """Hellinger features of all fingertips in both layers, (N, D)."""
    layers = (features.tips_third_ND, features.tips_fourth_ND)
    return torch.cat([region for each in layers for region in by_region(hellinger(each), TIPS)], 1)


def fit_kind_gaussians(features: HandFeatures, labels_B: NDArray[np.int64]) -> KindGaussians | None:
    """Fit to images and augmented copies in which a hand was found; None without any."""
    seen_B = features.hands_N > 0
    if not seen_B.any():
        return None
    seen, labels = features.rows(np.flatnonzero(seen_B)), labels_B[seen_B]
    tips = fit_regional((seen.tips_third_ND, seen.tips_fourth_ND), labels, TIPS)
    values_BD = seen.landmarks_ND.astype(np.float32)
    scale_D = (1 / np.maximum(values_BD.std(0), 1e-6)).astype(np.float32)
    scaled_BD = torch.from_numpy(values_BD * scale_D)
    landmarks = fit_to_hellinger(scaled_BD, labels, COMPONENTS, SHRINK)
    return KindGaussians(
        np.unique(labels),
        tips,
        scale_D,
        landmarks,
        fit_discriminants(tips_together(seen), labels),
        fit_discriminants(scaled_BD, labels),
    )


def of_all_labels(to_some_NL: Floats, labels_L: NDArray[np.int64], labels: int) -> Floats:
    """Distances to all K labels (N, K) from those to the L that have a Gaussian; a label without
    one is as far as the farthest with one.
    """
    to_labels_NK = np.repeat(to_some_NL.max(1, keepdims=True), labels, 1)
    to_labels_NK[:, labels_L] = to_some_NL
    return to_labels_NK


def kind_distances(features: HandFeatures, gaussians: KindGaussians, labels: int) -> KindDistances:
    """Distances of images to all ``labels``."""
    found = KindDistances.zeros(features.hands_N, labels)
    rows = np.flatnonzero(found.hands_N > 0)
    if not len(rows):
        return found
    seen = features.rows(rows)
    to_labels_JNK, to_all_JN = gaussians.tips.distances((seen.tips_third_ND, seen.tips_fourth_ND))
    scaled_ND = to_float32(np.ascontiguousarray(seen.landmarks_ND))
    scaled_ND *= torch.from_numpy(gaussians.scale_D)
    measured = (
        (to_labels_JNK - to_all_JN[:, :, None]).sum(0) / LAYERS,
        relative_distances(scaled_ND, gaussians.landmarks),
        relative_distances(tips_together(seen), gaussians.tip_discriminants),
        relative_distances(scaled_ND, gaussians.landmark_discriminants),
    )
    for into_NK, to_some_NL in zip(found.to_labels, measured, strict=True):
        into_NK[rows] = of_all_labels(to_some_NL, gaussians.labels_L, labels)
    return found


def relative_distances(values_ND: torch.Tensor, gaussians: ClassGaussians) -> Floats:
    """M_k − M_0 of N images, (N, L)."""
    to_labels_NL, to_all_N = hellinger_distances(values_ND, gaussians)
    return to_labels_NL - to_all_N[:, None]

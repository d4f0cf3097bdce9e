"""Distances of the rejection rule as modules that are exported.

The same as ``class_gaussians.py``, ``regional_mahalanobis.py``, ``nearest_neighbours.py``,
``hand_count.py``, ``kind_distances.py`` and ``joint_distance.py`` of ``rejection/`` compute; a test
holds both equal.

Letters: N images, B reference images, D features, K labels, L labels that occur among the B,
P principal components or discriminants, J regions of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sign_ensemble.data.backbone import TIPS
from sign_ensemble.rejection.class_gaussians import ClassGaussians
from sign_ensemble.rejection.hand_count import HandCountDetector
from sign_ensemble.rejection.joint_distance import (
    NO_HAND,
    WEIGHT,
    JointScales,
    Scale,
    discriminant_weight,
)
from sign_ensemble.rejection.kind_distances import KindGaussians
from sign_ensemble.rejection.regional_mahalanobis import LAYERS, WHOLE_IMAGE, RegionalGaussians
from sign_ensemble.serving.graph_features import PixelFeatures
from sign_ensemble.serving.graph_weights import exactly, stored

LEAST_NORM = 1e-12


def unit(values_ND: torch.Tensor) -> torch.Tensor:
    """Vectors scaled to length 1; a zero vector stays zero."""
    return values_ND / values_ND.norm(dim=1, keepdim=True).clamp(min=LEAST_NORM)


def hellinger(features_ND: torch.Tensor) -> torch.Tensor:
    """√f / ‖√f‖ of each image; a value below 0 is 0."""
    return unit(features_ND.clamp(min=0).sqrt())


def by_region(layer_ND: torch.Tensor, regions: int) -> torch.Tensor:
    """A layer's features region by region, (J, N, D / J)."""
    return layer_ND.unflatten(1, (-1, regions)).permute(2, 0, 1)


class GraphGaussians(nn.Module):
    """Class Gaussians of J regions side by side."""

    def __init__(self, regions: Sequence[ClassGaussians]) -> None:
        super().__init__()
        roots, at_means = zip(*(region.roots() for region in regions), strict=True)
        self.components = len(regions[0].mean_P)
        self.centre = stored(np.stack([region.centre_D for region in regions])[:, None])
        self.axes = stored(np.stack([region.axes_DP for region in regions]))
        self.roots, self.at_means = (
            stored(torch.stack(roots)),
            stored(torch.stack(at_means)[:, None]),
        )

    def forward(self, hellinger_JND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared Mahalanobis distances to each label (J, N, L), to all images (J, N)."""
        projected = (hellinger_JND - self.centre.float()) @ self.axes.float()
        whitened = projected @ self.roots.float() - self.at_means.float()
        squared = whitened.unflatten(2, (-1, self.components)).square().sum(3).double()
        return squared[..., :-1], squared[..., -1]

    def relative(self, values_ND: torch.Tensor) -> torch.Tensor:
        """M_k − M_0 of N images by the one region that there is, (N, L)."""
        to_labels_1NL, to_all_1N = self(values_ND[None])
        return to_labels_1NL[0] - to_all_1N[0][:, None]


class LayersOfRegions(nn.Module):
    """Class Gaussians of the regions of two layers."""

    def __init__(self, gaussians: RegionalGaussians) -> None:
        super().__init__()
        regions = gaussians.regions
        self.regions = len(regions) // LAYERS
        self.third = GraphGaussians(regions[: self.regions])
        self.fourth = GraphGaussians(regions[self.regions :])

    def forward(
        self, third_ND: torch.Tensor, fourth_ND: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared distances per region of both layers, (J, N, L) and (J, N), of Hellinger
        features.
        """
        third = self.third(by_region(third_ND, self.regions))
        fourth = self.fourth(by_region(fourth_ND, self.regions))
        return torch.cat([third[0], fourth[0]]), torch.cat([third[1], fourth[1]])


class RegionalDistance(nn.Module):
    """Regional Mahalanobis distance of N images, and squared distances by the third layer."""

    def __init__(self, third: ClassGaussians, regional: RegionalGaussians) -> None:
        super().__init__()
        self.whole_image, self.layers = GraphGaussians([third]), LayersOfRegions(regional)

    def forward(
        self, third_ND: torch.Tensor, fourth_ND: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The score (N,), and squared distances (N, L)."""
        third_ND, fourth_ND = hellinger(third_ND), hellinger(fourth_ND)
        to_labels_1NL, to_all_1N = self.whole_image(third_ND[None])
        to_labels_JNL, to_all_JN = self.layers(third_ND, fourth_ND)
        nearest_N = to_labels_JNL.sum(0).argmin(1)
        index_JN1 = nearest_N[None, :, None].expand(len(to_labels_JNL), -1, 1)
        excess_JN = to_labels_JNL.gather(2, index_JN1)[..., 0] - to_all_JN
        worst_N = excess_JN.unflatten(0, (LAYERS, -1)).amax(1).mean(0)
        whole_image_N = to_labels_1NL[0].amin(1) - to_all_1N[0]
        return worst_N + WHOLE_IMAGE * whole_image_N, to_labels_1NL[0]


class KnnDistance(nn.Module):
    """Cosine distance to the k-th nearest reference image."""

    def __init__(self, reference_BD: NDArray[np.float16], neighbours: int) -> None:
        super().__init__()
        length_B = torch.from_numpy(reference_BD).float().norm(dim=1)
        self.neighbours = min(neighbours, len(reference_BD))
        self.reference_DB = stored(reference_BD.T)
        self.length_B = stored(length_B.clamp(min=LEAST_NORM))

    def forward(self, fifth_ND: torch.Tensor) -> torch.Tensor:
        """The distances (N,)."""
        cosines_NB = unit(fifth_ND) @ self.reference_DB.float() / self.length_B.float()
        kth_N = cosines_NB.topk(self.neighbours, dim=1).values[:, -1]
        return 1 - kth_N.double().clamp(-1, 1)


class HandCountScores(nn.Module):
    """The hand-count detector."""

    def __init__(self, detector: HandCountDetector) -> None:
        super().__init__()
        weights_2D = torch.from_numpy(detector.weights_2D)
        self.weights_D2 = stored(weights_2D.T)
        self.at_mean_2 = exactly((torch.from_numpy(detector.mean_2D) * weights_2D).double().sum(1))

    def forward(self, fifth_ND: torch.Tensor) -> torch.Tensor:
        """Scores (N, 2) of no hand and of two."""
        return (hellinger(fifth_ND) @ self.weights_D2.float()).double() - self.at_mean_2


class ToAllLabels(nn.Module):
    """Distances to all K labels from those to the L that have a Gaussian; a label without one is as
    far as the farthest with one.
    """

    def __init__(self, labels_L: NDArray[np.int64], labels: int) -> None:
        super().__init__()
        self.complete = len(labels_L) == labels
        self.known_K = exactly(np.isin(np.arange(labels), labels_L))
        position = np.searchsorted(labels_L, np.arange(labels)).clip(max=len(labels_L) - 1)
        self.position_K = exactly(position.astype(np.int64))

    def forward(self, to_some_NL: torch.Tensor) -> torch.Tensor:
        """Distances (N, K)."""
        if self.complete:
            return to_some_NL
        to_labels_NK = to_some_NL[:, self.position_K]
        return torch.where(self.known_K, to_labels_NK, to_some_NL.amax(1, keepdim=True))


class GraphKinds(nn.Module):
    """Relative distances by fingertips and landmarks, to all labels."""

    def __init__(self, gaussians: KindGaussians, labels: int) -> None:
        super().__init__()
        self.scale_D = stored(gaussians.scale_D)
        self.tips = LayersOfRegions(gaussians.tips)
        self.landmarks = GraphGaussians([gaussians.landmarks])
        self.tip_discriminants = GraphGaussians([gaussians.tip_discriminants])
        self.landmark_discriminants = GraphGaussians([gaussians.landmark_discriminants])
        self.to_all = ToAllLabels(gaussians.labels_L, labels)

    def forward(
        self, pixels: PixelFeatures, landmarks_ND: torch.Tensor, found_N: torch.Tensor
    ) -> list[torch.Tensor]:
        """Distances (N, K) in the order of ``kind_distances.PARTS``; zeros without a hand."""
        assert pixels.tips_third_ND is not None and pixels.tips_fourth_ND is not None
        layers = [hellinger(each) for each in (pixels.tips_third_ND, pixels.tips_fourth_ND)]
        together_ND = torch.cat([region for x in layers for region in by_region(x, TIPS)], 1)
        to_labels_JNL, to_all_JN = self.tips(*layers)
        scaled_ND = landmarks_ND * self.scale_D.float()
        measured = (
            (to_labels_JNL - to_all_JN[:, :, None]).sum(0) / LAYERS,
            self.landmarks.relative(scaled_ND),
            self.tip_discriminants.relative(together_ND),
            self.landmark_discriminants.relative(scaled_ND),
        )
        zero = torch.zeros((), dtype=torch.float64)
        return [torch.where(found_N[:, None], self.to_all(each), zero) for each in measured]


def damped(z: torch.Tensor) -> torch.Tensor:
    """G: z up to 0, log(1 + z) above."""
    return torch.where(z > 0, torch.log1p(z.clamp(min=0)), z)


def joint_distance(
    kinds: Sequence[torch.Tensor],
    regional_N: torch.Tensor,
    found_N: torch.Tensor,
    scales: JointScales,
) -> torch.Tensor:
    """The joint distance (N,), of the distances that :class:`GraphKinds` gives."""
    tips, landmarks, tip_discriminants, landmark_discriminants = kinds
    w = discriminant_weight(tips.shape[1])

    def fit(distance: torch.Tensor, scale: Scale, other: torch.Tensor, of: Scale) -> torch.Tensor:
        mixed = (1 - w) * (distance - scale.median) / scale.spread
        return damped(mixed + w * (other - of.median) / of.spread)

    total_NK = fit(tips, scales.tips, tip_discriminants, scales.tip_discriminants) + WEIGHT * fit(
        landmarks, scales.landmarks, landmark_discriminants, scales.landmark_discriminants
    )
    without_N = damped((regional_N - scales.regional.median) / scales.regional.spread)
    without_N = without_N + WEIGHT * float(np.log1p(NO_HAND))
    return torch.where(found_N, total_NK.amin(1), without_N)

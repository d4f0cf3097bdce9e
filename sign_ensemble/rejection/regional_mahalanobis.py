"""Regional Mahalanobis distance: how badly the worst region of an image fits the nearest label.

Many a wrong gesture is a sign but for one finger. In a distance of the whole image that finger is
lost among all that is unusual in a new person's hand. So each cell of a 3 × 3 grid has class
Gaussians of its own, in two convolution layers.

Letters: N images, B images fitted on, D features of a layer, K labels, J regions of both layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.data.convolutions import GRID_SIDE
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    Floats,
    fit_to_hellinger,
    hellinger,
    hellinger_chunks,
    hellinger_distances,
)

# Chosen on held-out labels (docs/design-log.md).
COMPONENTS = 80
SHRINK = 0.4
WHOLE_IMAGE = 0.25  # weight of the whole image's relative distance
LAYERS = 2
REGIONS = GRID_SIDE * GRID_SIDE  # of one layer
Layers = tuple[NDArray[np.float16], NDArray[np.float16]]  # third and fourth layer, (N, D) each


def by_region(layer_ND: torch.Tensor, regions: int = REGIONS) -> torch.Tensor:
    """A layer's features, as ``Convolutions`` lays them out, region by region: (J, N, D / J)."""
    return layer_ND.unflatten(1, (-1, regions)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class RegionalGaussians:
    """Class Gaussians of every region."""

    # those of the third layer's grid, then those of the fourth's
    regions: tuple[ClassGaussians, ...]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All fields by name."""
        each = enumerate(self.regions)
        return {f"{i}.{name}": v for i, one in each for name, v in one.arrays().items()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> RegionalGaussians:
        """Undo :meth:`arrays`."""
        names = ClassGaussians.__dataclass_fields__
        count = len({name.split(".")[0] for name in arrays})
        each = ({n: arrays[f"{i}.{n}"] for n in names} for i in range(count))
        return cls(tuple(ClassGaussians.of_arrays(of) for of in each))

    def distances(self, layers: Layers) -> tuple[Floats, Floats]:
        """Squared Mahalanobis distances per region: to each label (J, N, K), to all images (J,
        N).
        """
        to_labels = [np.zeros((len(self.regions), 0, len(self.regions[0].means_KP)))]
        to_all = [np.zeros((len(self.regions), 0))]
        for some in zip(*map(hellinger_chunks, layers), strict=True):
            of_layer = len(self.regions) // LAYERS
            regions = [region for layer_ND in some for region in by_region(layer_ND, of_layer)]
            each = [hellinger_distances(*pair) for pair in zip(regions, self.regions, strict=True)]
            to_labels.append(np.stack([to_labels_NK for to_labels_NK, _ in each]))
            to_all.append(np.stack([to_all_N for _, to_all_N in each]))
        return np.concatenate(to_labels, 1), np.concatenate(to_all, 1)


def fit_regional(
    layers: Layers, labels_B: NDArray[np.int64], regions: int = REGIONS
) -> RegionalGaussians:
    """Fit every region's class Gaussians, of so many regions in each layer."""
    return RegionalGaussians(
        tuple(
            fit_to_hellinger(region_BD, labels_B, COMPONENTS, SHRINK)
            for layer in layers
            for region_BD in by_region(hellinger(layer), regions)
        )
    )


def worst_region(to_labels_JNK: Floats, to_all_JN: Floats) -> Floats:
    """Mean over the layers of max_j (M_jk − M_j0), j a region of the layer, (N,); unbounded.

    k = argmin_k Σ_j M_jk is the nearest label by all regions of both layers; M are squared
    Mahalanobis distances in region j, M_j0 to all images.
    """
    nearest_N = to_labels_JNK.sum(0).argmin(1)
    of_nearest_JN = np.take_along_axis(to_labels_JNK, nearest_N[None, :, None], 2)[..., 0]
    worst_N: Floats = (of_nearest_JN - to_all_JN).reshape(LAYERS, REGIONS, -1).max(1).mean(0)
    return worst_N


def regional_distance(layers: Layers, regional: RegionalGaussians, whole_image_N: Floats) -> Floats:
    """The score: :func:`worst_region` + WHOLE_IMAGE times the whole image's relative distance,
    ``relative_distance`` of ``class_gaussians.py`` in the third layer.
    """
    return worst_region(*regional.distances(layers)) + WHOLE_IMAGE * whole_image_N

"""The principal directions of the training features, in which a head learns its first layer.

A few hundred training images span a few hundred of the D directions of feature space; along the
others the first layer's weights only follow noise. Learning along the K directions of largest
variance is cheaper by about D/K, and strangers are read better. What has been learned is folded
back, so that a finished head takes features like any other.

Letters: N training images, V the image and its views, D features, K directions, H units of the
first hidden layer.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.bf16_products import bf16_if_fast
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.network import Head

MOST = 2500  # images that directions are found from: the time grows with the square of them
AT_ONCE = 512  # images read at a time
PART = 24 * 2**20  # bytes of features entered at a time: glibc gives more as new pages each time
CACHED = 512 * 2**20  # bytes of entered images that a process keeps for its next trials
CACHED_UNSEEN = 128 * 2**20  # the same of images that heads only read


@dataclass(frozen=True)
class PrincipalComponents:
    """Directions of feature space and the point where they cross.

    Args:
        mean_D: The training images' mean, float32.
        components_PD: Orthonormal rows, largest variance first, float32.
    """

    mean_D: NDArray[np.float32]
    components_PD: NDArray[np.float32]

    @property
    def rate_factor(self) -> float:
        """√(D/K), what multiplies the first layer's step size.

        A step of Adam moves every weight by as much, so what K weights do to a unit is √(K/D) of
        what D weights would.
        """
        components, features = self.components_PD.shape
        return float(np.sqrt(features / components))

    def project(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Coordinates along the directions, (N, K): (x − mean) · directionsᵀ, float32."""
        mean_D, components_PD = self.on(features_ND.device)
        return (features_ND.float() - mean_D) @ components_PD.T

    def unproject(self, head: Head) -> Head:
        """The head on features that answers as the given one does on coordinates.

        W (H, K) becomes W · directions (H, D), and its bias loses W · directions · mean.
        """
        with torch.device("meta"):  # weights are neither drawn nor filled: all of them are given
            end_to_end = Head(len(self.mean_D), head.widths, head.labels, head.dropout)
        tensors = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        mean_D, components_PD = self.on(tensors["layers.0.weight"].device)
        weight_UD = tensors["layers.0.weight"] @ components_PD
        tensors["layers.0.bias"] = tensors["layers.0.bias"] - weight_UD @ mean_D
        tensors["layers.0.weight"] = weight_UD
        end_to_end.load_state_dict(tensors, assign=True)
        return end_to_end.train(head.training)

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and directions as tensors; what other processes may see too is copied first."""
        both = (self.mean_D, self.components_PD)
        mean_D, components_PD = (torch.from_numpy(np.require(x, requirements="W")) for x in both)
        return mean_D.to(device), components_PD.to(device)


@dataclass(frozen=True)
class ProjectedImages:
    """Training images along the principal directions of their features.

    Args:
        subspace: The directions.
        coordinates_NVP: Each image and its views, float16.
    """

    subspace: PrincipalComponents
    coordinates_NVP: NDArray[np.float16]

    @property
    def nbytes(self) -> int:
        """Bytes of the coordinates."""
        return self.coordinates_NVP.nbytes


def fit_principal_components(features_ND: torch.Tensor, components: int) -> PrincipalComponents:
    """The principal directions of some images' features.

    From the eigenvectors u of the centred images' Gram matrix (N, N) with eigenvalue λ:
    directions are Xᵀu / √λ. Fewer than asked for if the images span fewer.

    Args:
        features_ND: The images, float32.
        components: K, at most.
    """
    mean_D = features_ND.mean(0)
    centred_ND = features_ND - mean_D
    values_N, vectors_NN = torch.linalg.eigh(centred_ND @ centred_ND.T)
    spans = values_N > 1e-5 * values_N[-1].clamp(min=1e-12)
    spans[: max(0, len(spans) - components)] = False
    axes_NP = vectors_NN[:, spans].flip(1)
    components_PD = (axes_NP / values_N[spans].flip(0).sqrt()).T @ centred_ND
    return PrincipalComponents(mean_D.cpu().numpy(), components_PD.cpu().numpy())


def project_images(
    features: CachedArray, row_N: NDArray[np.int64], components: int, device: torch.device
) -> ProjectedImages:
    """Find the directions of training images and enter them with their views.

    Images take turns in being seen as they are, as their first view, their second and so on, so
    that the directions are those of views too. Coordinates are computed in bf16 where that is fast:
    there heads learn in bf16, which rounds them as much.

    Args:
        features: The cached features.
        row_N: The row of each training image in them.
        components: K, at most.
        device: Where to compute.
    """
    features_RVD = features.open()
    every = max(1, -(-len(row_N) // MOST))
    some_N = row_N[::every]
    turns_N = np.arange(len(some_N)) % features_RVD.shape[1]
    some_ND = torch.from_numpy(features_RVD[some_N, turns_N]).to(device).float()
    subspace = fit_principal_components(some_ND, components)
    shape = (len(row_N), features_RVD.shape[1], len(subspace.components_PD))
    projected_NVP = np.empty(shape, np.float16)
    mean_D, components_PD = subspace.on(device)
    components_PD = bf16_if_fast(components_PD)
    images = max(1, PART // (4 * features_RVD[0].size))
    for start in range(0, len(row_N), images):
        rows_NVD = torch.from_numpy(np.asarray(features_RVD[row_N[start : start + images]]))
        part_NVP = bf16_if_fast(rows_NVD.to(device).float().sub_(mean_D)) @ components_PD.T
        projected_NVP[start : start + images] = part_NVP.half().cpu().numpy()
    return ProjectedImages(subspace, projected_NVP)


def projection_key(features: CachedArray, row_N: NDArray[np.int64], components: int) -> str:
    """What images along so many directions are known by."""
    about = f"{features.path} {components} ".encode()
    return hashlib.sha256(about + row_N.tobytes()).hexdigest()


def content_key(features_ND: NDArray[np.float16]) -> str:
    """What images are known by that lie in no cache."""
    return hashlib.sha256(np.ascontiguousarray(features_ND).view(np.uint8).data).hexdigest()


class Sized(Protocol):
    """What takes memory."""

    @property
    def nbytes(self) -> int:
        """How many bytes."""
        ...


Kept = TypeVar("Kept", bound=Sized)


def cached_or_made(
    kept: OrderedDict[str, Kept], key: str, make: Callable[[], Kept], most: int
) -> Kept:
    """What is kept by this key, or is made now; of what was asked for longest ago nothing is kept
    beyond ``most`` bytes.
    """
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > 1 and sum(each.nbytes for each in kept.values()) > most:
        kept.popitem(last=False)
    return kept[key]


_KEPT: OrderedDict[str, ProjectedImages] = OrderedDict()
_UNSEEN: OrderedDict[str, torch.Tensor] = OrderedDict()


def cached_projection(
    features: CachedArray, row_N: NDArray[np.int64], components: int, device: torch.device
) -> ProjectedImages:
    """:func:`project_images`, kept by this process for its next trainings on the same images."""
    key = projection_key(features, row_N, components)
    return cached_or_made(
        _KEPT, key, lambda: project_images(features, row_N, components, device), CACHED
    )


def project_unseen(
    key: str,
    subspace: PrincipalComponents,
    read: Callable[[], NDArray[np.float16]],
    device: torch.device,
) -> torch.Tensor:
    """Images that no head of a subspace learns from, along its directions (N, K), float32: entered
    once, for all heads of this process that read them.

    A head that left its subspace to read them would do D / K times the work, and leaving costs as
    much again: without both a trial's fold took .75 of the time (1.13 to .85 s, n = 2 of 16 heads).

    Args:
        key: What the subspace and the images are known by.
        subspace: The directions.
        read: The images' features (N, D), asked for if they are not kept.
        device: Where to compute.
    """

    def projected() -> torch.Tensor:
        features_ND = read()
        parts = [torch.zeros((0, len(subspace.components_PD)), device=device)]
        for start in range(0, len(features_ND), AT_ONCE):
            rows = torch.from_numpy(np.asarray(features_ND[start : start + AT_ONCE]))
            parts.append(subspace.project(rows.to(device)))
        return torch.cat(parts)

    return cached_or_made(_UNSEEN, f"{key} {device}", projected, CACHED_UNSEEN)

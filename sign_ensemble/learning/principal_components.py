"""Principal components of the training features, the inputs on which a head is trained.

A few hundred training images span a few hundred of the D directions of feature space; along the
others the first layer's weights only fit noise. Training on the P components of largest variance
costs about P / D of the time. Afterwards the projection is folded into the first layer
(:meth:`PrincipalComponents.unproject`), so that a finished head takes features.

Letters: N images, B images that components are fitted on, V an image and its augmented copies,
R rows of a cache file, D features, P principal components, K labels, U units of the first layer.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.bf16_products import bf16_if_fast
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.network import Head

MAX_FITTED = 2500  # images that components are fitted on: the time grows with their square
CHUNK = 512  # images projected at a time
CHUNK_BYTES = 24 * 2**20  # of float32 features; glibc takes new pages for more, each time
CACHE_BYTES = 512 * 2**20  # of projected training images that a process keeps
UNSEEN_CACHE_BYTES = 128 * 2**20  # of projected images outside the training set


@dataclass(frozen=True)
class PrincipalComponents:
    """A subspace of feature space."""

    mean_D: NDArray[np.float32]  # mean of the fitted images' features, float32
    components_PD: NDArray[np.float32]  # orthonormal rows, largest variance first, float32

    @property
    def rate_factor(self) -> float:
        """√(D / P), by which the first layer's learning rate is multiplied.

        A step of Adam moves every weight by as much, so P weights move a unit's input by √(P / D)
        of what D weights would.
        """
        components, features = self.components_PD.shape
        return float(np.sqrt(features / components))

    def project(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Coordinates (N, P): (x − mean) · componentsᵀ, float32."""
        mean_D, components_PD = self.on(features_ND.device)
        return (features_ND.float() - mean_D) @ components_PD.T

    def unproject(self, head: Head) -> Head:
        """The head on features that is equivalent to a head on coordinates.

        W (U, P) becomes W · components (U, D), and its bias loses W · components · mean.
        """
        with torch.device("meta"):  # no initial weights are drawn: all of them are assigned
            on_features = Head(len(self.mean_D), head.widths, head.labels, head.dropout)
        tensors = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        mean_D, components_PD = self.on(tensors["layers.0.weight"].device)
        weight_UD = tensors["layers.0.weight"] @ components_PD
        tensors["layers.0.bias"] = tensors["layers.0.bias"] - weight_UD @ mean_D
        tensors["layers.0.weight"] = weight_UD
        on_features.load_state_dict(tensors, assign=True)
        return on_features.train(head.training)

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and components as tensors; read-only arrays of shared memory are copied."""
        both = (self.mean_D, self.components_PD)
        mean_D, components_PD = (torch.from_numpy(np.require(x, requirements="W")) for x in both)
        return mean_D.to(device), components_PD.to(device)


@dataclass(frozen=True)
class ProjectedImages:
    """Training images projected on principal components."""

    subspace: PrincipalComponents  # the principal components
    coordinates_NVP: NDArray[np.float16]  # each image and its augmented copies, float16

    @property
    def nbytes(self) -> int:
        """Bytes of the coordinates."""
        return self.coordinates_NVP.nbytes


def fit_principal_components(features_BD: torch.Tensor, components: int) -> PrincipalComponents:
    """The principal components of some images' features.

    From the eigenvectors u of the centred images' Gram matrix (B, B) with eigenvalue λ, the
    components are Xᵀu / √λ.

    Args:
        features_BD: The images, float32.
        components: Most components; there are fewer if the images span fewer.
    """
    mean_D = features_BD.mean(0)
    centred_BD = features_BD - mean_D
    values_B, vectors_BB = torch.linalg.eigh(centred_BD @ centred_BD.T)
    kept_B = values_B > 1e-5 * values_B[-1].clamp(min=1e-12)
    kept_B[: max(0, len(kept_B) - components)] = False
    axes_BP = vectors_BB[:, kept_B].flip(1)
    components_PD = (axes_BP / values_B[kept_B].flip(0).sqrt()).T @ centred_BD
    return PrincipalComponents(mean_D.cpu().numpy(), components_PD.cpu().numpy())


def project_images(
    features: CachedArray, row_N: NDArray[np.int64], components: int, device: torch.device
) -> ProjectedImages:
    """Fit principal components to training images and project these and their augmented copies.

    The first image is fitted on as it is, the second in its first augmentation, the third in its
    second and so on, in turns, so that the components are those of augmentations too. Where bf16 is
    fast, coordinates are computed in it, as heads are trained in it there.

    Args:
        features: The cached features.
        row_N: The row of each training image in them.
        components: P, at most.
        device: Where to compute.
    """
    features_RVD = features.open()
    row_B = row_N[:: max(1, -(-len(row_N) // MAX_FITTED))]
    copy_B = np.arange(len(row_B)) % features_RVD.shape[1]
    features_BD = torch.from_numpy(features_RVD[row_B, copy_B]).to(device).float()
    subspace = fit_principal_components(features_BD, components)
    shape = (len(row_N), features_RVD.shape[1], len(subspace.components_PD))
    coordinates_NVP = np.empty(shape, np.float16)
    mean_D, components_PD = subspace.on(device)
    components_PD = bf16_if_fast(components_PD)
    size = max(1, CHUNK_BYTES // (4 * features_RVD[0].size))
    for start in range(0, len(row_N), size):
        chunk_NVD = torch.from_numpy(np.asarray(features_RVD[row_N[start : start + size]]))
        chunk_NVP = bf16_if_fast(chunk_NVD.to(device).float().sub_(mean_D)) @ components_PD.T
        coordinates_NVP[start : start + size] = chunk_NVP.half().cpu().numpy()
    return ProjectedImages(subspace, coordinates_NVP)


def projection_key(features: CachedArray, row_N: NDArray[np.int64], components: int) -> str:
    """Key of images projected on so many principal components, for caching."""
    about = f"{features.path} {components} ".encode()
    return hashlib.sha256(about + row_N.tobytes()).hexdigest()


Value = TypeVar("Value", ProjectedImages, torch.Tensor)


def cached_or_made(
    cache: OrderedDict[str, Value], key: str, make: Callable[[], Value], most: int
) -> Value:
    """The value in a cache of at most ``most`` bytes; the least recently used are dropped."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > 1 and sum(value.nbytes for value in cache.values()) > most:
        cache.popitem(last=False)
    return cache[key]


_CACHE: OrderedDict[str, ProjectedImages] = OrderedDict()
_UNSEEN_CACHE: OrderedDict[str, torch.Tensor] = OrderedDict()


def cached_projection(
    features: CachedArray, row_N: NDArray[np.int64], components: int, device: torch.device
) -> ProjectedImages:
    """:func:`project_images`, cached for this process's next trainings on the same images."""
    key = projection_key(features, row_N, components)
    return cached_or_made(
        _CACHE, key, lambda: project_images(features, row_N, components, device), CACHE_BYTES
    )


def cached_unseen_projection(
    key: str,
    subspace: PrincipalComponents,
    read: Callable[[], NDArray[np.float16]],
    device: torch.device,
) -> torch.Tensor:
    """Coordinates (N, P), float32, of images outside the training set.

    They are cached for all heads of this process that are evaluated on them: ``key`` identifies
    subspace and images, whose features (N, D) ``read`` returns.
    """

    def projected() -> torch.Tensor:
        features_ND = read()
        parts = [torch.zeros((0, len(subspace.components_PD)), device=device)]
        for start in range(0, len(features_ND), CHUNK):
            chunk_ND = torch.from_numpy(np.asarray(features_ND[start : start + CHUNK]))
            parts.append(subspace.project(chunk_ND.to(device)))
        return torch.cat(parts)

    return cached_or_made(_UNSEEN_CACHE, f"{key} {device}", projected, UNSEEN_CACHE_BYTES)

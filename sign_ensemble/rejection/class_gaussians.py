"""A Gaussian per label in principal components of features, and one of all images: Gaussian
discriminant analysis (GDA) with regularised covariances.

Features enter as Hellinger features, √f scaled to length 1, so that a few strong units do not
decide alone. A wrong gesture is a hand like any other: it lies near the training images, but
outside every label's Gaussian. A softmax asks only which label is nearest, not how near it is.

Sources: Friedman 1989, "Regularized Discriminant Analysis"; Lee et al. 2018 (arXiv 1807.03888) and
Ren et al. 2021 (arXiv 2106.09022) for the (relative) Mahalanobis distance.

Letters: N images, B images fitted on, D features, P principal components, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.bf16_products import bf16_if_fast, to_float32
from sign_ensemble.rejection.array_record import ArrayRecord

# Chosen on held-out labels (docs/design-log.md); neighbouring values differ by less than .004.
COMPONENTS = 200
SHRINK = 0.2  # share of a spherical covariance
OWN = 0.3  # share of a label's own covariance; the rest is pooled over labels

OVERSAMPLED, ROUNDS = 30, 2  # of the randomised subspace iteration
CHUNK = 1024  # images per product
Floats = NDArray[np.float64]


def hellinger(features_ND: NDArray[np.float16]) -> torch.Tensor:
    """√f / ‖√f‖ of each image, (N, D) float32; a zero vector stays zero, a value below 0 is 0.

    Raises:
        ValueError: a feature is not a finite number.
    """
    x_ND = to_float32(features_ND)
    if not torch.isfinite(x_ND.sum()):  # finite if all float16 values are
        raise ValueError("features must be finite")
    x_ND.clamp_(min=0)
    np.sqrt(x_ND.numpy(), out=x_ND.numpy())  # faster than torch's on arrays with many zeros
    return x_ND.div_(x_ND.norm(dim=1, keepdim=True).clamp(min=1e-12))


def hellinger_chunks(features_ND: NDArray[np.float16]) -> Iterator[torch.Tensor]:
    """:func:`hellinger` of at most CHUNK images at a time."""
    for start in range(0, len(features_ND), CHUNK):
        yield hellinger(features_ND[start : start + CHUNK])


def principal_axes(centred_BD: torch.Tensor, most: int, seed: int = 0) -> torch.Tensor:
    """Leading principal axes (D, P), P = min(most, B − 1, D), by randomised subspace iteration.

    Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4; exact where
    P + OVERSAMPLED >= D.
    """
    b, d = centred_BD.shape
    p = max(1, min(most, b - 1, d))
    start = np.random.default_rng(seed).normal(size=(d, min(p + OVERSAMPLED, d)))
    basis = torch.from_numpy(start).float()
    for _ in range(ROUNDS):
        seen = torch.linalg.qr(centred_BD @ basis)[0]  # cheaper than of (D, .), same span
        basis = centred_BD.T @ seen
    basis = torch.linalg.qr(basis)[0]
    small = centred_BD @ basis
    rotation = torch.linalg.eigh(small.T @ small)[1].flip(1)
    return basis @ rotation[:, :p]


@dataclass(frozen=True)
class ClassGaussians(ArrayRecord):
    """A Gaussian per label and one of all images, in principal components; float32."""

    centre_D: NDArray[np.float32]  # mean of the Hellinger features
    axes_DP: NDArray[np.float32]  # principal axes
    means_KP: NDArray[np.float32]  # mean of each label
    precisions_KPP: NDArray[np.float32]  # inverse covariance of each label
    mean_P: NDArray[np.float32]  # mean of all images
    precision_PP: NDArray[np.float32]  # inverse covariance of all images

    def roots(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The Cholesky factors of all K + 1 precisions side by side (P, (K + 1)·P), labels first;
        and the means times them ((K + 1)·P,).

        With Σ⁻¹ = F Fᵀ, (x − m)ᵀ Σ⁻¹ (x − m) = ‖x F − m F‖².
        """
        precisions = np.concatenate([self.precisions_KPP, self.precision_PP[None]])
        means = np.concatenate([self.means_KP, self.mean_P[None]]).astype(np.float64)
        factors = np.linalg.cholesky(precisions.astype(np.float64))
        at_means = torch.from_numpy((means[:, None] @ factors).ravel()).float()
        stacked = factors.transpose(1, 0, 2).reshape(len(self.mean_P), -1)
        return torch.from_numpy(stacked).float(), at_means

    @cached_property
    def factors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What one product per chunk needs: the axes (D, P), and :meth:`roots`; the axes and the
        Cholesky factors are bf16 where that is fast.
        """
        stacked, at_means = self.roots()
        return bf16_if_fast(torch.from_numpy(self.axes_DP)), bf16_if_fast(stacked), at_means


def shrunk(covariance_PP: Floats, shrink: float = SHRINK) -> Floats:
    """(1 − s) Σ + s tr(Σ)/P I; never singular."""
    p = len(covariance_PP)
    variance = max(float(np.trace(covariance_PP)) / p, 1e-9)
    return (1 - shrink) * covariance_PP + shrink * variance * np.eye(p)


def covariances(
    values_BP: Floats, labels_B: NDArray[np.int64], shrink: float = SHRINK
) -> tuple[Floats, Floats, Floats]:
    """Means (K, P), covariances (K, P, P) and the covariance of all images (P, P).

    A label's covariance is (1 − OWN) shrunk(Σ_pooled) + OWN Σ_label; each Σ divides by its number
    of images.
    """
    labels = np.unique(labels_B)
    means_KP = np.stack([values_BP[labels_B == label].mean(0) for label in labels])
    from_mean_BP = values_BP - means_KP[np.searchsorted(labels, labels_B)]
    pooled_PP = shrunk(from_mean_BP.T @ from_mean_BP / len(labels_B), shrink)
    each = []
    for label in labels:
        of_label_BP = from_mean_BP[labels_B == label]
        each.append((1 - OWN) * pooled_PP + OWN * of_label_BP.T @ of_label_BP / len(of_label_BP))
    from_all_BP = values_BP - values_BP.mean(0)
    all_PP = shrunk(from_all_BP.T @ from_all_BP / len(labels_B), shrink)
    return means_KP, np.stack(each), all_PP


def fit_class_gaussians(
    features_BD: NDArray[np.float16],
    labels_B: NDArray[np.int64],
    most: int = COMPONENTS,
    augmented_BVD: NDArray[np.float16] | None = None,
) -> ClassGaussians:
    """Fit to features, with at most ``most`` principal components.

    Augmented copies count in means and covariances; centre and axes follow from the images alone.
    """
    copies = () if augmented_BVD is None else map(hellinger, augmented_BVD.swapaxes(0, 1))
    return fit_to_hellinger(hellinger(features_BD), labels_B, most, SHRINK, copies)


def fit_to_hellinger(
    hellinger_BD: torch.Tensor,
    labels_B: NDArray[np.int64],
    most: int,
    shrink: float,
    augmented: Iterable[torch.Tensor] = (),
) -> ClassGaussians:
    """Fit to Hellinger features; ``augmented`` gives those of one copy of each image (B, D) at a
    time.

    Raises:
        ValueError: there is no image.
    """
    if not len(hellinger_BD):
        raise ValueError("class Gaussians need at least one image")
    centre_D = hellinger_BD.mean(0)
    centred_BD = hellinger_BD - centre_D
    axes_DP = principal_axes(centred_BD, most)
    each = [(centred_BD @ axes_DP).double().numpy()]
    each += [((copy_BD - centre_D) @ axes_DP).double().numpy() for copy_BD in augmented]
    values_BP = np.concatenate(each)
    means_KP, each_KPP, all_PP = covariances(values_BP, np.tile(labels_B, len(each)), shrink)
    return ClassGaussians(
        centre_D=centre_D.numpy(),
        axes_DP=axes_DP.contiguous().numpy(),
        means_KP=means_KP.astype(np.float32),
        precisions_KPP=np.linalg.inv(each_KPP).astype(np.float32),
        mean_P=values_BP.mean(0).astype(np.float32),
        precision_PP=np.linalg.inv(all_PP).astype(np.float32),
    )


def label_distances(
    features_ND: NDArray[np.float16], gaussians: ClassGaussians
) -> tuple[Floats, Floats]:
    """Squared Mahalanobis distances M_k to every label (N, K) and M_0 to all images (N,)."""
    to_labels, to_all = [np.zeros((0, len(gaussians.means_KP)))], [np.zeros(0)]
    for hellinger_ND in hellinger_chunks(features_ND):
        to_labels_NK, to_all_N = hellinger_distances(hellinger_ND, gaussians)
        to_labels.append(to_labels_NK)
        to_all.append(to_all_N)
    return np.concatenate(to_labels), np.concatenate(to_all)


def hellinger_distances(
    hellinger_ND: torch.Tensor, gaussians: ClassGaussians
) -> tuple[Floats, Floats]:
    """:func:`label_distances` of Hellinger features."""
    axes_DP, roots, at_means = gaussians.factors
    centred_ND = hellinger_ND - torch.from_numpy(gaussians.centre_D)
    whitened = (bf16_if_fast(centred_ND) @ axes_DP @ roots).float().sub_(at_means)
    lengths = whitened.unflatten(1, (-1, len(gaussians.mean_P))).norm(dim=2).double()
    squared: Floats = lengths.square().numpy()
    return squared[:, :-1], squared[:, -1]


def relative_distance(to_labels_NK: Floats, to_all_N: Floats) -> Floats:
    """Relative Mahalanobis distance min_k M_k(x) − M_0(x), (N,); unbounded.

    Subtracting M_0 discounts what is unusual in any hand (Ren et al. 2021).
    """
    relative_N: Floats = to_labels_NK.min(1) - to_all_N
    return relative_N

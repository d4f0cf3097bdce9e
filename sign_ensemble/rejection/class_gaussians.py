"""Distance to each label's own cloud of training images, relative to the cloud of them all.

A wrong gesture is a hand like any other: near the training images, but inside no label's cloud.
Softmax scores do not see that, since they ask which label is nearest and not how near it is.

The features are the third layer's, the highest value in each of 3 x 3 places (``Convolutions``):
edges and corners of fingers, not yet the things that ImageNet is about. On letters left out, by
signers left out (16 cases from four people each, two splits of protocol M): AUROC .934 and .313 of
them kept at 95 % of signs kept, against .914 and .385 with the fifth layer's 9,216 features; second
layer .925, fourth .924; means instead of highest values .930; 2 x 2 places .935 but the worst case
.759 instead of .773. Views among the training images did not help (fifth layer: .893).

Letters: N images asked about, B training images, D features, P directions, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.core.bf16_products import bf16_if_fast, to_float32

# The three constants were chosen with labels left out: an image whose label the fit had never seen
# stood for a wrong gesture, its signer unseen too (AUROC, with means of the third layer's places).
DIRECTIONS = 200  # .930; 100: .928, 400: .928
SHRINK = 0.2  # share of round covariance; .1: .930, .4: .926
OWN = 0.3  # share of a label's own covariance; 0: .921, .5: .929

EXTRA, ROUNDS = 30, 2  # of the subspace iteration: AUROCs within .004 of exact ones
CHUNK = 1024  # images per product
Floats = NDArray[np.float64]


def hellinger(features_ND: NDArray[np.float16], what: str = "clouds") -> torch.Tensor:
    """√features scaled to length 1, float32; a zero vector stays zero.

    Roots keep a few strong units from deciding alone (Hellinger's distance between what two images
    activate): with the fifth layer AUROC .889 against .864 without. A unit below 0 counts as 0.

    Raises:
        ValueError: a feature is not a finite number; names ``what`` they are for.
    """
    x_ND = to_float32(features_ND)
    if not torch.isfinite(x_ND.sum()):  # so is that of float16 numbers that are
        raise ValueError(f"{what}: features must be finite")
    x_ND.clamp_(min=0)
    np.sqrt(x_ND.numpy(), out=x_ND.numpy())  # torch's takes six times as long where many are 0
    return x_ND.div_(x_ND.norm(dim=1, keepdim=True).clamp(min=1e-12))


def principal_axes(centred_BD: torch.Tensor, most: int, seed: int = 0) -> torch.Tensor:
    """Leading principal directions (D, P), P = min(most, B − 1, D), by subspace iteration.

    Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4; exact where P + EXTRA >= D.
    """
    b, d = centred_BD.shape
    p = max(1, min(most, b - 1, d))
    start = np.random.default_rng(seed).normal(size=(d, min(p + EXTRA, d)))
    q_DQ = torch.from_numpy(start).float()
    for _ in range(ROUNDS):
        seen_BQ = torch.linalg.qr(centred_BD @ q_DQ)[0]  # cheaper than of (D, Q), the same span
        q_DQ = centred_BD.T @ seen_BQ
    q_DQ = torch.linalg.qr(q_DQ)[0]
    small_BQ = centred_BD @ q_DQ
    turn_QQ = torch.linalg.eigh(small_BQ.T @ small_BQ)[1].flip(1)
    return q_DQ @ turn_QQ[:, :p]


@dataclass(frozen=True)
class ClassGaussians:
    """A Gaussian per label and one of all images; float32.

    Args:
        centre_D: Mean of the rooted features.
        directions_DP: What they are projected on.
        means_KP: Mean of each label.
        precisions_KPP: Inverse covariance of each label.
        mean_P: Mean of all.
        precision_PP: Inverse covariance of all.
    """

    centre_D: NDArray[np.float32]
    directions_DP: NDArray[np.float32]
    means_KP: NDArray[np.float32]
    precisions_KPP: NDArray[np.float32]
    mean_P: NDArray[np.float32]
    precision_PP: NDArray[np.float32]

    @cached_property
    def factors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The directions (D, P); L side by side (P, (K + 1) P), Σ⁻¹ = L Lᵀ of each label and then
        of all; and what their means are there ((K + 1) P,): (x − m)ᵀ Σ⁻¹ (x − m) = |x L − m L|²,
        so one product serves all of them.

        The first two are factors of products (see ``products.py``). Where these are rounded, the
        relative distance moves by .003 of its spread and AUROCs by .0002, both on letters.
        """
        each_LPP = np.concatenate([self.precisions_KPP, self.precision_PP[None]]).astype(np.float64)
        means_LP = np.concatenate([self.means_KP, self.mean_P[None]]).astype(np.float64)
        roots_LPP = np.linalg.cholesky(each_LPP)
        at_means_LP = (means_LP[:, None] @ roots_LPP)[:, 0]
        side_by_side = roots_LPP.transpose(1, 0, 2).reshape(len(self.mean_P), -1)
        both = torch.from_numpy(self.directions_DP), torch.from_numpy(side_by_side).float()
        return (
            bf16_if_fast(both[0]),
            bf16_if_fast(both[1]),
            torch.from_numpy(at_means_LP.ravel()).float(),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ClassGaussians:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def shrunk(covariance_PP: Floats, shrink: float = SHRINK) -> Floats:
    """(1 − s) Σ + s tr(Σ)/P I; never singular."""
    p = len(covariance_PP)
    round_share = max(float(np.trace(covariance_PP)) / p, 1e-9)
    return (1 - shrink) * covariance_PP + shrink * round_share * np.eye(p)


def covariances(
    values_BP: Floats, labels_B: NDArray[np.int64], shrink: float = SHRINK
) -> tuple[Floats, Floats, Floats]:
    """Means (K, P), covariances (K, P, P) and the covariance of all (P, P).

    Friedman 1989, "Regularized Discriminant Analysis": a label's own scatter is blended with what
    the labels share, (1 − OWN) rounded(Σ_shared) + OWN Σ_label; each divides by its image count.
    """
    labels = np.unique(labels_B)
    means_KP = np.stack([values_BP[labels_B == label].mean(0) for label in labels])
    from_mean_BP = values_BP - means_KP[np.searchsorted(labels, labels_B)]
    shared_PP = shrunk(from_mean_BP.T @ from_mean_BP / len(labels_B), shrink)
    of_label = []
    for label in labels:
        mine = from_mean_BP[labels_B == label]
        of_label.append((1 - OWN) * shared_PP + OWN * mine.T @ mine / len(mine))
    from_all_BP = values_BP - values_BP.mean(0)
    all_PP = shrunk(from_all_BP.T @ from_all_BP / len(labels_B), shrink)
    return means_KP, np.stack(of_label), all_PP


def fit_class_gaussians(
    features_BD: NDArray[np.float16],
    labels_B: NDArray[np.int64],
    most: int = DIRECTIONS,
    views_BVD: NDArray[np.float16] | None = None,
) -> ClassGaussians:
    """The clouds of training images.

    Args:
        features_BD: Their features, which centre and directions follow from.
        labels_B: Their labels.
        most: Directions at most.
        views_BVD: Features of V views of each image; means and covariances are of these too.

    Raises:
        ValueError: there is no image, or a feature is not a finite number.
    """
    check_training(features_BD)
    of_views = () if views_BVD is None else (hellinger(view) for view in views_BVD.swapaxes(0, 1))
    return fit_in_hellinger(hellinger(features_BD), labels_B, most, SHRINK, of_views)


def check_training(features_BD: NDArray[np.float16]) -> None:
    """Refuse to fit anything to no image.

    Raises:
        ValueError: there is none.
    """
    if not len(features_BD):
        raise ValueError("clouds: no training images")


def fit_in_hellinger(
    rooted_BD: torch.Tensor,
    labels_B: NDArray[np.int64],
    most: int,
    shrink: float,
    rooted_views: Iterable[torch.Tensor] = (),
) -> ClassGaussians:
    """The clouds of rooted features.

    Args:
        rooted_BD: Of the training images, see :func:`hellinger`.
        labels_B: Their labels.
        most: Directions at most.
        shrink: Share of round covariance.
        rooted_views: Of a view of each image, each; means and covariances are of these too.
    """
    centre_D = rooted_BD.mean(0)
    centred_BD = rooted_BD - centre_D
    directions_DP = principal_axes(centred_BD, most)
    each = [(centred_BD @ directions_DP).double().numpy()]
    each += [((view - centre_D) @ directions_DP).double().numpy() for view in rooted_views]
    values_BP = np.concatenate(each)
    means_KP, each_KPP, all_PP = covariances(values_BP, np.tile(labels_B, len(each)), shrink)
    return ClassGaussians(
        centre_D=centre_D.numpy(),
        directions_DP=directions_DP.contiguous().numpy(),
        means_KP=means_KP.astype(np.float32),
        precisions_KPP=np.linalg.inv(each_KPP).astype(np.float32),
        mean_P=values_BP.mean(0).astype(np.float32),
        precision_PP=np.linalg.inv(all_PP).astype(np.float32),
    )


def label_distances(
    features_ND: NDArray[np.float16], clouds: ClassGaussians
) -> tuple[Floats, Floats]:
    """M_k(x) of every label (N, K) and M_0(x) (N,): squared Mahalanobis distances.

    Raises:
        ValueError: a feature is not a finite number.
    """
    to_labels, to_all = [np.zeros((0, len(clouds.means_KP)))], [np.zeros(0)]
    for rooted_ND in hellinger_chunks(features_ND):
        to_labels_NK, to_all_N = hellinger_distances(rooted_ND, clouds)
        to_labels.append(to_labels_NK)
        to_all.append(to_all_N)
    return np.concatenate(to_labels), np.concatenate(to_all)


def hellinger_chunks(features_ND: NDArray[np.float16]) -> Iterator[torch.Tensor]:
    """:func:`hellinger` features of at most CHUNK images at a time.

    Raises:
        ValueError: a feature is not a finite number.
    """
    for start in range(0, len(features_ND), CHUNK):
        yield hellinger(features_ND[start : start + CHUNK], "distances to clouds")


def hellinger_distances(rooted_ND: torch.Tensor, clouds: ClassGaussians) -> tuple[Floats, Floats]:
    """:func:`label_distances` of rooted features."""
    directions_DP, roots, at_means = clouds.factors
    centred_ND = rooted_ND - torch.from_numpy(clouds.centre_D)
    whitened = (bf16_if_fast(centred_ND) @ directions_DP @ roots).float().sub_(at_means)
    lengths_NL = whitened.unflatten(1, (-1, len(clouds.mean_P))).norm(dim=2).double()
    found_NL: Floats = lengths_NL.square().numpy()
    return found_NL[:, :-1], found_NL[:, -1]


def relative(to_labels_NK: Floats, to_all_N: Floats) -> Floats:
    """min_k M_k(x) − M_0(x): distance to the nearest label less that to all images; unbounded.

    M are squared Mahalanobis distances. Ren et al. 2021, arXiv 2106.09022, with covariances that
    are partly a label's own. Taking M_0 away discounts what is unusual in any hand.
    """
    relative_N: Floats = to_labels_NK.min(1) - to_all_N
    return relative_N


def relative_distance(features_ND: NDArray[np.float16], clouds: ClassGaussians) -> Floats:
    """:func:`relative` of images.

    Raises:
        ValueError: a feature is not a finite number.
    """
    return relative(*label_distances(features_ND, clouds))

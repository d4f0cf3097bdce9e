"""Class Gaussians in linear discriminants: the directions that separate the labels best.

Discriminants maximise the variance between labels against that within them (Fisher 1936; Rao 1948):
a label's unseen neighbour, which differs from it by one finger, differs along directions in which
other labels differ too. There is one less than there are labels, so with few labels they see little
of what a hand can do, and ``joint_distance.py`` weighs them by their number.

Letters: B images fitted on, D features, P principal components or discriminants, K labels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from sign_ensemble.rejection.class_gaussians import (
    SHRINK,
    ClassGaussians,
    Floats,
    covariances,
    principal_axes,
    shrunk,
)

# Chosen on held-out labels (docs/design-log.md): twice or half of either differs by less than .002.
COMPONENTS = 200  # principal components that discriminants are looked for in
WITHIN = 0.1  # share of a sphere in the covariance within labels


def linear_discriminants(values_BP: Floats, labels_B: NDArray[np.int64]) -> Floats:
    """The directions (P, max(1, K − 1)) of the largest variance between labels, best first; the
    variance within labels, shrunk, is 1 along each.
    """
    labels, index_B, counts_K = np.unique(labels_B, return_inverse=True, return_counts=True)
    means_KP = np.stack([values_BP[labels_B == label].mean(0) for label in labels])
    from_mean_BP = values_BP - means_KP[index_B]
    within_PP = shrunk(from_mean_BP.T @ from_mean_BP / len(values_BP), WITHIN)
    from_all_KP = (means_KP - values_BP.mean(0)) * np.sqrt(counts_K / len(values_BP))[:, None]
    p = len(within_PP)
    most = max(1, min(len(labels) - 1, p))
    between_PP = from_all_KP.T @ from_all_KP
    found: Floats = eigh(between_PP, within_PP, subset_by_index=[p - most, p - 1])[1]
    return found[:, ::-1]


def fit_discriminants(values_BD: torch.Tensor, labels_B: NDArray[np.int64]) -> ClassGaussians:
    """Class Gaussians in the linear discriminants of the features' principal components."""
    centre_D = values_BD.mean(0)
    centred_BD = values_BD - centre_D
    principal_DP = principal_axes(centred_BD, COMPONENTS)
    values_BP = (centred_BD @ principal_DP).double().numpy()
    directions = linear_discriminants(values_BP, labels_B)
    along_BP = values_BP @ directions
    means_KP, each_KPP, all_PP = covariances(along_BP, labels_B, SHRINK)
    return ClassGaussians(
        centre_D=centre_D.numpy(),
        axes_DP=(principal_DP.double().numpy() @ directions).astype(np.float32),
        means_KP=means_KP.astype(np.float32),
        precisions_KPP=np.linalg.inv(each_KPP).astype(np.float32),
        mean_P=along_BP.mean(0).astype(np.float32),
        precision_PP=np.linalg.inv(all_PP).astype(np.float32),
    )

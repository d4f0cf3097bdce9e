"""Cosine distance to the k-th nearest reference image (kNN distance).

Source: Sun et al. 2022 (arXiv 2204.06507).

Letters: N images, B reference images, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import linear

from sign_ensemble.core.bf16_products import bf16_if_fast, to_float32

CHUNK = 1024  # images per product


def unit_vectors(features_ND: NDArray[np.float16]) -> torch.Tensor:
    """Features scaled to length 1, float32; a zero vector stays zero."""
    x_ND = to_float32(features_ND)
    return x_ND.div_(x_ND.norm(dim=1, keepdim=True).clamp(min=1e-12))


@dataclass(frozen=True)
class NearestNeighbours:
    """Reference images ready for products.

    With c the mean of their unit vectors b, a unit vector x has the cosines
    x · b = (x − c) · (b − c) + (x − c) · c + b · c. Only the first product is rounded to bf16, so
    that rounding errors are relative to differences from the mean.
    """

    centre_D: torch.Tensor  # c, float32
    centred_BD: torch.Tensor  # each b − c, bf16 where that is fast
    cosines_B: torch.Tensor  # each b · c

    @classmethod
    def of(cls, features_BD: NDArray[np.float16]) -> NearestNeighbours:
        """From the reference images' features."""
        unit_BD = unit_vectors(features_BD)
        centre_D = unit_BD.sum(0) / max(1, len(unit_BD))
        cosines_B = unit_BD @ centre_D
        return cls(centre_D, bf16_if_fast(unit_BD.sub_(centre_D)), cosines_B)

    def distances(
        self,
        features_ND: NDArray[np.float16],
        k: int,
        groups_N: NDArray[np.int64] | None = None,
        groups_B: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float64]:
        """1 − cosine similarity to the k-th nearest reference image, 0 to 2; 1 for a zero vector.

        With fewer than k it is the last one (2 if there is none). With groups, reference images of
        the image's own group are left out, so that a training signer's images are measured as an
        unseen signer's.
        """
        out = []
        for start in range(0, len(features_ND), CHUNK):
            x_ND = unit_vectors(features_ND[start : start + CHUNK]).sub_(self.centre_D)
            similar_NB = linear(bf16_if_fast(x_ND), self.centred_BD).float()
            similar_NB += (x_ND @ self.centre_D)[:, None] + self.cosines_B
            if groups_N is not None and groups_B is not None:
                same = groups_N[start : start + CHUNK, None] == groups_B[None]
                similar_NB[torch.from_numpy(same)] = -2.0
            top = similar_NB.topk(min(k, similar_NB.shape[1]), dim=1).values
            last = (top > -1.5).sum(1, keepdim=True).clamp(min=1) - 1
            out.append(1 - top.gather(1, last)[:, 0].double().clamp(-1, 1).numpy())
        return np.concatenate(out) if out else np.zeros(0)


def draw_reference_rows(
    labels_N: NDArray[np.int64], folds_N: NDArray[np.int64], most: int, seed: int
) -> NDArray[np.int64]:
    """At most ``most`` training images, spread evenly over labels and folds; sorted indices.

    Images are taken in turn from each (label, fold) cell until there are enough.
    """
    if len(labels_N) <= most:
        return np.arange(len(labels_N))
    rng = np.random.default_rng(seed)
    turn_N = np.zeros(len(labels_N))
    for label, fold in {(label, fold) for label, fold in zip(labels_N, folds_N, strict=True)}:
        cell = np.flatnonzero((labels_N == label) & (folds_N == fold))
        turn_N[cell] = rng.permutation(len(cell))
    order = np.lexsort((rng.random(len(labels_N)), turn_N))
    return np.sort(order[:most])

"""Which small patches of a picture the nearest label's images do not have, wherever they moved to.

A place of ``parts.py`` is a ninth of the picture: a fingertip that is missing there is a small part
of it, and one that is a little higher in a new hand counts as much. Here the second layer's maps
are looked at in 9 x 9 places (``Convolutions``), each beside the same place and the eight around it
in every training image of the label: what is nowhere to be found there is strange (Roth et al.
2022, arXiv 2106.08265, look for faults of products so, among all patches of one kind of product).
The mean of the strangest WORST places speaks, beside the worst part (``scores.misfit``).

On letters left out, by signers left out (100 cases of five splits of protocol M; nobody's digits):
AUROC .928 and .341 of them kept at 95 % of signs kept, against .915 and .374 by the worst part
alone; better with 17 of 20 signers of a split, the worst signer's AUROC .832 instead of .803.
Patches alone .891 and .453. With 13 x 13 places as the network pools them, two away: .933 and .315,
at twice the disk and five times the sums. Tried too, with less: the first layer's (.918 beside the
worst part), the third's, patches told from those of all labels.

Letters: N images asked about, B training images, Q = PATCHES² places, C maps of the second layer,
P directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.data.backbone import PATCHES, SECOND

Q = PATCHES * PATCHES
DIRECTIONS = 96  # 64: .927 and .348
FLOOR = 0.1  # of the widest direction's variance, added to every direction's; .2: as good
WORST = 8  # 4: .928 and .340, 16: .927 and .350
FITTED = 512  # images, at most, that directions and variances are found from
PER_LABEL = 64  # training images of a label, at most, that are looked through
CHUNK = 512  # images asked about per product
SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
Floats = NDArray[np.float64]


def unit(levels_NC: NDArray[np.uint8]) -> torch.Tensor:
    """What ``Backbone`` keeps of the second layer, each image's length 1: float32 (N, Q, C)."""
    values_NCQ = torch.from_numpy(np.ascontiguousarray(levels_NC)).view(-1, SECOND, Q).float()
    lengths_N11 = values_NCQ.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
    return (values_NCQ / lengths_N11).transpose(1, 2)


@dataclass(frozen=True)
class Patches:
    """Training images' patches, by label.

    Args:
        centre_C: Mean patch.
        directions_CP: The widest directions of patches about it, each over its own spread: along
            them patches vary by about 1.
        bank_BQP: The training images along them, float16.
        labels_B: Their labels.
    """

    centre_C: NDArray[np.float32]
    directions_CP: NDArray[np.float32]
    bank_BQP: NDArray[np.float16]
    labels_B: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Patches:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def along(self, levels_NC: NDArray[np.uint8]) -> torch.Tensor:
        """Patches along the directions, float32 (N, Q, P)."""
        centre_C, directions_CP = (torch.from_numpy(x) for x in (self.centre_C, self.directions_CP))
        parts = [torch.zeros(0, Q, directions_CP.shape[1])]
        for start in range(0, len(levels_NC), CHUNK):
            parts.append((unit(levels_NC[start : start + CHUNK]) - centre_C) @ directions_CP)
        return torch.cat(parts)

    def distances(self, levels_NC: NDArray[np.uint8], labels_N: NDArray[np.int64]) -> Floats:
        """How strange the strangest patches of each image are to a label's images, from 0.

        m_q = min over the label's images b and places q' at most one from q of ‖x_q − b_q'‖²; the
        mean of the WORST highest m_q.

        Args:
            levels_NC: The second layer's, as ``Features`` has them.
            labels_N: The label that each image is compared with.

        Raises:
            ValueError: a label has no training image.
        """
        found_N = np.zeros(len(labels_N))
        for label in np.unique(labels_N):
            of_label_BQP = self.bank_BQP[self.labels_B == label]
            if not len(of_label_BQP):
                raise ValueError(f"patches: no training image has label {label}")
            bank_QBP = torch.from_numpy(of_label_BQP).float().transpose(0, 1).contiguous()
            mine = np.flatnonzero(labels_N == label)
            for start in range(0, len(mine), CHUNK):
                chosen = mine[start : start + CHUNK]
                nearest_QN = nearest(self.along(levels_NC[chosen]).transpose(0, 1), bank_QBP)
                found_N[chosen] = nearest_QN.topk(WORST, 0).values.mean(0).numpy()
        return found_N


def nearest(asked_QNP: torch.Tensor, bank_QBP: torch.Tensor) -> torch.Tensor:
    """Squared distance (Q, N) of each patch to the nearest one of the bank at most a place away."""
    side, n = PATCHES, asked_QNP.shape[1]
    asked, bank = asked_QNP.unflatten(0, (side, side)), bank_QBP.unflatten(0, (side, side))
    squares = bank.square().sum(-1)
    found = torch.full((side, side, n), torch.inf)
    for down, right in SHIFTS:
        rows, columns = (slice(max(0, -by), side - max(0, by)) for by in (down, right))
        from_rows, from_columns = (slice(max(0, by), side + min(0, by)) for by in (down, right))
        there = bank[from_rows, from_columns].flatten(0, 1)
        products = torch.baddbmm(
            squares[from_rows, from_columns].flatten(0, 1)[:, None],
            asked[rows, columns].flatten(0, 1),
            there.transpose(1, 2),
            alpha=-2,
        )
        least = products.amin(2).unflatten(0, found[rows, columns].shape[:2])
        found[rows, columns] = torch.minimum(found[rows, columns], least)
    return (found.flatten(0, 1) + asked_QNP.square().sum(-1)).clamp(min=0)


def fit_patches(levels_BC: NDArray[np.uint8], labels_B: NDArray[np.int64]) -> Patches:
    """The patches of training images.

    Raises:
        ValueError: there is no image.
    """
    if not len(levels_BC):
        raise ValueError("patches: no training images")
    some_BC = levels_BC[:: -(-len(levels_BC) // FITTED)]
    patches_XC = unit(some_BC).flatten(0, 1)
    centre_C = patches_XC.mean(0)
    centred_XC = patches_XC - centre_C
    spread_C, turn_CC = torch.linalg.eigh(centred_XC.T @ centred_XC / len(centred_XC))
    widest_P = spread_C.flip(0)[:DIRECTIONS].clamp(min=0)
    scale_P = (widest_P + FLOOR * widest_P[0].clamp(min=1e-12)).sqrt()
    directions_CP = turn_CC.flip(1)[:, :DIRECTIONS] / scale_P
    found = Patches(
        centre_C.numpy(), directions_CP.numpy(), np.zeros((0, Q, DIRECTIONS), np.float16), labels_B
    )
    kept_B = np.sort(np.concatenate([some_of(labels_B, label) for label in np.unique(labels_B)]))
    along = found.along(levels_BC[kept_B]).half().numpy()
    return Patches(found.centre_C, found.directions_CP, along, labels_B[kept_B])


def some_of(labels_B: NDArray[np.int64], label: int) -> NDArray[np.int64]:
    """The rows of a label's images, PER_LABEL at most, evenly among them."""
    rows = np.flatnonzero(labels_B == label)
    return rows[np.linspace(0, len(rows) - 1, min(PER_LABEL, len(rows))).round().astype(np.int64)]

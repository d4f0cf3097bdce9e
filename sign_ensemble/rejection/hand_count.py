"""No sign in a picture, or two at once: guards that learned how much of a hand a sign has, since no
distance sees that well.

A picture with two hands is near the training images and, often, inside a label's cloud; a sleeve or
a hand that is mostly outside the picture may be. So a weighted least-squares classifier tells
pictures joined from two training signs from signs and from pictures of one, as small and as far to
a side, and another one pictures that a sign was moved out of (``data/hands.py``). As guards they
count only beyond the scores of all calibration signs, and so have no say among signs. Of four
built-in people drawn anew, each a stranger to the other three, of 60 pictures each the first let 4
with two rendered hands pass (AUROC .999), the second .12 of those without a hand (.993) and .35 of
hands mostly outside the picture (.997); they refused .011 and none of 648 signs. Of protocol M's
letters, each signer a stranger in turn, the second refused one of 1,300, and none of the pictures
that the stranger's own signs were moved out of passed it.

Letters: N images asked about, B training images, P pictures made, I both, G guards, D features of
the fifth layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.rejection.class_gaussians import check_training, hellinger, hellinger_chunks
from sign_ensemble.rejection.vetoes import HANDS

RIDGE = 0.3  # of the mean variance of an image; .03 to .3 differ by an image or two of 60
MOST = 2000  # signs that they learn from: the time grows with the square of them
COUNTS = (0, 2)  # signs in the pictures that each of HANDS learns to tell
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HandCountImages:
    """Pictures made from training signers' signs.

    Args:
        fifth_ND: Their features, of the fifth layer.
        signs_P: How many signs each shows: 0, 1 or 2.
        groups_P: The signer (fold) whose signs each was made from.
    """

    fifth_ND: NDArray[np.float16]
    signs_P: NDArray[np.int64]
    groups_P: NDArray[np.int64]


@dataclass(frozen=True)
class HandCountDetector:
    """Directions in which pictures without a sign lie, and those with two.

    Args:
        mean_GD: Weighted mean of the rooted features that each guard learned from, float32.
        weights_GD: Its direction, float32.
    """

    mean_GD: NDArray[np.float32]
    weights_GD: NDArray[np.float32]

    def scores(self, features_ND: NDArray[np.float16]) -> Floats:
        """(√f − mean) · weights of each image by each of HANDS (N, G), √f scaled to length 1: near
        −1 for one sign, near 1 for what the guard is there for.

        Raises:
            ValueError: a feature is not a finite number.
        """
        weights_DG = torch.from_numpy(self.weights_GD.T.copy())
        at_mean_G = (torch.from_numpy(self.mean_GD) * weights_DG.T).double().sum(1)
        parts = [(each @ weights_DG).double() - at_mean_G for each in hellinger_chunks(features_ND)]
        none = torch.zeros((0, len(HANDS)), dtype=torch.float64)
        return torch.cat([none, *parts]).numpy()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Both, by name."""
        return dict(vars(self))

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> HandCountDetector:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class HandCountTraining:
    """Signs and pictures with their products, made once for all that is learned from some of them.

    Args:
        x_ID: Rooted features, float32.
        gram_II: Their products.
        signs_I: How many signs each shows.
        groups_I: The signer (fold) each is of.
    """

    x_ID: torch.Tensor
    gram_II: torch.Tensor
    signs_I: NDArray[np.int64]
    groups_I: NDArray[np.int64]

    @classmethod
    def of(
        cls, signs_BD: NDArray[np.float16], groups_B: NDArray[np.int64], hands: HandCountImages
    ) -> HandCountTraining:
        """Make them ready.

        Args:
            signs_BD: Features of training signs; at most MOST, evenly spaced, are used.
            groups_B: The signer (fold) of each.
            hands: Pictures made.

        Raises:
            ValueError: there is no sign, or a feature is not a finite number.
        """
        check_training(signs_BD)
        some = slice(None, None, max(1, -(-len(signs_BD) // MOST)))
        signs_I = np.concatenate([np.ones(len(signs_BD[some]), np.int64), hands.signs_P])
        both_ID = np.concatenate([signs_BD[some], hands.fifth_ND])
        x_ID = hellinger(both_ID)
        groups_I = np.concatenate([groups_B[some], hands.groups_P])
        return cls(x_ID, (x_ID @ x_ID.T).double(), signs_I, groups_I)

    def fit(self, without: int | None = None) -> HandCountDetector:
        """Learn both directions, of all signers but perhaps one: each minimises
        Σ_i w_i (y_i − (x_i − x̄) · v)² + r |v|², y = 1 for the pictures it is there for and −1 for
        signs and pictures of one, both weighing the same; x̄ is the weighted mean, r is RIDGE times
        Σ_i w_i |x_i − x̄|² over the number of images. Solved in the images' products, since D is
        larger than I.

        Raises:
            ValueError: there is nothing of one side.
        """
        there_I = self.groups_I != without if without is not None else np.ones(len(self.x_ID), bool)
        if not there_I.any():
            raise ValueError("hands: no training images of another signer")
        found = [self._direction(there_I, count) for count in COUNTS]
        mean_GD, weights_GD = (torch.stack(each).numpy() for each in zip(*found, strict=True))
        return HandCountDetector(mean_GD, weights_GD)

    def _direction(
        self, there_I: NDArray[np.bool_], count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and weights, by pictures with so many signs against those with one."""
        chosen = np.flatnonzero(there_I & ((self.signs_I == count) | (self.signs_I == 1)))
        away = self.signs_I[chosen] == count
        if not 0 < away.sum() < len(away):
            raise ValueError(f"hands: no picture with {count} signs, or none with one, to learn of")
        w = torch.from_numpy(np.where(away, 0.5 / away.sum(), 0.5 / (~away).sum()))
        target = torch.from_numpy(np.where(away, 1.0, -1.0))  # of mean 0, both sides alike
        x, root = self.x_ID[chosen], w.sqrt()
        gram = self.gram_II[chosen][:, chosen]
        to_mean = gram @ w
        centred = gram - to_mean[:, None] - to_mean + w @ to_mean
        scaled = root[:, None] * centred * root
        ridge = RIDGE * scaled.diagonal().mean().clamp(min=1e-12)
        dual = root * torch.linalg.solve(scaled + ridge * torch.eye(len(w)), root * target)
        mean_D = w.float() @ x
        return mean_D, dual.float() @ x - dual.sum().float() * mean_D

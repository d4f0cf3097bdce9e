"""Hand-count detector: whether an image shows no hand, or two.

A picture with two hands is near the training images, and often inside a label's Gaussian; so is a
sleeve, or a hand mostly outside the picture. Two ridge classifiers on frozen features therefore
tell pictures without a sign, and with two, from pictures with one. All are made from training
signers' signs (``data/hand_count_negatives.py``). Both scores are vetoes: they count only beyond
the scores of all calibration images.

Letters: N images, B images fitted on (signs and made pictures), D features of the fifth layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.rejection.array_record import ArrayRecord
from sign_ensemble.rejection.class_gaussians import hellinger, hellinger_chunks

RIDGE = 0.3  # times the mean variance of an image; .03 to .3 differ by an image or two of 60
MOST = 2000  # training signs; the time grows with their square
COUNTS = (0, 2)  # hands in the pictures that each classifier finds
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HandCountImages:
    """Pictures made from training signers' signs."""

    fifth_BD: NDArray[np.float16]  # their features
    hands_B: NDArray[np.int64]  # how many hands each shows: 0, 1 or 2
    groups_B: NDArray[np.int64]  # the fold whose signs each was made from


@dataclass(frozen=True)
class HandCountDetector(ArrayRecord):
    """Two linear classifiers on Hellinger features, float32: of no hand, of two hands."""

    mean_2D: NDArray[np.float32]  # weighted mean of the features that each was fitted to
    weights_2D: NDArray[np.float32]  # weights

    def scores(self, features_ND: NDArray[np.float16]) -> Floats:
        """(x − mean) · weights of the Hellinger features x, (N, 2): about −1 for one hand, about 1
        for no hand (first column) or two (second).
        """
        weights_D2 = torch.from_numpy(self.weights_2D.T.copy())
        at_mean_2 = (torch.from_numpy(self.mean_2D) * weights_D2.T).double().sum(1)
        parts = [(x_ND @ weights_D2).double() - at_mean_2 for x_ND in hellinger_chunks(features_ND)]
        return torch.cat([torch.zeros((0, len(COUNTS))).double(), *parts]).numpy()


@dataclass(frozen=True)
class HandCountTraining:
    """Signs and pictures with their Gram matrix, computed once for the fits of all folds."""

    x_BD: torch.Tensor  # Hellinger features, float32
    gram_BB: torch.Tensor  # their products
    hands_B: NDArray[np.int64]  # how many hands each shows
    groups_B: NDArray[np.int64]  # the fold each belongs to

    @classmethod
    def of(
        cls,
        signs_BD: NDArray[np.float16],
        groups_B: NDArray[np.int64],
        pictures: HandCountImages,
    ) -> HandCountTraining:
        """Prepare it; of the signs, at most MOST, evenly spaced, are used."""
        if not len(signs_BD):
            raise ValueError("the hand-count detector needs at least one sign")
        some = slice(None, None, max(1, -(-len(signs_BD) // MOST)))
        ones_B = np.ones(len(signs_BD[some]), np.int64)
        x_BD = hellinger(np.concatenate([signs_BD[some], pictures.fifth_BD]))
        return cls(
            x_BD,
            (x_BD @ x_BD.T).double(),
            np.concatenate([ones_B, pictures.hands_B]),
            np.concatenate([groups_B[some], pictures.groups_B]),
        )

    def fit(self, without: int | None = None) -> HandCountDetector:
        """Fit both classifiers, on all folds or all but one.

        Each minimises Σ_i w_i (y_i − (x_i − x̄) · v)² + r |v|² with y = 1 for its kind of picture
        and −1 for one hand, both classes weighing the same, x̄ the weighted mean and r = RIDGE times
        the mean of w_i |x_i − x̄|². Solved in the Gram matrix, since D is larger than B.

        Raises:
            ValueError: a class has no picture.
        """
        used_B = np.ones(len(self.x_BD), bool) if without is None else self.groups_B != without
        if not used_B.any():
            raise ValueError("the hand-count detector needs images of another signer")
        found = [self._classifier(used_B, count) for count in COUNTS]
        mean_2D, weights_2D = (torch.stack(each).numpy() for each in zip(*found, strict=True))
        return HandCountDetector(mean_2D, weights_2D)

    def _classifier(
        self, used_B: NDArray[np.bool_], count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and weights of the classifier of pictures with so many hands."""
        chosen = np.flatnonzero(used_B & ((self.hands_B == count) | (self.hands_B == 1)))
        positive = self.hands_B[chosen] == count
        if not 0 < positive.sum() < len(positive):
            raise ValueError(
                f"the hand-count detector needs pictures with {count} hands and with one"
            )
        w = torch.from_numpy(np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum()))
        target = torch.from_numpy(np.where(positive, 1.0, -1.0))  # weighted mean 0
        x, root = self.x_BD[chosen], w.sqrt()
        gram = self.gram_BB[chosen][:, chosen]
        to_mean = gram @ w
        centred = gram - to_mean[:, None] - to_mean + w @ to_mean
        scaled = root[:, None] * centred * root
        ridge = RIDGE * scaled.diagonal().mean().clamp(min=1e-12)
        dual = root * torch.linalg.solve(scaled + ridge * torch.eye(len(w)), root * target)
        mean_D = w.float() @ x
        return mean_D, dual.float() @ x - dual.sum().float() * mean_D

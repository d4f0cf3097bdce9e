"""Two signs at once, or none: a guard that learned how much of a hand a sign has, since no distance
sees that well.

A picture with two hands is near the training images and, often, inside a label's cloud. So a
weighted least-squares classifier tells pictures joined from two training signs from signs and from
pictures of one, as small and as far to a side (``data/two_hands.py``). As a guard it counts only
what lies outside the scores of all calibration signs, and so has no say among signs. Of four
built-in people drawn anew, each a stranger to the other three, it let 4 of 60 rendered two hands
pass (AUROC .999) and refused .011 of 648 signs. Nothing without a hand was learned from, but it
lies on the other side of signs: .82 of 60 pictures without one do, a quarter of hands that are
mostly outside the picture, and .003 of signs. Of protocol M's letters, each signer a stranger in
turn, it refused none but 3 of hand5's 260, and let .01 of pictures joined from the stranger's own
signs pass.

Letters: N images asked about, B training images, P pictures made, D features of the fifth layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sign_ensemble.uncertainty.gaussians import check_training, rooted, rooted_chunks

RIDGE = 0.3  # of the mean variance of an image; .03 to .3 differ by an image or two of 60
MOST = 2000  # signs that it learns from: the time grows with the square of them
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hands:
    """Pictures made from training signers' signs.

    Args:
        deep_PD: Their features, of the fifth layer.
        two_P: Which show two.
        groups_P: The signer (fold) whose signs each was made from.
    """

    deep_PD: NDArray[np.float16]
    two_P: NDArray[np.bool_]
    groups_P: NDArray[np.int64]

    def rows(self, chosen_P: NDArray[np.bool_]) -> Hands:
        """Some of the pictures."""
        return Hands(self.deep_PD[chosen_P], self.two_P[chosen_P], self.groups_P[chosen_P])


@dataclass(frozen=True)
class TwoHands:
    """A direction in which pictures of two signs lie.

    Args:
        mean_D: Weighted mean of the rooted features learned from, float32.
        weights_D: The direction, float32.
    """

    mean_D: NDArray[np.float32]
    weights_D: NDArray[np.float32]

    def scores(self, features_ND: NDArray[np.float16]) -> Floats:
        """(√f − mean) · weights of each image, √f scaled to length 1: near −1 for one sign, near 1
        for two.

        Raises:
            ValueError: a feature is not a finite number.
        """
        mean_D, weights_D = torch.from_numpy(self.mean_D), torch.from_numpy(self.weights_D)
        parts = [((each - mean_D) @ weights_D).double() for each in rooted_chunks(features_ND)]
        return torch.cat([torch.zeros(0, dtype=torch.float64), *parts]).numpy()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Both, by name."""
        return dict(vars(self))

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> TwoHands:
        """Undo :meth:`arrays`.

        Raises:
            KeyError: one is missing.
        """
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def fit_two_hands(signs_BD: NDArray[np.float16], hands: Hands) -> TwoHands:
    """Learn it: minimise Σ_i w_i (y_i − ȳ − (x_i − x̄) · v)² + r |v|², y = 1 for two and −1 for one,
    both sides weighing the same; x̄ and ȳ are weighted means, r is RIDGE times Σ_i w_i |x_i − x̄|²
    over the number of images. Solved in the images' Gram matrix, since D is larger.

    Args:
        signs_BD: Features of training signs; at most MOST, evenly spaced, are used.
        hands: Pictures made; without one that shows two there is nothing to learn.

    Raises:
        ValueError: no picture shows two, there is no sign, or a feature is not a finite number.
    """
    if not hands.two_P.any():
        raise ValueError("two hands: no picture with two to learn from")
    check_training(signs_BD)
    check_training(hands.deep_PD)
    some_BD = signs_BD[:: max(1, -(-len(signs_BD) // MOST))]
    x_ID = rooted(np.concatenate([some_BD, hands.deep_PD]))
    two_I = np.concatenate([np.zeros(len(some_BD), bool), hands.two_P])
    weights_I = torch.from_numpy(np.where(two_I, 0.5 / two_I.sum(), 0.5 / (~two_I).sum()))
    mean_D = weights_I.float() @ x_ID
    root_I = weights_I.sqrt()
    scaled_ID = root_I.float()[:, None] * (x_ID - mean_D)
    gram_II = (scaled_ID @ scaled_ID.T).double()
    ridge = RIDGE * gram_II.diagonal().mean().clamp(min=1e-12)
    target_I = root_I * torch.from_numpy(np.where(two_I, 1.0, -1.0))  # ȳ = 0, both sides alike
    dual_I = torch.linalg.solve(gram_II + ridge * torch.eye(len(gram_II)), target_I)
    return TwoHands(mean_D.numpy(), (dual_I.float() @ scaled_ID).numpy())

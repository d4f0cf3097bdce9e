"""One number that makes an ensemble's probabilities honest, if they are too bold or too shy.

p_k^(1/T) / Σ_j p_j^(1/T): T above 1 makes them less sure. It changes no answer's label and, being
the same for all images, says nothing about strange ones: the rule does not use it. An answer's
confidence does.

Source: Guo et al. 2017 (arXiv 1706.04599), here on the ensemble's mean probabilities and with T
from signers that the models had not seen.

Letters: N images, K labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

TINY = np.finfo(np.float64).tiny
LOWEST, HIGHEST = 0.05, 20.0  # beyond, probabilities are all but 0 and 1, or all but equal


def tempered(probs_NK: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """The probabilities at another temperature, (N, K); at 1 they stay as they are."""
    return np.exp(log_softmax(np.log(np.maximum(probs_NK, TINY)) / temperature, axis=-1))


def fit_temperature(
    probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64], weights_N: NDArray[np.float64]
) -> float:
    """The temperature between 0.05 and 20 with the lowest weighted loss.

    Args:
        probs_NK: The ensemble's probabilities of images by signers its models had not seen.
        labels_N: Their labels.
        weights_N: How much each image counts, summing to 1.
    """
    logs_NK = np.log(np.maximum(probs_NK, TINY))
    rows = np.arange(len(labels_N))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logs_NK / np.exp(log_temperature), axis=-1)
        return -float(weights_N @ scaled[rows, labels_N])

    found = minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded")
    return float(np.exp(found.x))

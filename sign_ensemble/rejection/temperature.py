"""Temperature scaling of the ensemble's mean probabilities.

p_k^(1/T) / Σ_j p_j^(1/T): T above 1 makes them less confident. The likeliest label stays. The rule
does not use it; confidence does.

Source: Guo et al. 2017, arXiv 1706.04599.

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
    """The probabilities (N, K) at another temperature; at 1 they stay as they are."""
    return np.exp(log_softmax(np.log(np.maximum(probs_NK, TINY)) / temperature, axis=-1))


def fit_temperature(
    probs_NK: NDArray[np.float64], labels_N: NDArray[np.int64], weights_N: NDArray[np.float64]
) -> float:
    """The temperature between LOWEST and HIGHEST with the lowest weighted negative log-likelihood
    on images of unseen signers; the weights sum to 1.
    """
    logs_NK = np.log(np.maximum(probs_NK, TINY))
    rows = np.arange(len(labels_N))

    def loss(log_temperature: float) -> float:
        scaled_NK = log_softmax(logs_NK / np.exp(log_temperature), axis=-1)
        return -float(weights_N @ scaled_NK[rows, labels_N])

    found = minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded")
    return float(np.exp(found.x))

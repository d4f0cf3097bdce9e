"""Heads fitted without folds or search, and scores of their logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.backbone import FIFTH_FEATURES
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.network import Head
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.training_loop import FeatureBatches, fit, head_schedule


def fifth_alone(features: CachedArray, path: Path) -> CachedArray:
    """The fifth layer's features, which torchvision's classifier reads, in a file of their own."""
    fifth_NVD = np.ascontiguousarray(features.open()[features.row_N, :, :FIFTH_FEATURES])
    fifth_NVD.tofile(path)
    return CachedArray(str(path), np.arange(len(fifth_NVD)), fifth_NVD.shape[1:], "float16")


def trained(
    recipe: MemberConfig,
    labels: int,
    features_RVD: NDArray[np.float16],
    labels_R: NDArray[np.int64],
    seed: int,
) -> Head:
    """A head for so many labels, fitted on all of these images and their augmented copies."""
    torch.manual_seed(seed)
    head = Head(features_RVD.shape[2], recipe.widths, labels, recipe.dropout)
    rows = np.arange(len(labels_R))
    rng = np.random.default_rng(seed)
    batches = FeatureBatches(
        features_RVD, rows, labels_R, recipe.batch_size, recipe.augment_prob, rng
    )
    optimizer = adamw_for((head, recipe.learning_rate), weight_decay=recipe.weight_decay)
    fit(head, batches, head_schedule(recipe), optimizer, torch.device("cpu"))
    return head


def mean_probs(logits_MNK: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean of the networks' probabilities (N, K)."""
    return np.exp(log_softmax(logits_MNK.astype(np.float64), -1)).mean(0)


def max_prob(logits_MNK: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 − max_k p̄_k."""
    return 1 - mean_probs(logits_MNK).max(-1)


def entropy(logits_MNK: NDArray[np.float32]) -> NDArray[np.float64]:
    """H(p̄), nats."""
    probs_NK = mean_probs(logits_MNK)
    return -np.sum(probs_NK * np.log(np.where(probs_NK > 0, probs_NK, 1.0)), -1)


def mutual_information(logits_MNK: NDArray[np.float32]) -> NDArray[np.float64]:
    """H(p̄) − mean_m H(p_m), nats."""
    logs_MNK = log_softmax(logits_MNK.astype(np.float64), -1)
    each_N = -np.sum(np.exp(logs_MNK) * logs_MNK, -1).mean(0)
    return np.maximum(entropy(logits_MNK) - each_N, 0.0)


def energy(logits_MNK: NDArray[np.float32]) -> NDArray[np.float64]:
    """−mean_m log Σ_k exp z_mk (Liu et al. 2020, arXiv 2010.03759)."""
    return -logsumexp(logits_MNK.astype(np.float64), -1).mean(0)

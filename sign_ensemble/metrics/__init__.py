"""Figures of merit and their intervals; knows nothing of the rest of the package."""

from sign_ensemble.metrics.figures import (
    accuracy,
    augrc,
    aurc,
    auroc,
    coverage,
    ece,
    fpr95,
    nll,
    overconfident,
    selective_risk,
    top_class,
)

__all__ = [
    "accuracy",
    "augrc",
    "auroc",
    "aurc",
    "coverage",
    "ece",
    "selective_risk",
    "fpr95",
    "nll",
    "overconfident",
    "top_class",
]

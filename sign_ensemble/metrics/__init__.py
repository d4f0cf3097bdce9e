"""Figures of merit and their intervals; knows nothing of the rest of the package."""

from sign_ensemble.metrics.figures import (
    accuracy,
    augrc,
    aurc,
    auroc,
    coverage,
    ece,
    error_accepted,
    fpr95,
    nll,
    overconfident,
    top_class,
)

__all__ = [
    "accuracy",
    "augrc",
    "auroc",
    "aurc",
    "coverage",
    "ece",
    "error_accepted",
    "fpr95",
    "nll",
    "overconfident",
    "top_class",
]

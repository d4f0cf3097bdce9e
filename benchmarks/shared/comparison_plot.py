"""Curves of the comparison: risk against coverage, and OOD images against signs accepted.

Letters: N images, P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from shared.unseen_signer import KNOWN, NEAR
from sign_ensemble.metrics.curves import risk_coverage

mpl.use("Agg")
import matplotlib.pyplot as plt

COVERAGES = np.linspace(0.05, 1.0, 20)
SIGNS = np.linspace(0.5, 1.0, 26)
SHOWN = {
    "one model: MSP": "#9a7bd0",
    "deep ensemble: entropy": "#7f7f7f",
    "deep ensemble: mutual information": "#b8860b",
    "one fine-tuned model: ViM": "#2f9e6e",
    "one fine-tuned model: Mahalanobis": "#e08a1e",
    "one fine-tuned model: kNN, convolutions": "#d3456b",
}
Floats = NDArray[np.float64]


def curves(
    scores: Mapping[str, Floats],
    wrong_N: NDArray[np.bool_],
    rejection: Mapping[str, Floats] | None = None,
) -> dict[str, list[float]]:
    """Of one method: risk at COVERAGES (of signs and wrong gestures, the latter as failures), and
    the share accepted of wrong gestures, and the mean share of far sets, where SIGNS of the signs
    are.

    Args:
        scores: Set → scores, higher = reject.
        wrong_N: Which signs are misread.
        rejection: The scores that risk is by, where a rule rejects by more than the OOD score.
    """
    known_N, near_N, by = scores[KNOWN], scores[NEAR], rejection or scores
    failed = np.concatenate([wrong_N, np.ones(len(near_N), bool)])
    both = np.concatenate([by[KNOWN], by[NEAR]])
    covered_P, risk_P = risk_coverage(both, failed, points=len(both))
    limits = np.quantile(known_N, SIGNS, method="higher")
    far = [values for name, values in scores.items() if name not in (KNOWN, NEAR)]

    def accepted(values: Floats) -> Floats:
        return (values[None] <= limits[:, None]).mean(1)

    return {
        "risk": risk_P[np.searchsorted(covered_P, COVERAGES - 1e-9)].round(4).tolist(),
        "near": accepted(near_N).round(4).tolist(),
        "far": np.mean([accepted(values) for values in far], 0).round(4).tolist(),
    }


def mean_curves(of: list[dict[str, Any]]) -> dict[str, Floats]:
    """Means over signers and seeds."""
    return {
        key: np.mean([each["curves"][key] for each in of], 0) for key in ("risk", "near", "far")
    }


def plot(found: Mapping[str, dict[str, Floats]], ours: str, path: Path) -> None:
    """Three panels; ours thick and last, so that it lies above.

    Args:
        found: Method → :func:`mean_curves`.
        ours: Which of them is this project's.
        path: Of the picture.
    """
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), constrained_layout=True)
    panels = (
        ("risk", COVERAGES, "coverage of signs and wrong gestures", "share wrong among answered"),
        ("near", SIGNS, "share of signs accepted", "wrong gestures accepted"),
        ("far", SIGNS, "share of signs accepted", "far images accepted, mean of sets"),
    )
    for axis, (key, at_P, x_label, y_label) in zip(axes, panels, strict=True):
        for name, colour in SHOWN.items():
            axis.plot(at_P, found[name][key], color=colour, label=name)
        axis.plot(at_P, found[ours][key], color="#2f8fd8", linewidth=3, label=ours)
        axis.set(xlabel=x_label, ylabel=y_label, ylim=(-0.02, None))
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)
    plt.close(figure)

"""Histograms of the scores that images are rejected by."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from sign_ensemble.rejection.answers_table import SCORE
from sign_ensemble.rejection.scores import SCORES
from sign_ensemble.report.plots import COLOURS, Plot, legend_on_top
from sign_ensemble.report.run_results import Results

BINS = 30
OUTER = 0.005  # share of the images at either end that are drawn in the outermost bins


def score_plots(results: Results) -> Iterator[Plot]:
    """A histogram per score of the run, in the order of SCORES."""
    kinds = np.array(results.answers["kind"].to_pylist())
    for score in SCORES:
        if f"{SCORE}{score.name}" not in results.answers.column_names:
            continue
        role = score.role
        if role == "uncertainty test" and not results.rule["uncertainty_share"]:
            role = "comparison"
        if role == "OOD test" and score.name != results.rule["ood_score"]:
            role = "comparison"
        scores = results.answers[f"{SCORE}{score.name}"].to_numpy()
        yield Plot(
            f"score-{score.name}",
            f"{role[0].upper()}{role[1:]}: {score.title}",
            f"{score.meaning} The higher, the sooner an image is rejected. Each kind's bars add up "
            "to one.",
            partial(draw_histogram, scores, kinds),
            2.4,
            "y",
        )


def draw_histogram(scores: np.ndarray, kinds: np.ndarray, axes: Axes) -> None:
    """Known, near and far images over common bins."""
    low, high = np.quantile(scores, (OUTER, 1 - OUTER))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    for kind in ("known", "near", "far"):
        of_kind = scores[kinds == kind]
        if len(of_kind):
            axes.hist(
                of_kind.clip(edges[0], edges[-1]), edges,
                weights=np.full(len(of_kind), 1 / len(of_kind)), histtype="stepfilled",
                facecolor=to_rgba(COLOURS[kind], 0.35), edgecolor=COLOURS[kind], linewidth=1.3,
                label=kind,
            )  # fmt: skip
    axes.set(xlabel="score", ylabel="share of images")
    legend_on_top(axes)

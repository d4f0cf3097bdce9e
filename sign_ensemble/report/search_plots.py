"""Plots of the search: its history, its hyperparameters, and which of them matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from sign_ensemble.report.plots import COLOURS, INK, Plot, legend_on_top
from sign_ensemble.report.run_results import Results

NOT_PARAMS = {
    "number", "kind", "status", "nll", "accuracy", "ece", "worst_accuracy", "seconds", "error",
}  # fmt: skip
LOGARITHMIC = {"learning_rate", "weight_decay", "backbone_rate"}
BEST_TO_WORST = LinearSegmentedColormap.from_list(
    "best to worst", [COLOURS["known"], COLOURS["single"], COLOURS["far"]]
)
MARKS = {  # by status: marker, colour
    "complete": ("o", "ensemble"),
    "pruned": ("x", "near"),
    "failed": ("v", "far"),
}


def params_of(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The hyperparameters among a trial's columns."""
    columns = dict.fromkeys(name for trial in trials for name in trial if name not in NOT_PARAMS)
    return [name for name in columns if not name.startswith(("nll_", "accuracy_"))]


def search_plots(results: Results) -> Iterator[Plot]:
    """All of them; none of a single trial."""
    by_number = sorted(results.trials, key=lambda trial: trial["number"])
    trials = [trial for trial in by_number if trial["nll"] is not None]
    if len(results.trials) < 2 or not trials:
        return
    members = {member["trial"] for member in results.members}
    yield Plot(
        "search-history",
        "History of the search",
        "Loss of each trial on held-out folds. A pruned trial stopped after a few folds, so its "
        "loss is not comparable; the line is the best complete trial so far, rings are members.",
        partial(draw_history, trials, members),
    )
    yield Plot(
        "search-parameters",
        "Hyperparameters",
        "A line per trial, the bluer the lower its loss; pruned trials are dotted. Learning rates "
        "and weight decay are logarithmic.",
        partial(draw_parallel, trials, params_of(trials)),
        3.6,
        "none",
    )
    if results.importances:
        yield Plot(
            "search-importances",
            "Importance of hyperparameters",
            "Share of the loss's variance over the ranges searched that each explains (fANOVA, "
            "complete trials).",
            partial(draw_importances, results.importances),
            0.8 + 0.26 * len(results.importances),
            "x",
        )


def draw_history(trials: Sequence[Mapping[str, Any]], members: set[int], axes: Axes) -> None:
    """Dots by how the trial ended, and the best so far."""
    for status, (marker, colour) in MARKS.items():
        some = [trial for trial in trials if trial["status"] == status]
        if some:
            axes.plot(
                [t["number"] for t in some], [t["nll"] for t in some], marker,
                color=COLOURS[colour], markersize=5, linestyle="none", label=status,
            )  # fmt: skip
    complete = [trial for trial in trials if trial["status"] == "complete"]
    if complete:
        numbers = [trial["number"] for trial in complete]
        best = np.minimum.accumulate([trial["nll"] for trial in complete])
        axes.step(numbers, best, where="post", color=INK, linewidth=1)
    chosen = [trial for trial in complete if trial["number"] in members]
    if chosen:
        axes.plot(
            [t["number"] for t in chosen], [t["nll"] for t in chosen], "o", markersize=10,
            markerfacecolor="none", markeredgecolor=INK, linestyle="none", label="member",
        )  # fmt: skip
    axes.set(xlabel="trial", ylabel="loss, nats per image")
    losses = [trial["nll"] for trial in trials]
    if min(losses) > 0 and max(losses) > 10 * min(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_on_top(axes)


def heights(name: str, values: Sequence[float]) -> tuple[np.ndarray, str, str]:
    """Each value's place on an axis from 0 to 1, and the labels of its two ends."""
    array = np.array(values, float)
    low, high = array.min(), array.max()
    if name in LOGARITHMIC and low > 0:
        array = np.log(array)
    if name in ("h1", "h2", "epochs", "batch_size"):  # a few choices: evenly spread
        array = np.unique(array, return_inverse=True)[1].astype(float)
    span = np.ptp(array)
    placed = (array - array.min()) / span if span else np.full(len(array), 0.5)
    return placed, short(low), short(high)


def short(value: float) -> str:
    """A number in few characters: 1024, 0.43, 9e-05."""
    return f"{value:.0f}" if value == int(value) else f"{value:.{2 if value >= 0.01 else 1}g}"


def draw_parallel(trials: Sequence[Mapping[str, Any]], params: Sequence[str], axes: Axes) -> None:
    """Parallel coordinates; the loss is the last axis."""
    names = [name for name in params if all(trial.get(name) is not None for trial in trials)]
    losses = np.array([trial["nll"] for trial in trials])
    columns = [heights(name, [trial[name] for trial in trials]) for name in names]
    rank = losses.argsort().argsort() / max(len(losses) - 1, 1)
    columns.append((rank, short(losses.min()), short(losses.max())))
    colours = BEST_TO_WORST(rank)
    for i in np.argsort(-losses):
        complete = trials[i]["status"] == "complete"
        axes.plot(
            range(len(columns)), [placed[i] for placed, _, _ in columns], color=colours[i],
            linewidth=1.1, alpha=0.9 if complete else 0.6, linestyle="-" if complete else ":",
        )  # fmt: skip
    for at, (_, low, high) in enumerate(columns):
        axes.axvline(at, color=INK, linewidth=0.7, alpha=0.5)
        off = 0.03 + 0.06 * (at % 2)  # neighbours' numbers would touch
        axes.text(at, -off, low, ha="center", va="top", fontsize=7.5)
        axes.text(at, 1 + off, high, ha="center", va="bottom", fontsize=7.5)
    shown = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(columns)), [*shown, "rank of loss"], rotation=40, ha="right")
    axes.tick_params(axis="x", length=0, pad=4)
    axes.set(ylim=(-0.16, 1.16), yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def draw_importances(shares: Mapping[str, float], axes: Axes) -> None:
    """Bars, largest first."""
    names = [name.replace("_", " ") for name in shares]
    axes.barh(range(len(names)), list(shares.values()), height=0.62, color=COLOURS["ensemble"])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="share of the loss's variance")

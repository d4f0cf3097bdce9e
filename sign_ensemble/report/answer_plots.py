"""Plots of the evaluation: risk and coverage, sets, probabilities, signers, labels, members.

Letters: M members, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from sign_ensemble.report.plots import COLOURS, INK, Plot, legend_on_top
from sign_ensemble.report.run_results import Results

RAMP = LinearSegmentedColormap.from_list("ramp", [(0.18, 0.56, 0.85, 0.0), (0.18, 0.56, 0.85, 1.0)])
MOST_NAMES = 40  # labels named along an axis; of more every second, every third, ...
GDA_OF_LAYERS, GDA_OF_HANDS = ("third layer", "fifth layer"), ("fingertips", "landmarks")
FEW_NAMES = 12  # up to as many, every cell of a matrix has its number


def answer_plots(results: Results) -> Iterator[Plot]:
    """All of them, in the page's order."""
    tree = results.metrics
    details = tree["details"]
    near = any(each["kind"] == "near" for each in tree["sets"].values())
    failures = "Answers to near OOD images count as errors" if near else "There are no near images"
    yield Plot(
        "risk-coverage",
        "Risk against coverage",
        "Selective risk, the share of errors among accepted images, when the images with the "
        f"lowest scores are accepted. {failures}. Lower is better; the dot is the rule as shipped.",
        partial(draw_risk_coverage, details["curve"]),
    )
    yield Plot(
        "accepted",
        "Accepted: known signs and OOD images",
        "Known signs should be accepted, all other images should not. Whiskers: 95 % interval over "
        "images. Diamonds: share on which a single model is at least 90 % confident.",
        partial(draw_sets, tree),
        0.9 + 0.3 * (len(tree["sets"]) + 1),
        "x",
    )
    yield Plot(
        "reliability",
        "Reliability",
        "Accuracy on known signs against the ensemble's probability, in bins of equal size; on the "
        "diagonal the ensemble is calibrated. The temperature comes from training images; it "
        "changes confidence, not which images are accepted.",
        partial(draw_reliability, details),
    )
    if any(tree["signers"]):  # their names; the one name is empty where signers are not known
        yield Plot(
            "signers",
            "Each test signer",
            "Whiskers: 95 % interval over that signer's images.",
            partial(draw_shares, tree["signers"]),
            0.9 + 0.42 * len(tree["signers"]),
            "x",
        )
    yield Plot(
        "labels",
        "Each label",
        "Accuracy if all known signs of a label were answered, and coverage.",
        partial(draw_shares, details["labels"]),
        0.9 + 0.22 * len(details["labels"]),
        "x",
    )
    yield Plot(
        "confusion",
        "Confusion matrix",
        "Accepted known signs: true label down, answer across, share of each row.",
        partial(draw_confusion, details["confusion"]["accepted"], tree["about"]["labels"]),
        4.4,
        "none",
    )
    if len(details["disagreement"]) > 1:
        yield Plot(
            "member-disagreement",
            "Disagreement of members",
            "Share of known signs, in per cent, to which two members give different labels. A "
            "member that agrees with another one adds little.",
            partial(draw_disagreement, details["disagreement"], member_names(results)),
            4.0,
            "none",
        )


def draw_risk_coverage(curves: Mapping[str, Any], axes: Axes) -> None:
    """Two curves and the operating point."""
    for name, words in (("single", "single model, max-prob"), ("ensemble", "this ensemble")):
        axes.plot(curves[name]["coverage"], curves[name]["risk"], color=COLOURS[name], label=words)
    point = curves["operating"]
    if point["risk"] is not None:
        axes.plot(
            point["coverage"], point["risk"], "o", color=COLOURS["ensemble"],
            markeredgecolor=INK, markersize=8, label="the rule as shipped",
        )  # fmt: skip
    axes.set(xlabel="coverage", ylabel="selective risk", xlim=(0, 1.02))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")


def whiskers(figure: Mapping[str, Any]) -> list[list[float]]:
    """The interval as matplotlib's error bars; of length 0 where there is none."""
    if figure["low"] is None:
        return [[0.0], [0.0]]
    value = figure["value"]
    return [[max(0.0, value - figure["low"])], [max(0.0, figure["high"] - value)]]


def draw_sets(tree: Mapping[str, Any], axes: Axes) -> None:
    """Bars: known signs, then every OOD set."""
    names = ["known signs", *tree["sets"]]
    bars = [("known", tree["known"]["coverage"])]
    bars += [(each["kind"], each["accepted"]) for each in tree["sets"].values()]
    for at, (kind, figure) in enumerate(bars):
        value = figure["value"]
        axes.barh(at, value, height=0.62, color=COLOURS[kind])
        axes.errorbar(value, at, xerr=whiskers(figure), color=INK, linewidth=1, capsize=2.5)
    single = [tree["single"]["sets"][name]["overconfident"]["value"] for name in tree["sets"]]
    axes.plot(
        single, range(1, len(names)), "D", color=COLOURS["single"], markeredgecolor=INK,
        markeredgewidth=0.6, markersize=5, linestyle="none", label="single model, ≥ 90 % confident",
    )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="share accepted")
    if single:
        axes.legend(loc="lower right")


def draw_reliability(details: Mapping[str, Any], axes: Axes) -> None:
    """Before and after temperature scaling, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    for when, words, colour, line in (
        ("before", "as it is", COLOURS["ensemble"], "-"),
        ("after", f"at temperature {details['temperature']:.2f}", COLOURS["good"], "--"),
    ):
        found = details["reliability"][when]
        axes.plot(
            *([each[name] for each in found["bins"]] for name in ("confidence", "right")),
            marker="o", markersize=4, color=colour, linestyle=line,
            label=f"{words}, ECE {found['ece']['value']:.3f}",
        )  # fmt: skip
    axes.set(xlabel="mean probability", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.05))
    axes.legend(loc="lower right")


def draw_shares(rows: Mapping[str, Any], axes: Axes) -> None:
    """Accuracy and coverage of each row, with whiskers."""
    for name, colour, shift in (("accuracy", "good", -0.14), ("coverage", "ensemble", 0.14)):
        for at, each in enumerate(rows.values()):
            axes.errorbar(
                each[name]["value"], at + shift, xerr=whiskers(each[name]), fmt="o",
                color=COLOURS[colour], markersize=4.5, linewidth=1,
                label=name if at == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set(xlim=(0, 1.02), xlabel="share of known signs")
    legend_on_top(axes)


def draw_matrix(values: np.ndarray, names: list[str], most: float, axes: Axes) -> None:
    """A square of colours, the same names down and across."""
    edges = np.arange(len(names) + 1) - 0.5
    axes.pcolormesh(edges, edges, values, cmap=RAMP, vmin=0, vmax=most)
    step = -(-len(names) // MOST_NAMES)
    size = 9.0 if len(names) <= FEW_NAMES else 7.0
    axes.set_xticks(range(0, len(names), step), names[::step], fontsize=size)
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=size)
    if max(map(len, names)) > 2:
        axes.tick_params(axis="x", rotation=90)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.tick_params(length=0)


def draw_confusion(counts: list[list[int]], names: list[str], axes: Axes) -> None:
    """Shares of each row, with the counts of the errors written in."""
    counts_KK = np.array(counts)
    shares_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    draw_matrix(shares_KK, names, 1, axes)
    few = len(names) <= FEW_NAMES
    for row, column in zip(*np.nonzero(counts_KK), strict=True):
        if row != column or few:
            axes.text(
                column, row, str(counts_KK[row, column]), ha="center", va="center",
                fontsize=9.0 if few else 6.0,
            )  # fmt: skip
    axes.set(xlabel="answer", ylabel="true label")


def member_names(results: Results) -> list[str]:
    """The members by their trials, then the GDA predictions: of layers, or of each member."""
    members = [
        f"{member['trial']}{' (landmarks)' * (member['kind'] == 'landmarks')}"
        for member in results.members
    ]
    gda = results.rule["gda"]
    if not gda:
        return members
    if gda["of_members"]:
        of_pixels = [m["trial"] for m in results.members if m["kind"] == "pixels"]
        return [*members, *(f"GDA of {trial}" for trial in of_pixels)]
    inputs = GDA_OF_HANDS if results.rule["joint_scales"] else GDA_OF_LAYERS
    return [*members, *(f"GDA, {name}" for name in inputs[: len(gda["temperatures"])])]


def draw_disagreement(shares: list[list[float]], names: list[str], axes: Axes) -> None:
    """Per cent, written into each cell."""
    percent_MM = 100 * np.array(shares)
    draw_matrix(percent_MM, names, max(percent_MM.max(), 1e-9), axes)
    if len(names) <= FEW_NAMES:
        for row, column in np.ndindex(*percent_MM.shape):
            axes.text(column, row, f"{percent_MM[row, column]:.1f}", ha="center", va="center")
    axes.set(xlabel="member of trial", ylabel="member of trial")

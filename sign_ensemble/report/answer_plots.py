"""Plots of what was answered: risk and coverage, sets, scores, probabilities, signers, labels.

Letters: M members, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba

from sign_ensemble.rejection.answers_table import SCORE
from sign_ensemble.report.plots import COLOURS, INK, Plot, above
from sign_ensemble.report.run_results import Results

RAMP = LinearSegmentedColormap.from_list("ramp", [(0.18, 0.56, 0.85, 0.0), (0.18, 0.56, 0.85, 1.0)])
BINS = 30
MOST_NAMES = 40  # labels named along an axis; of more every other, every third, ...
SCORES = {
    "total_uncertainty": "entropy of the mean probabilities, nats",
    "disagreement": "mutual information of answer and member, nats",
    "energy": "negative log-sum-exp of the logits",
    "max_logit": "negative highest logit",
    "generalised_entropy": "generalised entropy",
    "sirc": "one less the largest probability, more where features are weak",
    "feature_norm": "weakness of the frozen features, standardised",
    "neighbour": "distance to the nearest training images",
    "relative_mahalanobis": "distance to the nearest label's cloud",
    "part_mahalanobis": "distance of the part that fits the nearest label worst",
    "own_mahalanobis": "distance to the nearest label's cloud in what the members see",
    "no_hand": "how little of a hand there is",
    "two_hands": "how much like two signs at once",
}


def answer_plots(results: Results) -> Iterator[Plot]:
    """All of them, in the page's order."""
    tree = results.metrics
    details = tree["details"]
    has_near = any(each["kind"] == "near" for each in tree["sets"].values())
    yield Plot(
        "risk-coverage",
        "Risk against coverage",
        "Share of wrong answers among those given, when only the least strange images are "
        f"answered; {'answers to near images' if has_near else 'there are no near images that'} "
        f"count as wrong{'' if has_near else ' here'}. Lower is better; the dot is the rule as "
        "shipped.",
        partial(draw_risk_coverage, details["curve"]),
    )
    yield Plot(
        "accepted",
        "Kept signs, accepted strange images",
        "Signs by people the models had not seen should be kept, the rest should not be accepted. "
        "Whiskers: 95 % interval over images. Diamonds: what one model alone is at least 90 % "
        "sure of.",
        partial(draw_sets, tree),
        0.9 + 0.3 * (len(tree["sets"]) + 1),
        "x",
    )
    yield Plot(
        "reliability",
        "Reliability",
        "Share right against the ensemble's probability, held-out signs, in bins of equal size; on "
        "the diagonal probabilities are honest. The temperature comes from training signers and "
        "decides nothing: how sure an answer is goes by it.",
        partial(draw_reliability, details),
    )
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
        "Held-out signs of each label: right if all were answered, and answered.",
        partial(draw_shares, details["labels"]),
        0.9 + 0.22 * len(details["labels"]),
        "x",
    )
    names = tree["about"]["labels"]
    yield Plot(
        "confusion",
        "Answers given",
        "Held-out signs that were answered: true label down, answer across, share of each row.",
        partial(draw_confusion, details["confusion"]["accepted"], names),
        4.4,
        "none",
    )
    if len(details["disagreement"]) > 1:
        yield Plot(
            "member-disagreement",
            "Members apart",
            "Share of held-out signs, in per cent, that two members name differently; a member "
            "alike to another adds little.",
            partial(draw_disagreement, details["disagreement"], readers(results)),
            4.0,
            "none",
        )


def score_plots(results: Results) -> Iterator[Plot]:
    """A histogram per score, those that decide first."""
    columns = [name for name in results.answers.column_names if name.startswith(SCORE)]
    names = [name.removeprefix(SCORE) for name in columns]
    deciding = [
        *results.rule["witnesses"],
        *(["total_uncertainty"] if results.rule.get("unsure") else []),
    ]
    kinds = np.array(results.answers["kind"].to_pylist())
    for name in sorted(names, key=lambda name: name not in deciding):
        scores = results.answers[f"{SCORE}{name}"].to_numpy()
        note = "decides" if name in deciding else "for comparison"
        yield Plot(
            f"score-{name}",
            f"{name.replace('_', ' ')} ({note})",
            f"{SCORES[name]}; higher = stranger. Each kind's bars add up to one.",
            partial(draw_histogram, scores, kinds),
            2.4,
            "y",
        )


def draw_risk_coverage(curves: Mapping[str, Any], axes: Axes) -> None:
    """Two curves and the operating point."""
    for name, text in (("single", "one model, max-prob"), ("ensemble", "this ensemble")):
        axes.plot(curves[name]["coverage"], curves[name]["risk"], color=COLOURS[name], label=text)
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
    """The interval as matplotlib's error bars; nothing where there is none."""
    if figure["low"] is None:
        return [[0.0], [0.0]]
    value = figure["value"]
    return [[max(0.0, value - figure["low"])], [max(0.0, figure["high"] - value)]]


def draw_sets(tree: Mapping[str, Any], axes: Axes) -> None:
    """Bars: held-out signs, then every strange set."""
    names = ["held-out signs", *tree["sets"]]
    kinds = ["known", *[each["kind"] for each in tree["sets"].values()]]
    figures = [tree["known"]["coverage"], *[each["accepted"] for each in tree["sets"].values()]]
    for place, (kind, figure) in enumerate(zip(kinds, figures, strict=True)):
        axes.barh(place, figure["value"], height=0.62, color=COLOURS[kind])
        axes.errorbar(
            figure["value"], place, xerr=whiskers(figure), color=INK, linewidth=1, capsize=2.5
        )
    alone = [tree["single"]["sets"][name]["overconfident"]["value"] for name in tree["sets"]]
    axes.plot(
        alone, range(1, len(names)), "D", color=COLOURS["single"], markeredgecolor=INK,
        markeredgewidth=0.6, markersize=5, linestyle="none", label="one model, ≥ 90 % sure",
    )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="share accepted")
    if alone:
        axes.legend(loc="lower right")


def draw_histogram(scores: np.ndarray, kinds: np.ndarray, axes: Axes) -> None:
    """Known, near and far over common bins; the outermost 1 % of all lie in the last bins."""
    low, high = np.quantile(scores, (0.005, 0.995))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    for kind in ("known", "near", "far"):
        mine = scores[kinds == kind]
        if len(mine):
            axes.hist(
                mine.clip(edges[0], edges[-1]), edges, weights=np.full(len(mine), 1 / len(mine)),
                histtype="stepfilled", facecolor=to_rgba(COLOURS[kind], 0.35),
                edgecolor=COLOURS[kind], linewidth=1.3, label=kind,
            )  # fmt: skip
    axes.set(xlabel="score", ylabel="share of images")
    above(axes)


def draw_reliability(details: Mapping[str, Any], axes: Axes) -> None:
    """Before and after temperature, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    sides = (
        ("before", "as it is", COLOURS["ensemble"], "-"),
        ("after", f"at temperature {details['temperature']:.2f}", COLOURS["good"], "--"),
    )
    for side, text, colour, line in sides:
        bins = details["reliability"][side]["bins"]
        axes.plot(
            [each["confidence"] for each in bins], [each["right"] for each in bins],
            marker="o", markersize=4, color=colour, linestyle=line,
            label=f"{text}, ECE {details['reliability'][side]['ece']['value']:.3f}",
        )  # fmt: skip
    axes.set(xlabel="mean probability", ylabel="share right", xlim=(0, 1.03), ylim=(0, 1.05))
    axes.legend(loc="upper left")


def draw_shares(rows: Mapping[str, Any], axes: Axes) -> None:
    """Accuracy and coverage of each row, with whiskers."""
    sides = (("accuracy", "right", "good", -0.14), ("coverage", "answered", "ensemble", 0.14))
    for figure, text, colour, shift in sides:
        for place, each in enumerate(rows.values()):
            axes.errorbar(
                each[figure]["value"], place + shift, xerr=whiskers(each[figure]), fmt="o",
                color=COLOURS[colour], markersize=4.5, linewidth=1,
                label=text if place == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set(xlim=(0, 1.02), xlabel="share of held-out signs")
    above(axes)


def name_axes(axes: Axes, names: list[str]) -> None:
    """The same names down and across."""
    step = -(-len(names) // MOST_NAMES)
    small = 9.0 if len(names) <= 12 else 7.0
    axes.set_xticks(range(0, len(names), step), names[::step], fontsize=small)
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=small)
    if max(map(len, names)) > 2:
        axes.tick_params(axis="x", rotation=90)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.tick_params(length=0)


def draw_confusion(counts: list[list[int]], names: list[str], axes: Axes) -> None:
    """Shares of each row, with the counts of the mistakes written in."""
    counts_KK = np.array(counts)
    shares = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    axes.pcolormesh(
        np.arange(len(names) + 1) - 0.5, np.arange(len(names) + 1) - 0.5, shares, cmap=RAMP,
        vmin=0, vmax=1, edgecolors="none",
    )  # fmt: skip
    size = 9.0 if len(names) <= 12 else 6.0
    for row, column in zip(*np.nonzero(counts_KK), strict=True):
        if row != column or len(names) <= 12:
            axes.text(
                column, row, str(counts_KK[row, column]), ha="center", va="center", fontsize=size
            )
    name_axes(axes, names)
    axes.set(xlabel="answer", ylabel="true label")


def readers(results: Results) -> list[str]:
    """The members by their trials, then the clouds that read: of layers, or each member's own."""
    members = [str(member["trial"]) for member in results.members]
    readings = results.rule.get("readings")
    if not readings:
        return members
    if readings["own"]:
        return [*members, *(f"{member}'s clouds" for member in members)]
    return [*members, "third layer", "fifth layer"]


def draw_disagreement(apart: list[list[float]], names: list[str], axes: Axes) -> None:
    """Per cent apart, written into each field."""
    apart_MM = 100 * np.array(apart)
    edges = np.arange(len(names) + 1) - 0.5
    axes.pcolormesh(edges, edges, apart_MM, cmap=RAMP, vmin=0, vmax=max(apart_MM.max(), 1e-9))
    if len(names) <= 12:
        for row, column in np.ndindex(*apart_MM.shape):
            axes.text(column, row, f"{apart_MM[row, column]:.1f}", ha="center", va="center")
    name_axes(axes, names)
    axes.set(xlabel="member of trial", ylabel="member of trial")

"""How plots look, and how they are written: as SVG for the page, and as SVG and PNG files.

Text and axes are drawn in INK, which the page replaces by its own text colour, so that a plot
works in light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#123457"  # used for nothing else
COLOURS = {
    "known": "#2f8fd8",
    "near": "#e08a1e",
    "far": "#d3456b",
    "ensemble": "#2f8fd8",
    "single": "#9a7bd0",
    "good": "#2f9e6e",
}
WIDTH, HEIGHT = 4.6, 3.2  # inches; a page 390 px wide shows it almost in its own size
INKED = "text.color axes.labelcolor axes.edgecolor xtick.color ytick.color grid.color"
STYLE: dict[Any, Any] = {
    **dict.fromkeys(INKED.split(), INK),
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",  # text stays text: sharp, and the browser can search it
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Plot:
    """A plot, drawn when it is written."""

    name: str  # its file's name
    title: str  # what it shows
    caption: str  # how to read it
    draw: Callable[[Axes], None]  # draws it into axes
    height: float = HEIGHT  # inches
    # which grid lines help to read it: x, y, both or none
    grid: Literal["x", "y", "both", "none"] = "both"


def legend_on_top(axes: Axes) -> None:
    """The legend in one row over the axes, where it hides nothing."""
    names = axes.get_legend_handles_labels()[1]
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names), columnspacing=1.2)


def saved(plot: Plot, salt: str) -> tuple[str, bytes]:
    """SVG text and PNG of the plot, the same at every call.

    ``salt`` makes ids inside the SVG unique in a page with many.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"{salt} {plot.name}"}):
        figure = Figure(figsize=(WIDTH, plot.height), layout="constrained")
        axes = figure.add_subplot()
        if plot.grid != "none":
            axes.grid(True, axis=plot.grid)
            axes.set_axisbelow(True)
        plot.draw(axes)
        with io.StringIO() as text:
            figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
            svg = text.getvalue()
        figure.set_layout_engine("none")  # keep the layout just computed
        with io.BytesIO() as content:
            figure.savefig(content, format="png", dpi=160, facecolor="white")
            png = content.getvalue()
    return svg, png


def inline(svg: str, title: str) -> str:
    """The SVG element alone, without a size of its own, in the page's text colour."""
    element = svg[svg.index("<svg") :]
    head, rest = element.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, count=1, flags=re.DOTALL)
    label = f'role="img" aria-label="{title}"'
    return f"{head} {label}>{rest}".replace(INK, "currentColor")

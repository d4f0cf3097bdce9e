"""Results and plots to one HTML page that needs no other file.

Every number in the page's text is a ``<data>`` element that names its source: ``data-of`` is
metrics (metrics.json) or trials (trials.parquet, by the trial's number), ``data-at`` the path.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sign_ensemble.core.whose_signs import whose_signs
from sign_ensemble.rejection.answers_table import GALLERIES, KNOWN
from sign_ensemble.rejection.scores import BY_NAME
from sign_ensemble.report.plots import Plot
from sign_ensemble.report.run_results import Results
from sign_ensemble.report.search_plots import params_of

MOST_TRIALS = 15  # shown in the table, the best first
MOST_FILES = 200  # set-aside images listed; the manifest has all


@dataclass(frozen=True)
class Shown:
    """A drawn plot, as the page takes it."""

    plot: Plot
    svg: Markup


class Numbers:
    """Writes a run's numbers so that each names its source."""

    def __init__(self, results: Results) -> None:
        self._run = results.name
        self._metrics = results.metrics
        self._trials = {trial["number"]: trial for trial in results.trials}

    def at(self, *path: str) -> Any:
        """The value at a path of metrics.json."""
        value: Any = self._metrics
        for step in path:
            value = value[step]
        return value

    def _data(self, source: str, path: Sequence[Any], value: Any, text: str) -> Markup:
        return Markup('<data data-run="{}" data-of="{}" data-at="{}" value="{}">{}</data>').format(
            self._run, source, json.dumps(path), json.dumps(value), text
        )

    def percent(self, *path: str) -> Markup:
        """A share in per cent, one decimal."""
        value = self.at(*path)
        if value is None:
            return Markup("–")
        return self._data("metrics", path, value, f"{100 * value:.1f}")

    def count(self, *path: str) -> Markup:
        """An integer, or the length of an object."""
        value = self.at(*path)
        number = len(value) if isinstance(value, dict) else value
        return self._data("metrics", path, number, f"{number:,}")

    def share(self, *path: str) -> Markup:
        """A share in per cent, with its interval."""
        value = self.percent(*path, "value")
        if self.at(*path, "low") is None:
            return value
        low, high = self.percent(*path, "low"), self.percent(*path, "high")
        return value + Markup(" <small>{}–{}</small>").format(low, high)

    def of_trial(self, number: int, name: str) -> Markup:
        """A trial's figure or hyperparameter."""
        value = self._trials[number][name]
        if value is None:
            return Markup("–")
        if isinstance(value, str):
            return escape(value)
        text = str(value) if isinstance(value, int) else f"{value:.3g}"
        if name in ("nll", "accuracy", "worst_accuracy"):
            text = f"{value:.3f}"
        return self._data("trials", [number, name], value, text)


def galleries(results: Results) -> list[tuple[str, list[tuple[str, list[dict[str, Any]]]]]]:
    """Galleries in the order of GALLERIES, each with its rows by set, most confident first."""
    rows = [row for row in results.answers.to_pylist() if row["gallery"]]
    for row in rows:
        row["data"] = base64.b64encode(row["picture"]).decode()
    found = []
    for name in GALLERIES:
        of_gallery = [row for row in rows if row["gallery"] == name]
        by_set = groupby(of_gallery, key=lambda row: row["set"])
        if sets := [(each, sorted(some, key=lambda r: -r["confidence"])) for each, some in by_set]:
            found.append((name, sets))
    return found


def flat_settings(settings: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Settings by dotted name."""
    return [
        (f"{group}.{name}", "" if value is None else str(value))
        for group, values in settings.items()
        for name, value in values.items()
    ]


def rendered(runs: Sequence[Results], plots: Sequence[Mapping[str, Sequence[Shown]]]) -> str:
    """The page: runs side by side, with each one's plots by section (answers, scores, search)."""
    environment = Environment(
        loader=PackageLoader("sign_ensemble.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = [
        {
            "results": results,
            "tree": results.metrics,
            "numbers": Numbers(results),
            "whose": whose_signs(results.metrics["about"]["signers"]),
            "plots": shown,
            "trials": results.trials[:MOST_TRIALS],
            "params": params_of(results.trials),
            "galleries": galleries(results),
            "settings": flat_settings(results.settings),
            "set_aside": [*results.set_aside, *results.metrics["about"]["set_aside"]],
        }
        for results, shown in zip(runs, plots, strict=True)
    ]
    sets = dict.fromkeys(name for results in runs for name in results.metrics["sets"])
    return environment.get_template("page.html").render(
        runs=parts, sets=list(sets), known=KNOWN, scores=BY_NAME, most_files=MOST_FILES
    )

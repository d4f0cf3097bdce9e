"""A run's report: report.html, and its plots as files in figures/."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from markupsafe import Markup, escape

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.report.answer_plots import answer_plots
from sign_ensemble.report.page import Shown, rendered
from sign_ensemble.report.plots import Plot, inline, saved
from sign_ensemble.report.run_results import Results, read_results
from sign_ensemble.report.score_plots import score_plots
from sign_ensemble.report.search_plots import search_plots

SECTIONS: dict[str, Callable[[Results], Iterator[Plot]]] = {
    "answers": answer_plots,
    "scores": score_plots,
    "search": search_plots,
}


def write_report(
    runs: Sequence[RunFolder],
    page: StoragePath,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> None:
    """Write the page of one run or of several side by side, and each run's plots to its figures/.

    ``progress`` is called with (plots drawn, plots).

    Raises:
        UserError: a run was not evaluated, or a file of it cannot be used.
    """
    results = [read_results(run) for run in runs]
    wanted = [{name: list(make(each)) for name, make in SECTIONS.items()} for each in results]
    total = sum(len(plots) for sections in wanted for plots in sections.values())
    done, shown = 0, []
    for run, each, sections in zip(runs, results, wanted, strict=True):
        remove_other_plots(run.figures, {p.name for p in chain.from_iterable(sections.values())})
        drawn: dict[str, list[Shown]] = {}
        for section, plots in sections.items():
            drawn[section] = []
            for plot in plots:
                svg, png = saved(plot, each.name)
                write(run.figures / f"{plot.name}.svg", svg.encode())
                write(run.figures / f"{plot.name}.png", png)
                drawn[section].append(Shown(plot, Markup(inline(svg, str(escape(plot.title))))))
                done += 1
                progress(done, total)
        shown.append(drawn)
    write(page, rendered(results, shown).encode(errors="backslashreplace"))


def remove_other_plots(figures: StoragePath, names: set[str]) -> None:
    """Remove plots of an earlier report that this one does not have."""
    for suffix in ("svg", "png"):
        for file in figures.glob(f"*.{suffix}"):
            if file.name.removesuffix(f".{suffix}") not in names:
                file.unlink()


def write(path: StoragePath, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)

"""What a person sees while it runs: tables in a terminal, one line per event elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sign_ensemble.errors import UserError
from sign_ensemble.memory import end_without_collections, spare_page_faults

if TYPE_CHECKING:  # records come with torch, which --help should not wait for
    from sign_ensemble.search.records import TrialRecord

WIDE = 120  # columns of a table in a file: nothing need be cut off there
OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def say(line: str) -> None:
    """One line for the user; outside a terminal to the letter, tabs included, and at once."""
    if OUT.is_terminal:
        OUT.print(line, markup=False)
    else:
        print(line, flush=True)


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.splitlines()))


def is_interrupt(fault: BaseException | None) -> bool:
    """Whether an interrupt came first: a library's clean-up may fail over it with another fault."""
    while fault is not None and not isinstance(fault, KeyboardInterrupt):
        fault = fault.__cause__ or fault.__context__
    return fault is not None


def exit_with(work: Callable[[], None]) -> None:
    """Run a command: a user's mistake ends in one line and code 2, an interrupt in code 130."""
    spare_page_faults()
    end_without_collections()
    try:
        try:
            work()
            sys.stdout.flush()
        except Exception as fault:
            if is_interrupt(fault):
                raise KeyboardInterrupt from None
            raise
    except UserError as mistake:
        print("error:", one_line(str(mistake)), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: what is done is kept; the same command goes on", file=sys.stderr)
        sys.unraisablehook = lambda _: None  # of what the interrupt left half done at exit
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as fault:
        if fault.errno is None:
            raise
        print(f"error: {fault.filename or 'a file'}: {fault.strerror}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar in a terminal; elsewhere a line at the end, if there was anything to do."""
    began = time.monotonic()
    last = (0, 0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Progress(
        *columns,
        TimeRemainingColumn(),
        console=OUT,
        transient=True,
        disable=not OUT.is_terminal,
    )
    with bars:
        bar = bars.add_task(title, total=None, visible=False)

        def step(done: int, total: int) -> None:
            nonlocal last
            last = (done, total)
            bars.update(bar, completed=done, total=total, visible=True)

        yield step
    if last[1]:
        say(f"{title}: {last[0]} of {last[1]} in {time.monotonic() - began:.1f} s")


class SearchTable:
    """The search as it goes: trials done, running and pruned, the best so far, time left.

    Args:
        trials: How many there will be.
        folds: Folds of a trial.
        ended: Those of an earlier call.
        on_end: Also told of every ended trial.
    """

    def __init__(
        self,
        trials: int,
        folds: int,
        ended: list[TrialRecord],
        on_end: Callable[[TrialRecord], None],
    ) -> None:
        self._trials, self._folds, self._on_end = trials, folds, on_end
        self._ended = {record.number: record for record in ended}
        self._running: dict[int, tuple[int, float]] = {}
        self._began = time.monotonic()
        self._before = len(ended)
        self._live = Live(console=OUT, auto_refresh=False, transient=True)

    def __enter__(self) -> SearchTable:
        if OUT.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *fault: Any) -> None:
        self._live.stop()

    def started(self, number: int) -> None:
        """A trial began."""
        self._running[number] = (0, float("nan"))
        self._show()

    def progressed(self, number: int, folds: int, nll: float) -> None:
        """A trial has ended a fold."""
        self._running[number] = (folds, nll)
        self._show()

    def ended(self, record: TrialRecord) -> None:
        """A trial ended."""
        self._running.pop(record.number, None)
        self._ended[record.number] = record
        if not OUT.is_terminal:
            nll = f"nll {record.nll:.4f}" if record.folds else record.error
            say(
                f"trial {record.number} {record.status} after fold {len(record.folds)} of "
                f"{self._folds}: {nll}; {self.summary()}"
            )
        self._show()
        self._on_end(record)

    def summary(self) -> str:
        """One line: counts, best so far, time left."""
        complete = [r for r in self._ended.values() if r.status == "complete"]
        pruned = sum(r.status == "pruned" for r in self._ended.values())
        best = min(complete, key=lambda r: r.nll, default=None)
        text = (
            f"{len(self._ended)} of {self._trials} done ({pruned} pruned), "
            f"{len(self._running)} running"
        )
        if best is not None:
            text += f", best nll {best.nll:.4f} (trial {best.number})"
        here = len(self._ended) - self._before
        left = self._trials - len(self._ended)
        if here > 0 and left > 0:
            text += f", about {(time.monotonic() - self._began) / here * left / 60:.1f} min left"
        return text

    def _show(self) -> None:
        if not OUT.is_terminal:
            return
        table = Table(title=self.summary())
        for name in ("trial", "state", "folds", "nll", "accuracy", "h1-h2", "dropout", "rate"):
            table.add_column(name, justify="right")
        best = sorted(
            (r for r in self._ended.values() if r.status == "complete"), key=lambda r: r.nll
        )
        for record in best[:8]:
            p = record.params
            table.add_row(
                str(record.number), record.status, str(len(record.folds)), f"{record.nll:.4f}",
                f"{record.mean('accuracy'):.3f}", f"{p['h1']}-{p['h2']}", f"{p['dropout']:.2f}",
                f"{p['learning_rate']:.1e}",
            )  # fmt: skip
        for number, (folds, nll) in sorted(self._running.items()):
            shown = "" if nll != nll else f"{nll:.4f}"
            table.add_row(str(number), "running", f"{folds}", shown, "", "", "", "")
        self._live.update(table, refresh=True)


def percent(figure: dict[str, Any]) -> str:
    """A share with its interval, as in ``98.1 (96.5–99.2)``."""
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{100 * figure['value']:.1f}"
    return f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f}–{100 * figure['high']:.1f})"


def show_metrics(tree: dict[str, Any]) -> None:
    """The summary: a single model against this ensemble, on known signs and on each strange set."""
    known, alone = tree["known"], tree["single"]["known"]
    table = Table(title="signers that the models never saw, per cent (95 % interval)")
    table.add_column("known signs", overflow="fold")
    table.add_column("one model", overflow="fold", justify="right")
    table.add_column("this ensemble", overflow="fold", justify="right")
    for name, text in (
        ("accuracy", "right, if all were answered"),
        ("coverage", "answered"),
        ("sure", "answered, and ≥ 90 % sure"),
        ("error_accepted", "wrong among the answered"),
    ):
        table.add_row(text, percent(alone[name]), percent(known[name]))
    OUT.print(table)
    table = Table(title="images that are no sign of these labels, per cent (95 % interval)")
    table.add_column("set", overflow="fold")
    table.add_column("n", overflow="fold", justify="right")
    table.add_column("one model ≥ 90 % sure", overflow="fold", justify="right")
    table.add_column("accepted", overflow="fold", justify="right")
    table.add_column("AUROC", overflow="fold", justify="right")
    table.add_column("FPR95", overflow="fold", justify="right")
    for name, figures in tree["sets"].items():
        sure = tree["single"]["sets"][name]["overconfident"]
        table.add_row(
            f"{name} ({figures['kind']})", str(figures["n"]), percent(sure),
            percent(figures["accepted"]), percent(figures["auroc"]), percent(figures["fpr95"]),
        )  # fmt: skip
    OUT.print(table)


def show_answers(rows: list[dict[str, Any]]) -> None:
    """A table of answers in a terminal; elsewhere one tab-separated line each."""
    if not OUT.is_terminal:
        for row in rows:
            sure = "" if row["confidence"] is None else f"{row['confidence']:.3f}"
            apart = "" if row["disagreement"] is None else f"{row['disagreement']:.3f}"
            say("\t".join([row["path"], row["answer"], sure, apart, row["why"]]))
        return
    table = Table()
    for name in ("image", "answer", "confidence", "disagreement, nats", "why"):
        table.add_column(name)
    for row in rows:
        sure = "" if row["confidence"] is None else f"{row['confidence']:.3f}"
        apart = "" if row["disagreement"] is None else f"{row['disagreement']:.3f}"
        table.add_row(row["path"], row["answer"], sure, apart, row["why"])
    OUT.print(table)

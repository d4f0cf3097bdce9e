"""Output while a command runs: progress bars in a terminal, one line per event elsewhere.

Names that users give are printed as they are: brackets and colons mean nothing to :data:`OUT`. What
stdout cannot show is escaped, and where it takes nothing more, work goes on in silence.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.printable_text import one_line, printable
from sign_ensemble.core.process_memory import spare_page_faults
from sign_ensemble.core.storage import reason_of

WIDE = 120  # columns of a table in a file
OUT = Console(
    highlight=False,
    markup=False,
    emoji=False,
    soft_wrap=True,
    width=None if sys.stdout and sys.stdout.isatty() else WIDE,
)
_lost: dict[Any, Exception] = {}  # a stdout that takes nothing more, and why


def say(line: str) -> None:
    """Print one line, flushed; tabs stay."""
    text = "\t".join(map(printable, line.split("\t")))
    with _output():
        if OUT.is_terminal:
            OUT.print(text)
        else:
            print(text, flush=True)


def show(table: Table) -> None:
    """Print a table."""
    with _output():
        if OUT.is_terminal:
            OUT.print(table)
        else:
            with OUT.capture() as lines:
                OUT.print(table)
            print(lines.get(), end="", flush=True)


@contextmanager
def _output() -> Iterator[None]:
    """Some output: where stdout has gone or is full, the rest is dropped, see :func:`exit_with`."""
    escape_what_stdout_lacks()
    try:
        yield
    except (OSError, ValueError) as fault:  # ValueError: it was closed
        _lost[sys.stdout] = fault
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def escape_what_stdout_lacks() -> None:
    """Have characters that stdout's encoding lacks escaped, as on stderr, instead of a fault."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def is_interrupt(fault: BaseException | None) -> bool:
    """Whether an exception is or follows an interrupt, over which a library's clean-up may fail."""
    while fault is not None and not isinstance(fault, KeyboardInterrupt):
        fault = fault.__cause__ or fault.__context__
    return fault is not None


def exit_with(work: Callable[[], None]) -> None:
    """Run a command: a UserError ends in one line and code 2, an interrupt in code 130, output that
    is not complete in code 1.
    """
    spare_page_faults()
    escape_what_stdout_lacks()
    try:
        try:
            work()
            with _output():
                print(end="", flush=True)
        except Exception as fault:  # a library may raise its own fault over an interrupt
            if is_interrupt(fault):
                raise KeyboardInterrupt from None
            raise
    except UserError as mistake:
        cause = getattr(mistake, "cause", mistake)  # of a Ray worker's; its text is a traceback
        print("error:", one_line(str(cause)), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: finished work is kept; the same command continues", file=sys.stderr)
        sys.unraisablehook = lambda _: None  # no messages about objects that it left half done
        sys.exit(130)
    except OSError as fault:
        if fault.errno is None:
            raise
        where = fault.filename or f"in {innermost_file(fault)}"
        print(f"error: {one_line(str(where))}: {reason_of(fault)}", file=sys.stderr)
        sys.exit(2)
    if lost := _lost.get(sys.stdout):
        if not isinstance(lost, BrokenPipeError):  # the output's reader has ended, as in `| head`
            print(f"error: stdout: {reason_of(lost)}; all files are written", file=sys.stderr)
        sys.exit(1)


def innermost_file(fault: BaseException) -> str:
    """The code that raised a fault which names no file."""
    trace = fault.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename if trace else "the system"


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar in a terminal; elsewhere a line at the end, unless there was nothing to do."""
    began = time.monotonic()
    last, title = (0, 0), printable(title)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=OUT, transient=True, disable=not OUT.is_terminal
    ) as bars:
        bar = bars.add_task(title, total=None, visible=False)

        def step(done: int, total: int) -> None:
            nonlocal last
            last = (done, total)
            bars.update(bar, completed=done, total=total, visible=True)

        yield step
    if last[1]:
        say(f"{title}: {last[0]} of {last[1]} in {time.monotonic() - began:.1f} s")

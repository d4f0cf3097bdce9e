"""Output while a command runs: progress bars in a terminal, one line per event elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.process_memory import spare_page_faults

WIDE = 120  # columns of a table in a file
OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def say(line: str) -> None:
    """Print one line; outside a terminal unchanged, tabs included, and flushed."""
    if OUT.is_terminal:
        OUT.print(line, markup=False)
    else:
        print(line, flush=True)


def one_line(text: str) -> str:
    """The text without line breaks or control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.splitlines()))


def is_interrupt(fault: BaseException | None) -> bool:
    """Whether an exception is or follows an interrupt, over which a library's clean-up may fail."""
    while fault is not None and not isinstance(fault, KeyboardInterrupt):
        fault = fault.__cause__ or fault.__context__
    return fault is not None


def exit_with(work: Callable[[], None]) -> None:
    """Run a command: a UserError ends in one line and code 2, an interrupt in code 130."""
    spare_page_faults()
    try:
        try:
            work()
            sys.stdout.flush()
        except Exception as fault:  # a library may raise its own fault over an interrupt
            if is_interrupt(fault):
                raise KeyboardInterrupt from None
            raise
    except UserError as mistake:
        print("error:", one_line(str(mistake)), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: finished work is kept; the same command continues", file=sys.stderr)
        sys.unraisablehook = lambda _: None  # no messages about objects that it left half done
        sys.exit(130)
    except BrokenPipeError:  # the output's reader has ended, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as fault:
        if fault.errno is None:
            raise
        print(f"error: {fault.filename or 'a file'}: {fault.strerror}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar in a terminal; elsewhere a line at the end, unless there was nothing to do."""
    began = time.monotonic()
    last = (0, 0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
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

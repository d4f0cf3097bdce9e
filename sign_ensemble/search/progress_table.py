"""Progress of the search: a live table in a terminal, a line per ended trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.live import Live
from rich.table import Table

from sign_ensemble.core.console import OUT, say
from sign_ensemble.search.records import TrialRecord
from sign_ensemble.search.selection import ranked


class SearchTable:
    """Shows trials done, running and pruned, the best so far, and the time left.

    ``ended`` are trials of an earlier call; ``on_end`` is called with every ended trial's record.
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

    def __exit__(self, *error: Any) -> None:
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
        pruned = sum(r.status == "pruned" for r in self._ended.values())
        text = (
            f"{len(self._ended)} of {self._trials} done ({pruned} pruned), "
            f"{len(self._running)} running"
        )
        if complete := ranked([*self._ended.values()]):
            text += f", best nll {complete[0].nll:.4f} (trial {complete[0].number})"
        done, left = len(self._ended) - self._before, self._trials - len(self._ended)
        if done > 0 and left > 0:
            text += f", about {(time.monotonic() - self._began) / done * left / 60:.1f} min left"
        return text

    def _show(self) -> None:
        if not OUT.is_terminal:
            return
        table = Table(title=self.summary())
        for name in ("trial", "state", "folds", "nll", "accuracy", "h1-h2", "dropout", "rate"):
            table.add_column(name, justify="right")
        for record in ranked([*self._ended.values()])[:8]:
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

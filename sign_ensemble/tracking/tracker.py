"""The tracker: has W&B runs logged, and turns every fault of W&B into one line.

A thread of its own calls wandb, so that the caller's work goes on; its messages are shown by the
caller's thread, which owns the terminal.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from sign_ensemble.core.config import WandbConfig
from sign_ensemble.core.console import is_interrupt, say
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath, local_folder_for
from sign_ensemble.tracking.wandb_runs import WandbRuns
from sign_ensemble.tracking.wandb_server import has_key, kill_service, probe_server, stricter
from sign_ensemble.tracking.worker_thread import WorkerThread

if TYPE_CHECKING:
    from sign_ensemble.search.records import TrialRecord

QUIET_SECONDS = 5.0  # waiting at the end before a line about it is shown
HURRY_SECONDS = 5.0  # waiting after an interrupt: a dozen trials' worth, if the server answers


class Tracker:
    """Logs ended trials, single settings and the evaluation of one run folder.

    Of ``wandb.mode``, the environment's WANDB_MODE and what `wandb offline` has set, the one that
    sends less holds, with a line about it where it is not ``wandb.mode``. Online
    becomes offline when wandb finds no key (WANDB_API_KEY, netrc, its settings; there is no prompt)
    or the server does not accept it within WANDB_HTTP_TIMEOUT (10 s), and at the first fault; the
    first fault of an offline tracker disables it. Each is one line for the user, shown by the next
    call. Nothing here raises, and only :meth:`close` waits. The run's folder (of a run on an object
    store, one in TMPDIR) gets wandb's files, its name becomes the group.
    """

    def __init__(self, config: WandbConfig, run: RunFolder, say: Callable[[str], None]) -> None:
        environment = os.environ.get("WANDB_MODE")
        self.mode = stricter(config.mode, environment)
        if self.mode != config.mode:
            say(
                f"W&B: {self.mode}, since WANDB_MODE is {environment} (wandb.mode is {config.mode})"
            )
        if environment == "":  # wandb itself would refuse it
            del os.environ["WANDB_MODE"]
        self._config = config
        self._run = run
        self._say = say
        self._messages: SimpleQueue[str] = SimpleQueue()
        self._thread = WorkerThread(self._stop)
        self._used = False
        if self.mode == "disabled":
            return
        try:
            # wandb sends crash reports even offline; they stay off unless the user turns them on.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            # Here, not in the thread: of two threads that import at once, one may get half a module
            import wandb  # noqa: F401
        except Exception as fault:  # any: tracking is a convenience, the run is not
            self._stop(fault)
            self._show_messages()
        else:
            self._used = True
            self._thread.do(self._connect)

    def trial(self, record: TrialRecord, fold_names: Sequence[str]) -> None:
        """Log an ended trial: a row per fold, its parameters, its summary.

        Logging a trial again, after a resume, goes to the same W&B run.
        """
        self._begin(WandbRuns.trial, record, fold_names)

    def setting(self, params: dict[str, Any], record: TrialRecord) -> None:
        """Log a single training; in a sweep (WANDB_SWEEP_ID) into the run that the agent opened.

        The summary's ``nll`` is the sweep's metric.
        """
        self._begin(WandbRuns.setting, params, record)

    def evaluation(
        self, config: dict[str, Any], metrics: dict[str, Any], paths: Sequence[StoragePath]
    ) -> None:
        """Log the finished ensemble: figures, tables, plots, and its files as an artifact.

        Files above 1 GB together are left out, with a line about it.
        """
        self._begin(WandbRuns.evaluation, config, metrics, paths)

    def close(self, interrupted: bool = False) -> None:
        """Wait until all is logged and wandb's process has ended; later calls do nothing.

        An interrupt ends the wait; what is not logged by then is left out. After an earlier
        interrupt of the command, the wait is HURRY_SECONDS at most.
        """
        used, self._used = self._used, False
        try:
            if used:
                self._thread.do(self._end_service)
                self._thread.end()
                if interrupted:
                    self._thread.has_ended(HURRY_SECONDS)
                else:
                    self._wait()
        finally:
            self.mode = "disabled"  # before what follows: the thread begins nothing new
            if used and not self._thread.has_ended(0):
                self._abandon()
            self._show_messages()

    def _abandon(self) -> None:
        """Drop what is not logged, and give wandb's process a second to end."""
        if left := self._thread.drop() - 1:  # the last task is the process's end
            self._messages.put(f"W&B: interrupted; {left} runs are not logged, or not completely")
        import wandb

        if wandb.run is None:
            killer = threading.Timer(1.0, kill_service)
            killer.daemon = True
            killer.start()
            self._end_service()
            killer.cancel()

    def _wait(self) -> None:
        """Wait until all is logged; show a line about it at doubling intervals."""
        began, quiet = time.monotonic(), QUIET_SECONDS
        while not self._thread.has_ended(quiet):
            self._say(f"still logging to W&B, {time.monotonic() - began:.0f} s; Ctrl-C ends it")
            quiet *= 2

    def _begin(self, log: Callable[..., str], *content: Any) -> None:
        """Queue a copy of something to be logged, unless tracking is off."""
        self._show_messages()
        if self.mode != "disabled":
            kept = deepcopy(content)
            self._thread.do(lambda: self._attempt(log, *kept))

    def _show_messages(self) -> None:
        while not self._messages.empty():
            self._say(self._messages.get())

    def _connect(self) -> None:
        """Settle the mode."""
        import wandb

        settings = wandb.setup(wandb.Settings(silent=True)).settings
        mode = stricter(self.mode, settings.mode)  # `wandb offline` writes a settings file
        if mode == "disabled":
            self._messages.put(
                "W&B: disabled, as `wandb disabled` has set; `wandb online` undoes it"
            )
        elif mode != self.mode:
            self._go_offline("as `wandb offline` has set; `wandb online` undoes it")
        self.mode = mode
        if self.mode != "online":
            return
        try:
            if has_key(settings):
                probe_server(settings.base_url)
            if not wandb.login(prompt=False, verify=True):
                self._go_offline("no key, see `wandb login`")
        except (wandb.Error, OSError):
            self._go_offline(f"{settings.base_url} does not answer or does not accept the key")

    def _end_service(self) -> None:
        """End wandb's process, unless a W&B run that the caller has open needs it."""
        # wandb raises, or even exits, if its process had failed before.
        with suppress(Exception, SystemExit):
            import wandb

            if wandb.run is None:
                wandb.teardown()

    def _attempt(self, log: Callable[..., str], *content: Any) -> None:
        """Log; if that fails online, log offline."""
        if self.mode == "disabled":
            return
        try:
            line = log(WandbRuns(self._config, self._run, self.mode), *content)
        except Exception as fault:  # any: a lost server shows itself in many types
            if self.mode != "online":
                raise
            self._go_offline(first_line(fault))
            # A new process of wandb: the old one holds the failed run's id as being in use.
            self._end_service()
            import wandb

            wandb.setup(wandb.Settings(silent=True))
            line = log(WandbRuns(self._config, self._run, self.mode), *content)
        if line:
            self._messages.put(line)

    def _go_offline(self, reason: str) -> None:
        self.mode = "offline"
        self._messages.put(f"W&B: logging offline ({reason}); {how_to_upload(self._run)}")

    def _stop(self, fault: BaseException) -> None:
        """Disable tracking; the run goes on."""
        if self.mode != "disabled":
            self._messages.put(f"W&B: logging stopped ({first_line(fault)})")
        self.mode = "disabled"


def how_to_upload(run: RunFolder) -> str:
    """Where the files of offline runs lie, as the command that uploads them."""
    folder = shlex.quote(str(local_folder_for(run.path)))
    return f"to upload later: wandb sync {folder}/wandb/offline-run-*"


@contextmanager
def tracked(config: WandbConfig, run: RunFolder) -> Iterator[Tracker]:
    """The run's tracker, which tells the user what it does, closed at the end.

    Raises:
        UserError: WANDB_MODE is no mode.
    """
    tracker = Tracker(config, run, say)
    if tracker.mode == "offline":
        say(f"W&B: logging offline; {how_to_upload(run)}")
    try:
        yield tracker
    finally:
        tracker.close(interrupted=is_interrupt(sys.exception()))


def first_line(fault: BaseException) -> str:
    """A fault's type and the beginning of its message."""
    lines = str(fault).splitlines() or [""]
    return f"{type(fault).__name__}: {lines[0][:200]}".rstrip(": ")

"""The tracker: has W&B runs logged, and turns every fault of W&B into one line.

wandb's calls are made by a thread of their own, so that the caller's work goes on meanwhile; what
that thread has to say is left for the caller's, which owns the terminal.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from sign_ensemble.core.config import WandbConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath, local_folder_for
from sign_ensemble.tracking.wandb_runs import WandbRuns
from sign_ensemble.tracking.wandb_server import has_key, kill_service, probe_server, stricter
from sign_ensemble.tracking.worker_thread import WorkerThread

if TYPE_CHECKING:
    from sign_ensemble.search.records import TrialRecord

QUIET_SECONDS = 5.0  # of waiting at the end, until that is said
HURRY_SECONDS = 5.0  # what an interrupt leaves: a dozen trials' worth, if the server answers


def open_tracker(wandb: WandbConfig, run: RunFolder, say: Callable[[str], None]) -> Tracker:
    """The tracker of one run folder.

    ``wandb.mode`` and the environment's WANDB_MODE: the one that sends less holds. Online becomes
    offline, said once, when wandb finds no key (WANDB_API_KEY, netrc, its settings; nobody is
    asked) or the server does not take it within WANDB_HTTP_TIMEOUT (10 s). Never raises, and does
    not wait for the server.

    Args:
        wandb: Mode, project and entity.
        run: Its folder gets wandb's files (of a run on an object store, one in TMPDIR), its name
            becomes the group.
        say: Shows one line to the user.
    """
    tracker = Tracker(wandb, run, say)
    tracker.connect()
    return tracker


class Tracker:
    """Logs ended trials, single settings and the evaluation; get one from :func:`open_tracker`.

    Nothing here raises, and only :meth:`close` waits. The first fault of an online tracker makes it
    an offline one, the first of an offline one makes it silent; each is said in one line, by the
    next call.
    """

    def __init__(self, config: WandbConfig, run: RunFolder, say: Callable[[str], None]) -> None:
        self.mode = stricter(config.mode, os.environ.get("WANDB_MODE"))
        self._config = config
        self._run = run
        self._say = say
        self._unsaid: SimpleQueue[str] = SimpleQueue()
        self._background = WorkerThread(self._stop)
        self._used = False

    def connect(self) -> None:
        """Load wandb, and begin to settle the mode."""
        if self.mode == "disabled":
            return
        try:
            # wandb's crash reports go out even offline; they stay off unless someone asks for them.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            # Here: of two threads that import at once, one may be handed half a module.
            import wandb  # noqa: F401
        except Exception as fault:  # any: tracking is a convenience, the run is not
            self._stop(fault)
            self._tell()
        else:
            self._used = True
            self._background.do(self._connect)

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
        self, config: dict[str, Any], metrics: dict[str, Any], artifacts: Sequence[StoragePath]
    ) -> None:
        """Log the finished ensemble: figures, the table of sets, and the files as an artifact.

        Args:
            config: All settings of the run.
            metrics: What metrics.json holds.
            artifacts: Files and folders of the ensemble; left out, and said, above 1 GB together.
        """
        self._begin(WandbRuns.evaluation, config, metrics, artifacts)

    def close(self, interrupted: bool = False) -> None:
        """Wait until all is logged and wandb's process has ended; later calls do nothing.

        An interrupt while it waits ends it; what is left is left out.

        Args:
            interrupted: One came before: wait a few seconds only.
        """
        used, self._used = self._used, False
        try:
            if used:
                self._background.do(self._end_service)
                self._background.end()
                if interrupted:
                    self._background.has_ended(HURRY_SECONDS)
                else:
                    self._wait()
        finally:
            self.mode = "disabled"  # before what follows: the thread begins nothing anew
            if used and not self._background.has_ended(0):
                self._leave_off()
            self._tell()

    def _leave_off(self) -> None:
        """Log no further, and give wandb's process a second."""
        if left := self._background.drop() - 1:  # the last piece is the process's end
            self._unsaid.put(f"W&B: interrupted; {left} runs are not logged, or not wholly")
        import wandb

        if wandb.run is None:
            killer = threading.Timer(1.0, kill_service)
            killer.daemon = True
            killer.start()
            self._end_service()
            killer.cancel()

    def _wait(self) -> None:
        """Until all is logged; where it takes long it says so, less and less often."""
        began, quiet = time.monotonic(), QUIET_SECONDS
        while not self._background.has_ended(quiet):
            self._say(f"still logging to W&B, {time.monotonic() - began:.0f} s; Ctrl-C ends it")
            quiet *= 2

    def _begin(self, log: Callable[..., str], *about: Any) -> None:
        """Have something logged, as it is now, if anything still is."""
        self._tell()
        if self.mode != "disabled":
            kept = deepcopy(about)
            self._background.do(lambda: self._attempt(log, *kept))

    def _tell(self) -> None:
        """Say what the thread has left to say."""
        while not self._unsaid.empty():
            self._say(self._unsaid.get())

    def _connect(self) -> None:
        """Settle the mode."""
        import wandb

        found = wandb.setup(wandb.Settings(silent=True)).settings
        self.mode = stricter(self.mode, found.mode)  # `wandb offline` writes a settings file
        if self.mode != "online":
            return
        try:
            if has_key(found):
                probe_server(found.base_url)
            if not wandb.login(prompt=False, verify=True):
                self._go_offline("no key, see `wandb login`")
        except (wandb.Error, OSError):
            self._go_offline(f"{found.base_url} does not answer or does not take the key")

    def _restart(self) -> None:
        """A new process of wandb: the old one holds the failed run's id as being in use."""
        self._end_service()
        import wandb

        wandb.setup(wandb.Settings(silent=True))

    def _end_service(self) -> None:
        """End wandb's process, unless a W&B run that the caller has open needs it."""
        # wandb raises, or even ends the interpreter, if its process had failed before.
        with suppress(Exception, SystemExit):
            import wandb

            if wandb.run is None:
                wandb.teardown()

    def _attempt(self, log: Callable[..., str], *about: Any) -> None:
        """Log; if that fails online, log offline."""
        if self.mode == "disabled":
            return
        try:
            line = log(WandbRuns(self._config, self._run, self.mode), *about)
        except Exception as fault:  # any: a lost server shows itself in many types
            if self.mode != "online":
                raise
            self._go_offline(first_line(fault))
            self._restart()
            line = log(WandbRuns(self._config, self._run, self.mode), *about)
        if line:
            self._unsaid.put(line)

    def _go_offline(self, reason: str) -> None:
        self.mode = "offline"
        folders = f"{shlex.quote(str(local_folder_for(self._run.path)))}/wandb/offline-run-*"
        self._unsaid.put(f"W&B: logging offline ({reason}); to upload later: wandb sync {folders}")

    def _stop(self, fault: BaseException) -> None:
        """Fall silent: tracking is a convenience, the run is not."""
        if self.mode != "disabled":
            self._unsaid.put(f"W&B: logging stopped ({first_line(fault)})")
        self.mode = "disabled"


def first_line(fault: BaseException) -> str:
    """A fault's type and the beginning of its message."""
    lines = str(fault).splitlines() or [""]
    return f"{type(fault).__name__}: {lines[0][:200]}".rstrip(": ")

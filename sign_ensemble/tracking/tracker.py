"""The tracker: opens W&B runs, logs into them, and turns every fault of W&B into one line."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from sign_ensemble.config import WandbConfig
from sign_ensemble.logged import described, flat, trial_figures
from sign_ensemble.run import RunFolder, whole
from sign_ensemble.storage import Place, beside
from sign_ensemble.tracking import files
from sign_ensemble.tracking.tables import plots, tables

if TYPE_CHECKING:
    from wandb import Run, Settings

    from sign_ensemble.search.records import TrialRecord

MODES = ("online", "offline", "disabled")  # from the most to the least that is sent
KNOCK_SECONDS = 5.0
INIT_SECONDS = 15.0  # a server that answers at all does so within a second or two
FINISH_SECONDS = {"evaluate": 600.0}  # enough for the ensemble's weights over a slow line
FINISH_SECONDS_ELSE = 60.0  # a trial is a few kB


def stricter(configured: str, asked: str | None) -> str:
    """The one of two modes that sends less; ``asked`` is WANDB_MODE's word, None when unset."""
    asked = {"dryrun": "offline"}.get(asked or "", asked)
    return max(configured, asked if asked in MODES else "online", key=MODES.index)


def open_tracker(wandb: WandbConfig, run: RunFolder, say: Callable[[str], None]) -> Tracker:
    """The tracker of one run folder.

    ``wandb.mode`` and the environment's WANDB_MODE: the one that sends less holds. Online becomes
    offline, said once, when wandb finds no key (WANDB_API_KEY, netrc, its settings; nobody is
    asked) or the server does not take it within WANDB_HTTP_TIMEOUT (10 s). Never raises.

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

    Nothing here raises. The first fault of an online tracker makes it an offline one, the first of
    an offline one makes it silent; each is said in one line.
    """

    def __init__(self, config: WandbConfig, run: RunFolder, say: Callable[[str], None]) -> None:
        self.mode = stricter(config.mode, os.environ.get("WANDB_MODE"))
        self._config = config
        self._run = run
        self._say = say
        self._used = False

    def connect(self) -> None:
        """Load wandb and settle the mode."""
        if self.mode == "disabled":
            return
        try:
            # wandb's crash reports go out even offline; they stay off unless someone asks for them.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            import wandb

            self._used = True
            found = wandb.setup(wandb.Settings(silent=True)).settings
            self.mode = stricter(self.mode, found.mode)  # `wandb offline` writes a settings file
            if self.mode != "online":
                return
            try:
                if has_key(found):
                    knock(found.base_url)
                if not wandb.login(prompt=False, verify=True):
                    self._go_offline("no key, see `wandb login`")
            except (wandb.Error, OSError):
                self._go_offline(f"{found.base_url} does not answer or does not take the key")
        except Exception as fault:  # any: tracking is a convenience, the run is not
            self._stop(fault)

    def trial(self, record: TrialRecord, fold_names: Sequence[str]) -> None:
        """Log an ended trial: a row per fold, its parameters, its summary.

        Logging a trial again, after a resume, goes to the same W&B run.
        """
        self._attempt(lambda: self._log_trial(record, fold_names))

    def setting(self, params: dict[str, Any], record: TrialRecord) -> None:
        """Log a single training; in a sweep (WANDB_SWEEP_ID) into the run that the agent opened.

        The summary's ``nll`` is the sweep's metric.
        """
        self._attempt(lambda: self._log_setting(params, record))

    def evaluation(
        self, config: dict[str, Any], metrics: dict[str, Any], artifacts: Sequence[Place]
    ) -> None:
        """Log the finished ensemble: figures, the table of sets, and the files as an artifact.

        Args:
            config: All settings of the run.
            metrics: What metrics.json holds.
            artifacts: Files and folders of the ensemble; left out, and said, above 1 GB together.
        """
        self._attempt(lambda: self._log_evaluation(config, metrics, artifacts))

    def close(self) -> None:
        """Log nothing more, and end wandb's service process."""
        self.mode = "disabled"
        if not self._used:
            return
        self._used = False
        self._end_service()

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

    def _log_trial(self, record: TrialRecord, fold_names: Sequence[str]) -> None:
        name = f"trial {record.number}: {described(record.params)}"
        config = {**record.params, "number": record.number, "status": record.status}
        self._log_folds("trial", f"t{record.number}", name, config, record, fold_names)

    def _log_setting(self, params: dict[str, Any], record: TrialRecord) -> None:
        digest = hashlib.sha256(json.dumps(params, sort_keys=True, default=str).encode())
        key = "" if "WANDB_SWEEP_ID" in os.environ else f"s{digest.hexdigest()[:8]}"
        config = {**params, "status": record.status}
        names = [str(fold["fold"]) for fold in record.folds]
        self._log_folds("train", key, described(params), config, record, names)

    def _log_folds(
        self,
        job_type: str,
        key: str,
        name: str,
        config: dict[str, Any],
        record: TrialRecord,
        fold_names: Sequence[str],
    ) -> None:
        exit_code = 1 if record.status == "failed" else 0
        with self._open(job_type, key, name, config, exit_code) as run:
            rows = zip(record.folds, fold_names, record.running_nll, strict=False)
            for step, (fold, fold_name, running_nll) in enumerate(rows):
                row = {figure: fold[figure] for figure in ("nll", "accuracy", "ece")}
                row |= {"fold": fold_name, "running_nll": running_nll}
                # With its step given, a row that an earlier call has logged is ignored by wandb;
                # committed at once, the last row cannot overwrite the summary's means.
                run.log(row, step=step, commit=True)
            run.summary.update(trial_figures(record))
            if record_file := files.trial_artifact(self._run, record.number):
                run.log_artifact(record_file)

    def _log_evaluation(
        self, config: dict[str, Any], metrics: dict[str, Any], artifacts: Sequence[Place]
    ) -> None:
        with self._open("evaluate", "evaluate", "evaluation", config) as run:
            run.summary.update(flat(metrics))
            run.log({**tables(self._run, metrics), **plots(self._run, metrics)})
            for source in files.sources(self._run):
                files.use(run, source)
            paths = [files.here(self._run, place) for place in artifacts]
            size = files.size_of(paths)
            if size > files.ARTIFACT_BYTES:
                self._say(f"W&B: the ensemble has {size / 1e9:.1f} GB, its files are not logged")
            elif paths:
                run.log_artifact(files.ensemble(self._run, paths))

    @contextmanager
    def _open(
        self, job_type: str, key: str, name: str, config: dict[str, Any], exit_code: int = 0
    ) -> Iterator[Run]:
        """One W&B run, finished when the block ends; an empty key leaves the id to the agent."""
        import wandb

        run_id = f"{self._token()}-{key}" if key else None
        before = self._unsynced(run_id) if run_id and self.mode == "offline" else []
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS.get(job_type, FINISH_SECONDS_ELSE),
            finish_timeout_raises=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        if run_id:
            settings.project, settings.entity = self._config.project, self._config.entity
            settings.run_id, settings.resume = run_id, "allow"
        run = wandb.init(
            dir=str(beside(self._run.path)),
            mode="online" if self.mode == "online" else "offline",
            group=self._run.path.name[:128],
            job_type=job_type,
            name=name,
            config=config,
            reinit="create_new",  # a W&B run that the caller has open is none of our business
            settings=settings,
        )
        try:
            yield run
        finally:
            run.finish(exit_code=exit_code)
        for folder in before:
            shutil.rmtree(folder)

    def _token(self) -> str:
        """What makes ids this folder's own: kept in it, so it survives a move or another mount."""
        path = self._run.path / "wandb" / "token"
        if not path.is_file():
            with whole(path) as file:
                file.write_text(secrets.token_hex(4))
        return path.read_text()

    def _unsynced(self, run_id: str) -> list[Path]:
        """Offline folders of a run that is about to be logged again; syncing one will do."""
        files = (beside(self._run.path) / "wandb").glob(f"offline-run-*/run-{run_id}.wandb")
        return [file.parent for file in files if not any(file.parent.glob("*.synced"))]

    def _attempt(self, log: Callable[[], None]) -> None:
        """Log; if that fails online, log offline; if that fails too, fall silent."""
        if self.mode == "disabled":
            return
        try:
            try:
                log()
            except Exception as fault:  # any: a lost server shows itself in many types
                if self.mode != "online":
                    raise
                self._go_offline(first_line(fault))
                self._restart()
                log()
        except Exception as fault:  # any: tracking is a convenience, the run is not
            self._stop(fault)

    def _go_offline(self, reason: str) -> None:
        self.mode = "offline"
        folders = f"{shlex.quote(str(beside(self._run.path)))}/wandb/offline-run-*"
        self._say(f"W&B: logging offline ({reason}); to upload later: wandb sync {folders}")

    def _stop(self, fault: BaseException) -> None:
        self.mode = "disabled"
        self._say(f"W&B: logging stopped ({first_line(fault)})")


def has_key(found: Settings) -> bool:
    """Whether wandb will find a key, so that it will ask its server."""
    if found.api_key or found.identity_token_file:
        return True
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc").expanduser()
    with suppress(OSError, NetrcParseError):
        return netrc(file).authenticators(urlsplit(found.base_url).hostname or "") is not None
    return False


def knock(address: str) -> None:
    """Ask a server's port whether anyone listens: wandb itself asks a closed one for ten seconds.

    Where the way leads through a proxy, nothing is asked.

    Raises:
        OSError: nobody does.
    """
    to = urlsplit(address)
    host = to.hostname or ""
    if to.scheme in getproxies() and not proxy_bypass(host):
        return
    port = to.port or (443 if to.scheme == "https" else 80)
    socket.create_connection((host, port), KNOCK_SECONDS).close()


def first_line(fault: BaseException) -> str:
    """A fault's type and the beginning of its message."""
    lines = str(fault).splitlines() or [""]
    return f"{type(fault).__name__}: {lines[0][:200]}".rstrip(": ")

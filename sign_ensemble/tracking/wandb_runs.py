"""W&B's runs of one run folder: what is logged into each, under which name and id."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.config import WandbConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath, local_folder_for
from sign_ensemble.tracking import artifacts
from sign_ensemble.tracking.wandb_tables import plots, tables

if TYPE_CHECKING:
    from wandb import Run

    from sign_ensemble.search.records import TrialRecord

INIT_SECONDS = 15.0  # a server that answers at all does so within a second or two
EVALUATION_SECONDS = 600.0  # enough for the ensemble's weights over a slow line
TRIAL_SECONDS = 60.0  # a trial is a few kB
FOLD_FIGURES = ("nll", "accuracy", "ece")  # logged of each fold, and their means


@dataclass(frozen=True)
class WandbRuns:
    """Each method opens a W&B run, logs and ends it; raises whatever wandb does.

    The string that a method returns is a line for the user, mostly empty.
    """

    config: WandbConfig  # project and entity
    run: RunFolder  # its folder gets wandb's files, its name becomes the group
    mode: str  # online or offline

    def trial(self, record: TrialRecord, fold_names: Sequence[str]) -> str:
        """An ended trial."""
        name = f"trial {record.number}: {described(record.params)}"
        about = {"number": record.number, "kind": record.kind, "status": record.status}
        config = {**record.params, **about}
        return self._folds("trial", f"t{record.number}", name, config, record, fold_names)

    def setting(self, params: dict[str, Any], record: TrialRecord) -> str:
        """A single training; in a sweep it is the agent's own run."""
        digest = hashlib.sha256(json.dumps(params, sort_keys=True, default=str).encode())
        key = "" if "WANDB_SWEEP_ID" in os.environ else f"s{digest.hexdigest()[:8]}"
        config = {**params, "status": record.status}
        names = [str(fold["fold"]) for fold in record.folds]
        return self._folds("train", key, described(params), config, record, names)

    def evaluation(
        self, config: dict[str, Any], metrics: dict[str, Any], paths: Sequence[StoragePath]
    ) -> str:
        """The finished ensemble."""
        with self._open("evaluate", "evaluate", "evaluation", config) as run:
            run.summary.update(flat(metrics))
            with TemporaryDirectory(prefix="sign_ensemble-") as folder:  # wandb copies what it logs
                found = tables(self.run, metrics, Path(folder))
                run.log({**found, **plots(self.run, metrics, Path(folder))})
            for source in artifacts.sources(self.run):
                artifacts.use(run, source)
            files = [artifacts.local_path(self.run, path) for path in paths]
            size = artifacts.size_of(files)
            if size > artifacts.MAX_BYTES:
                return f"W&B: the ensemble has {size / 1e9:.1f} GB, its files are not logged"
            if files:
                run.log_artifact(artifacts.ensemble(self.run, files))
        return ""

    def _folds(
        self,
        job_type: str,
        key: str,
        name: str,
        config: dict[str, Any],
        record: TrialRecord,
        fold_names: Sequence[str],
    ) -> str:
        exit_code = 1 if record.status == "failed" else 0
        with self._open(job_type, key, name, config, exit_code) as run:
            rows = zip(record.folds, fold_names, record.running_nll, strict=False)
            for step, (fold, fold_name, running_nll) in enumerate(rows):
                row = {figure: fold[figure] for figure in FOLD_FIGURES}
                row |= {"fold": fold_name, "running_nll": running_nll}
                # With its step given, wandb ignores a row that an earlier call has logged;
                # committed at once, the last row cannot overwrite the summary's means.
                run.log(row, step=step, commit=True)
            run.summary.update(trial_figures(record))
            if record_file := artifacts.trial_artifact(self.run, record.number):
                run.log_artifact(record_file)
        return ""

    @contextmanager
    def _open(
        self, job_type: str, key: str, name: str, config: dict[str, Any], exit_code: int = 0
    ) -> Iterator[Run]:
        """One W&B run, finished when the block ends; an empty key leaves the id to the agent."""
        import wandb

        folder = local_folder_for(self.run.path)
        run_id = f"{self._token()}-{key}" if key else None
        unsynced: list[Path] = []  # offline folders of the same run: this one takes their place
        if run_id and self.mode == "offline":
            files = (folder / "wandb").glob(f"offline-run-*/run-{run_id}.wandb")
            unsynced = [f.parent for f in files if not any(f.parent.glob("*.synced"))]
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=EVALUATION_SECONDS if job_type == "evaluate" else TRIAL_SECONDS,
            finish_timeout_raises=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        if run_id:
            settings.project, settings.entity = self.config.project, self.config.entity
            settings.run_id, settings.resume = run_id, "allow"
        run = wandb.init(
            dir=str(folder),
            mode="online" if self.mode == "online" else "offline",
            group=self.run.path.name[:128],
            job_type=job_type,
            name=name,
            config=config,
            reinit="create_new",  # leaves a W&B run that the caller has open alone
            settings=settings,
        )
        try:
            yield run
        finally:
            run.finish(exit_code=exit_code)
        for earlier in unsynced:
            shutil.rmtree(earlier)

    def _token(self) -> str:
        """Makes ids the folder's own; kept in it, so that it survives a move or another mount."""
        path = self.run.path / "wandb" / "token"
        if not path.is_file():
            with atomic_write(path) as file:
                file.write_text(secrets.token_hex(4))
        return path.read_text()


def described(params: Mapping[str, Any]) -> str:
    """Hyperparameters in one line: ``dropout .41 lr 2e-4 1024-256``."""
    parts = []
    if "dropout" in params:
        parts.append(f"dropout {params['dropout']:.2f}".replace(" 0.", " ."))
    if "learning_rate" in params:
        parts.append(f"lr {params['learning_rate']:.0e}".replace("e-0", "e-"))
    widths = params.get("widths") or [params[key] for key in ("h1", "h2") if key in params]
    return " ".join([*parts, "-".join(str(width) for width in widths)]).strip()


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures under dotted names.

    A figure with an interval, ``{"known": {"accuracy": {"value": v, "low": l, "high": h}}}``,
    becomes ``known.accuracy``, ``known.accuracy.low`` and ``known.accuracy.high``; numbers, strings
    and booleans keep their value; lists and nulls are left out.
    """
    figures: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        if isinstance(value, dict) and "value" in value:
            ends = {f"{key}.{end}": value.get(end) for end in ("low", "high")}
            figures |= {k: v for k, v in {key: value["value"], **ends}.items() if v is not None}
        elif isinstance(value, dict):
            figures |= flat(value, f"{key}.")
        elif isinstance(value, bool | int | float | str):
            figures[key] = value
    return figures


def trial_figures(record: TrialRecord) -> dict[str, Any]:
    """A trial's summary; without a single fold it holds only status, seconds and error."""
    figures: dict[str, Any] = {
        "status": record.status,
        "seconds": sum(fold["seconds"] for fold in record.folds),
    }
    if record.folds:
        figures |= {name: record.mean(name) for name in FOLD_FIGURES}
        figures["worst_accuracy"] = min(fold["accuracy"] for fold in record.folds)
    if record.error:
        figures["error"] = record.error
    return figures

"""The run folder: names, atomic writes, reading back.

runs/<name>/  config.yaml  manifest.parquet  negatives.safetensors  trials/  trials.parquet
              study.journal  heads/  train/  judges/  members/  left-out/  rule.json
              rule.safetensors  answers.parquet  metrics.json  timings.json  report.html
              figures/
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from sign_ensemble.core.atomic_files import (
    atomic_write,
)
from sign_ensemble.core.config import Config
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StorageError, StoragePath, storage_path

# Settings that change how fast or where, never what comes out.
FREE = {
    "data.cache",
    "data.engine",
    "search.concurrent",
    "search.time_budget",
    "search.max_failures",
    "run.root",
    "run.storage",
    "run.name",
}
FREE_GROUPS = {"wandb", "evaluate", "scale"}


@dataclass(frozen=True)
class RunFolder:
    """Where each result of one run lies."""

    path: StoragePath

    @property
    def config(self) -> StoragePath:
        """The settings that made this run."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> StoragePath:
        """A row per image."""
        return self.path / "manifest.parquet"

    @property
    def negatives(self) -> StoragePath:
        """Features of the self-made negatives."""
        return self.path / "negatives.safetensors"

    @property
    def hands(self) -> StoragePath:
        """Features of the pictures with one sign and with two that are made of training signs."""
        return self.path / "hands.safetensors"

    @property
    def trials(self) -> StoragePath:
        """Folder with one folder per trial."""
        return self.path / "trials"

    @property
    def trials_table(self) -> StoragePath:
        """A row per finished trial; written when the search has ended."""
        return self.path / "trials.parquet"

    @property
    def study(self) -> StoragePath:
        """The Optuna study, for optuna-dashboard."""
        return self.path / "study.journal"

    @property
    def members(self) -> StoragePath:
        """Folder of members with their index.json."""
        return self.path / "members"

    @property
    def heads(self) -> StoragePath:
        """Folder of the heads that fine-tuning begins with."""
        return self.path / "heads"

    @property
    def judges(self) -> StoragePath:
        """Folder of fine-tuned networks that only judge the fold they have not seen."""
        return self.path / "judges"

    @property
    def checkpoints(self) -> StoragePath:
        """Ray Train's folder, with the checkpoints of trainings under way."""
        return self.path / "train"

    @property
    def unseen(self) -> StoragePath:
        """What fine-tuned networks say of the training images whose signer they never saw."""
        return self.path / "members" / "unseen.safetensors"

    @property
    def rule(self) -> StoragePath:
        """The rejection rule; its numbers lie in rule.safetensors beside it."""
        return self.path / "rule.json"

    def left_out(self, part: int) -> StoragePath:
        """What networks said that had not seen some labels."""
        return self.path / "left-out" / f"{part}.safetensors"

    @property
    def metrics(self) -> StoragePath:
        """The evaluation."""
        return self.path / "metrics.json"

    @property
    def timings(self) -> StoragePath:
        """Seconds that each stage took."""
        return self.path / "timings.json"

    @property
    def answers(self) -> StoragePath:
        """A row per image that the evaluation asked about."""
        return self.path / "answers.parquet"

    @property
    def report(self) -> StoragePath:
        """The page to look at."""
        return self.path / "report.html"

    @property
    def figures(self) -> StoragePath:
        """Folder of the report's plots, as SVG and PNG."""
        return self.path / "figures"

    def trial(self, number: int) -> StoragePath:
        """Folder of one trial."""
        return self.trials / f"{number:04d}"


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that decide the result, by dotted name."""
    flat = {}
    for group, settings in asdict(config).items():
        if group in FREE_GROUPS:
            continue
        for key, value in settings.items():
            if f"{group}.{key}" not in FREE:
                flat[f"{group}.{key}"] = json.loads(json.dumps(value))
    return flat


def default_name(config: Config) -> str:
    """A run name that the same data and settings give again."""
    source = config.data.root or config.data.table or "run"
    settings = json.dumps(settings_of(config), sort_keys=True)
    return f"{Path(source).resolve().stem}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def root_of(config: Config) -> StoragePath:
    """Where all runs lie."""
    return storage_path(config.run.storage or config.run.root, "run.storage")


def cache_of(config: Config) -> StoragePath:
    """Where everything computed from images alone is kept, for all runs."""
    return storage_path(config.data.cache) if config.data.cache else root_of(config) / "features"


def open_run(config: Config) -> RunFolder:
    """The run's folder, made if new.

    Raises:
        UserError: the folder cannot be written, or was made with other settings.
    """
    path = (root_of(config) / (config.run.name or default_name(config))).resolve()
    folder = RunFolder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except StorageError as fault:
        raise UserError(
            f"run.storage is {config.run.storage}: it cannot be written ({fault.reason})"
        ) from None
    except OSError as fault:
        raise UserError(f"{path}: the run folder cannot be written ({fault.strerror})") from None
    now = settings_of(config)
    if not folder.config.exists():
        with atomic_write(folder.config) as beside:
            beside.write_text(yaml.safe_dump(plain_dict(config), sort_keys=False))
        return folder
    before = settings_of(load_config(folder))
    for key, value in now.items():
        if before.get(key) != value:
            raise UserError(
                f"{path} was made with {key} {before.get(key)}, now it is {value}: give the old "
                "value or another run.name"
            )
    return folder


def plain_dict(config: Config) -> dict[str, Any]:
    """The config as plain lists, numbers and strings."""
    return json.loads(json.dumps(asdict(config)))


def load_config(folder: RunFolder) -> Config:
    """The settings a run was made with.

    Raises:
        UserError: no such run, or a config.yaml that this version cannot read.
    """
    if not folder.config.is_file():
        raise UserError(f"{folder.path}: not a run folder (it has no config.yaml)")
    try:
        groups = yaml.safe_load(folder.config.read_text())
        parts = {}
        for name, kind in Config.__annotations__.items():
            del kind
            default = getattr(Config(), name)
            values = groups.get(name, {})
            values = {
                key: tuple(value) if isinstance(getattr(default, key), tuple) else value
                for key, value in values.items()
            }
            parts[name] = type(default)(**values)
        return Config(**parts)
    except (TypeError, ValueError, AttributeError, yaml.YAMLError) as fault:
        raise UserError(f"{folder.config}: not a config of this version ({fault})") from None

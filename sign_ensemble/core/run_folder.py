"""The run folder: the layout of runs/<name>/, and its config.yaml.

=============================  =====================================================================
config.yaml                    the settings that made the run
manifest.parquet               a row per image: path, label, signer, split, sha256
hands.json                     in how many training images hands were found, and mirrored
hand_count.safetensors         features of the no-hand, one-hand and two-hand images
trials/                        a folder per trial, with its record and its fold models' outputs
trials.parquet                 a row per trial, written when the search has ended
study.journal                  the Optuna study, for optuna-dashboard
landmark-study.journal         that of landmark members
heads/                         the trained heads from which fine-tuning starts
train/                         checkpoints of trainings in progress, written by Ray Train
fold_models/                   fine-tuned networks, each of which has not seen one fold
members/                       the members and their index.json
members/out_of_fold.safetensors  outputs of fine-tuned fold models for the fold each has not seen
rule.json, rule.safetensors    the rejection rule and its numbers
answers.parquet                a row per evaluated image
metrics.json                   the evaluation
earlier_metrics.json           that of the ensemble before the search got more trials
timings.json                   seconds per stage
report.html, figures/          the report, and its plots as SVG and PNG
ray/, wandb/                   what Ray Tune and W&B write for themselves
.lock                          which command works on the run, see ``core/run_lock.py``
=============================  =====================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.config import Config
from sign_ensemble.core.config_checks import with_absolute_paths
from sign_ensemble.core.console import say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StorageError, StoragePath, absolute_path

# Settings that change how fast or where, never what comes out; and search.trials, which may grow:
# a trial depends on those before it, not on how many follow.
FREE = {
    "data.cache", "data.engine", "search.concurrent", "search.time_budget", "search.max_failures",
    "run.root", "run.storage", "run.name", "search.trials",
}  # fmt: skip
FREE_GROUPS = {"wandb", "evaluate", "scale"}


class _Entry:
    """A file or folder of a run, as an attribute of :class:`RunFolder`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, owner: type) -> StoragePath:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The paths in one run's folder; the table above says what each holds."""

    path: StoragePath

    config = _Entry("config.yaml")
    manifest = _Entry("manifest.parquet")
    hands = _Entry("hands.json")
    hand_count = _Entry("hand_count.safetensors")
    trials = _Entry("trials")
    trials_table = _Entry("trials.parquet")
    study = _Entry("study.journal")
    landmark_study = _Entry("landmark-study.journal")
    heads = _Entry("heads")
    checkpoints = _Entry("train")
    fold_models = _Entry("fold_models")
    members = _Entry("members")
    out_of_fold = _Entry("members/out_of_fold.safetensors")
    rule = _Entry("rule.json")
    index = _Entry("members/index.json")
    answers = _Entry("answers.parquet")
    metrics = _Entry("metrics.json")
    earlier_metrics = _Entry("earlier_metrics.json")
    timings = _Entry("timings.json")
    report = _Entry("report.html")
    figures = _Entry("figures")
    lock = _Entry(".lock")

    def trial(self, number: int) -> StoragePath:
        """Folder of one trial."""
        return self.trials / f"{number:04d}"


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that decide the result, but for the number of trials, by dotted name."""
    return {
        f"{group}.{key}": value
        for group, settings in plain_dict(with_absolute_paths(config)).items()
        if group not in FREE_GROUPS
        for key, value in settings.items()
        if f"{group}.{key}" not in FREE
    }


def default_name(config: Config) -> str:
    """A run name that the same data and settings give again."""
    source = config.data.root or config.data.table or "run"
    settings = json.dumps(settings_of(config), sort_keys=True)
    return f"{Path(source).resolve().stem}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def root_of(config: Config) -> StoragePath:
    """The folder of all runs."""
    return absolute_path(config.run.storage or config.run.root, "run.storage")


def cache_of(config: Config) -> StoragePath:
    """The folder of features, which depend on the images alone and are shared by all runs."""
    return absolute_path(config.data.cache) if config.data.cache else root_of(config) / "features"


def made_folder(config: Config) -> RunFolder:
    """The run's folder, which is made if it is new and can be written.

    Raises:
        UserError: it cannot.
    """
    path = (root_of(config) / (config.run.name or default_name(config))).resolve()
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
    return RunFolder(path)


def open_run(config: Config) -> RunFolder:
    """The run's folder, which is made if it is new; where it has fewer trials than the config asks
    for, :func:`forget_ensemble` lets its search go on.

    Raises:
        UserError: the folder cannot be written, or was made with other settings.
    """
    folder = made_folder(config)
    if not folder.config.exists():
        write_config(folder, config)
        return folder
    stored = load_config(folder)
    before, now = settings_of(stored), settings_of(config)
    trials, wanted = stored.search.trials, config.search.trials
    if wanted < trials:
        before["search.trials"], now["search.trials"] = trials, f"{wanted}, and may only grow"
    for key, value in now.items():
        if before.get(key) != value:
            raise UserError(
                f"{folder.path} was made with {key} {before.get(key)}, now it is {value}: give the "
                "old value or another run.name"
            )
    if wanted > trials:
        say(f"search.trials was {trials} and is {wanted}: what depends on it is made again")
        forget_ensemble(folder)
        write_config(folder, replace(stored, search=replace(stored.search, trials=wanted)))
    return folder


def write_config(folder: RunFolder, config: Config) -> None:
    """Write config.yaml."""
    with atomic_write(folder.config) as file:
        file.write_text(yaml.safe_dump(plain_dict(config), sort_keys=False))


def gets_more_trials(folder: RunFolder, config: Config) -> bool:
    """Whether the run is there and has fewer trials than the config asks for."""
    return folder.config.exists() and load_config(folder).search.trials < config.search.trials


def forget_ensemble(folder: RunFolder) -> None:
    """Have members, rule and evaluation made again. The last evaluation is kept as
    earlier_metrics.json, since it counts how often the test signers were read.
    """
    if folder.metrics.exists():
        with atomic_write(folder.earlier_metrics) as file:
            file.write_bytes(folder.metrics.read_bytes())
    for outdated in (folder.metrics, folder.report, folder.rule, folder.index):
        outdated.unlink(missing_ok=True)


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
        given = dict(yaml.safe_load(folder.config.read_text()))
        defaults = vars(Config())
        unknown = [
            f"{group}.{key}"
            for group, settings in given.items()
            for key in settings
            if not hasattr(defaults.get(group), key)
        ]
        if unknown:
            raise UserError(
                f"{folder.config} has {', '.join(unknown)}, which this version does not know: the "
                "run was made by another version, so tune again with another run.name"
            )

        groups = {}
        for group, default in defaults.items():
            values = given.get(group, {})
            tuples = {
                k: tuple(v) for k, v in values.items() if isinstance(getattr(default, k), tuple)
            }
            groups[group] = replace(default, **values | tuples)
        return Config(**groups)
    except (TypeError, ValueError, AttributeError, yaml.YAMLError) as fault:
        raise UserError(f"{folder.config}: not a config of this version ({fault})") from None

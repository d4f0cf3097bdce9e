"""Settings that parse but cannot work are refused here, before any work starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from sign_ensemble.core.config import Config
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.number_ranges import rule_of
from sign_ensemble.core.storage import storage_path

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for whatever `ray job submit` runs
SEARCH_RANGES = (
    "dropout", "learning_rate", "weight_decay", "label_smoothing", "augment_prob", "backbone_rate",
)  # fmt: skip


def check(config: Config) -> None:
    """Refuse values that parse but cannot work: outside their type's range, or at odds.

    Raises:
        UserError: names the first setting that breaks its rule, its value and the rule.
    """
    for group in fields(Config):
        settings = getattr(config, group.name)
        for key, hint in get_type_hints(type(settings), include_extras=True).items():
            holds, rule = rule_of(hint)
            _demand(f"{group.name}.{key}", getattr(settings, key), holds, rule)
    search, rejection = config.search, config.rejection
    for key in SEARCH_RANGES:
        _demand(f"search.{key}", getattr(search, key), lambda v: v[0] <= v[1], "from low to high")
    _demand(
        "ensemble.size",
        config.ensemble.size,
        lambda size: size <= search.trials,
        f"at most search.trials, which is {search.trials}",
    )
    _demand(
        "finetune.layers",
        config.finetune.layers,
        lambda layers: layers != "none" or search.trial == "head",
        "last, conv3+ or all if search.trial is end-to-end",
    )
    _demand(
        "scale.workers",
        config.scale.workers,
        lambda _: config.scale.least_and_most is not None,
        "a number from 1, or two, like 1:4",
    )
    _demand(
        "rejection.hand_count_images",
        rejection.hand_count_images,
        lambda images: images == 0 or images >= 10,
        "10 or more, or 0",
    )
    for name, where in (("run.storage", config.run.storage), ("data.cache", config.data.cache)):
        if where is not None:
            storage_path(where, name)


def _demand(name: str, value: object, holds: Callable[[Any], bool], rule: str) -> None:
    """Refuse a setting's value that does not hold."""
    if not holds(value):
        raise UserError(f"{name} is {value}: it must be {rule}")


def check_job_paths(config: Config) -> None:
    """Refuse relative paths in a Ray job, whose working folder is a temporary copy.

    Raises:
        UserError: names the first setting that is one.
    """
    named = {
        "run.root": config.run.root,
        "run.storage": config.run.storage,
        "data.root": config.data.root,
        "data.table": config.data.table,
        "data.extra_signers": config.data.extra_signers,
        "data.cache": config.data.cache,
        **{f"evaluate.near.{name}": path for name, path in config.evaluate.near.items()},
        **{f"evaluate.far.{name}": path for name, path in config.evaluate.far.items()},
    }
    for name, path in named.items():
        check_job_path(name, path)


def check_job_path(name: str, path: str | None) -> None:
    """Refuse a relative path in a Ray job.

    Raises:
        UserError: it is one.
    """
    where = storage_path(path, name) if path else None
    if IN_A_JOB in os.environ and isinstance(where, Path) and not where.expanduser().is_absolute():
        raise UserError(
            f"{name} is {path}: in a Ray job it must be a path from /, on storage that all nodes "
            "share; the job's own folder is a copy that is deleted after it"
        )

"""Settings that parse but cannot work are refused here, before any work starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

from sign_ensemble.core.config import Config
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.number_ranges import rule_of
from sign_ensemble.core.storage import absolute_path, storage_path

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for whatever `ray job submit` runs
PATHS = (
    "run.root", "run.storage", "data.root", "data.table", "data.extra_signers", "data.cache",
)  # fmt: skip
SEARCH_RANGES = (
    "dropout", "learning_rate", "weight_decay", "label_smoothing", "augment_prob", "backbone_rate",
    "landmark_rate", "point_noise",
)  # fmt: skip


def check(config: Config) -> None:
    """Refuse values that parse but cannot work: outside their type's range, or at odds.

    Raises:
        UserError: names the first setting that breaks its rule, its value and the rule.
    """
    search, scale, images = config.search, config.scale, config.rejection.hand_count_images
    rules: list[tuple[str, Any, Callable[[Any], Any], str]] = [
        (f"{group}.{key}", getattr(settings, key), *rule_of(hint))
        for group, settings in vars(config).items()
        for key, hint in get_type_hints(type(settings), include_extras=True).items()
    ]
    rules += [
        (f"search.{key}", getattr(search, key), lambda v: v[0] <= v[1], "from low to high")
        for key in SEARCH_RANGES
    ]
    head, at_most = search.trial == "head", f"at most search.trials, which is {search.trials}"
    layers = "last, conv3+ or all if search.trial is end-to-end"
    workers = "a number from 1, or two, like 1:4"
    rules += [
        ("ensemble.size", config.ensemble.size, lambda v: v <= search.trials, at_most),
        ("ensemble.kinds", config.ensemble.kinds, lambda v: "pixels" in v, "with pixels in it"),
        ("finetune.layers", config.finetune.layers, lambda v: v != "none" or head, layers),
        ("scale.workers", scale.workers, lambda _: scale.least_and_most, workers),
        ("rejection.hand_count_images", images, lambda v: not 0 < v < 10, "10 or more, or 0"),
    ]
    for name, value, holds, rule in rules:
        if not holds(value):
            raise UserError(f"{name} is {value}: it must be {rule}")
    for name, where in (("run.storage", config.run.storage), ("data.cache", config.data.cache)):
        if where is not None:
            storage_path(where, name)


def with_absolute_paths(config: Config) -> Config:
    """The config with every path as :func:`absolute_path` gives it, so that paths can be compared,
    and read from another working folder. A table keeps its name, since its paths may start there.

    Raises:
        UserError: names the first setting that is no path.
    """
    data, run = config.data, config.run
    given = {name: attrgetter(name)(config) for name in PATHS if name != "data.table"}
    if data.weights not in ("shipped", "random"):
        given["data.weights"] = data.weights
    groups: dict[str, dict[str, Any]] = {"data": {}, "run": {}, "near": {}, "far": {}}
    for name, path in given.items():
        if path:
            group, key = name.split(".")
            groups[group][key] = str(absolute_path(path, name))
    if data.table:
        folder, file = os.path.split(data.table)
        groups["data"]["table"] = str(absolute_path(folder, "data.table") / file)
    for kind in ("near", "far"):
        for name, path in getattr(config.evaluate, kind).items():
            groups[kind][name] = str(absolute_path(path, f"evaluate.{kind}.{name}"))
    return replace(
        config,
        data=replace(data, **groups["data"]),
        run=replace(run, **groups["run"]),
        evaluate=replace(config.evaluate, near=groups["near"], far=groups["far"]),
    )


def check_job_paths(config: Config) -> None:
    """Refuse relative paths in a Ray job, whose working folder is a temporary copy.

    Raises:
        UserError: names the first setting that is one.
    """
    for name in PATHS:
        check_job_path(name, attrgetter(name)(config))
    for kind in ("near", "far"):
        for name, path in getattr(config.evaluate, kind).items():
            check_job_path(f"evaluate.{kind}.{name}", path)


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

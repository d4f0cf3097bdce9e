"""Values that parse but cannot work are refused here, before any work starts."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

from sign_ensemble.core.config import Config
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import storage_path

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for whatever `ray job submit` runs
HANDS = ("no_hand", "two_hands")  # need pictures to learn from
OWN = "own_mahalanobis"  # needs networks whose convolutions learned
WITNESS_NAMES = (
    "total_uncertainty",
    "disagreement",
    "energy",
    "max_logit",
    "generalised_entropy",
    "sirc",
    "feature_norm",
    "neighbour",
    "relative_mahalanobis",
    "part_mahalanobis",
    OWN,
    *HANDS,
)


def check(config: Config) -> None:
    """Refuse values that parse but cannot work.

    Raises:
        UserError: names the first setting whose value breaks its rule.
    """
    data, member, search = config.data, config.member, config.search
    ensemble, rejection, evaluate = config.ensemble, config.rejection, config.evaluate
    finetune, scale = config.finetune, config.scale
    rules: list[tuple[str, object, bool, str]] = [
        ("data.test_share", data.test_share, 0 < data.test_share < 1, "above 0 and below 1"),
        ("data.size", data.size, 63 <= data.size <= 1024, "63 to 1024 pixels"),
        ("data.augmentations", data.augmentations, data.augmentations >= 0, "0 or more"),
        ("member.widths", member.widths, min(member.widths) >= 1, "two whole numbers from 1"),
        ("member.dropout", member.dropout, 0 <= member.dropout < 1, "0 to below 1"),
        (
            "member.learning_rate",
            member.learning_rate,
            0 < member.learning_rate < inf,
            "above 0",
        ),
        (
            "member.weight_decay",
            member.weight_decay,
            0 <= member.weight_decay < inf,
            "0 or more",
        ),
        (
            "member.label_smoothing",
            member.label_smoothing,
            0 <= member.label_smoothing < 1,
            "0 to below 1",
        ),
        ("member.augment_prob", member.augment_prob, 0 <= member.augment_prob <= 1, "0 to 1"),
        ("member.batch_size", member.batch_size, member.batch_size >= 1, "1 or more"),
        ("member.epochs", member.epochs, member.epochs >= 1, "1 or more"),
        (
            "member.validation_share",
            member.validation_share,
            0 <= member.validation_share <= 0.5,
            "0 to 0.5",
        ),
        ("member.patience", member.patience, member.patience >= 1, "1 or more"),
        ("member.components", member.components, member.components >= 0, "0 or more"),
        ("search.trials", search.trials, search.trials >= 1, "1 or more"),
        (
            "search.time_budget",
            search.time_budget,
            search.time_budget is None or search.time_budget > 0,
            "above 0 seconds, or null",
        ),
        (
            "search.concurrent",
            search.concurrent,
            search.concurrent is None or search.concurrent >= 1,
            "1 or more, or null",
        ),
        ("search.cpus_per_trial", search.cpus_per_trial, search.cpus_per_trial >= 1, "1 or more"),
        ("search.gpus_per_trial", search.gpus_per_trial, search.gpus_per_trial >= 0, "0 or more"),
        ("search.folds", search.folds, search.folds >= 2, "2 or more"),
        ("search.reduction", search.reduction, search.reduction >= 2, "2 or more"),
        ("search.max_failures", search.max_failures, search.max_failures >= 0, "0 or more"),
        (
            "ensemble.lowers",
            ensemble.lowers,
            ensemble.lowers == "nll" or ensemble.method == "greedy",
            "nll unless ensemble.method is greedy",
        ),
        ("ensemble.size", ensemble.size, ensemble.size >= 1, "1 or more"),
        (
            "ensemble.size",
            ensemble.size,
            ensemble.size <= search.trials,
            f"at most search.trials, which is {search.trials}",
        ),
        (
            "finetune.layers",
            finetune.layers,
            finetune.layers != "none" or search.trial == "head",
            "last, conv3+ or all where search.trial is finetune",
        ),
        ("finetune.epochs", finetune.epochs, finetune.epochs >= 1, "1 or more"),
        (
            "finetune.learning_rate",
            finetune.learning_rate,
            0 < finetune.learning_rate < inf,
            "above 0",
        ),
        (
            "finetune.backbone_rate",
            finetune.backbone_rate,
            0 < finetune.backbone_rate < inf,
            "above 0",
        ),
        (
            "finetune.weight_decay",
            finetune.weight_decay,
            0 <= finetune.weight_decay < inf,
            "0 or more",
        ),
        ("finetune.warmup", finetune.warmup, 0 <= finetune.warmup <= 1, "0 to 1"),
        ("finetune.clip", finetune.clip, finetune.clip > 0, "above 0"),
        ("finetune.batch_size", finetune.batch_size, finetune.batch_size >= 1, "1 or more"),
        ("finetune.augment_prob", finetune.augment_prob, 0 <= finetune.augment_prob <= 1, "0 to 1"),
        (
            "scale.workers",
            scale.workers,
            scale.least_and_most is not None,
            "a number from 1, or two, like 1:4",
        ),
        (
            "scale.cpus_per_worker",
            scale.cpus_per_worker,
            scale.cpus_per_worker is None or scale.cpus_per_worker >= 1,
            "1 or more, or null",
        ),
        (
            "scale.gpus_per_worker",
            scale.gpus_per_worker,
            (scale.gpus_per_worker or 0) >= 0,
            "0 or more",
        ),
        (
            "scale.concurrent",
            scale.concurrent,
            scale.concurrent is None or scale.concurrent >= 1,
            "1 or more, or null",
        ),
        ("scale.micro_batch", scale.micro_batch, scale.micro_batch >= 1, "1 or more"),
        (
            "scale.checkpoint_minutes",
            scale.checkpoint_minutes,
            scale.checkpoint_minutes > 0,
            "above 0",
        ),
        ("scale.max_failures", scale.max_failures, scale.max_failures >= 0, "0 or more"),
        (
            "rejection.target_coverage",
            rejection.target_coverage,
            0 < rejection.target_coverage < 1,
            "above 0 and below 1",
        ),
        (
            "rejection.uncertainty_share",
            rejection.uncertainty_share,
            0 <= rejection.uncertainty_share < 1,
            "0 or more and below 1",
        ),
        (
            "rejection.max_error",
            rejection.max_error,
            rejection.max_error is None or 0 < rejection.max_error < 1,
            "above 0 and below 1, or null",
        ),
        ("rejection.neighbours", rejection.neighbours, rejection.neighbours >= 1, "1 or more"),
        (
            "rejection.reference_images",
            rejection.reference_images,
            rejection.reference_images >= 100,
            "100 or more",
        ),
        (
            "rejection.ood_prior",
            rejection.ood_prior,
            0 <= rejection.ood_prior < 1,
            "0 or more and below 1",
        ),
        (
            "rejection.held_out_groups",
            rejection.held_out_groups,
            0 <= rejection.held_out_groups <= 5,
            "0 to 5",
        ),
        ("rejection.negatives", rejection.negatives, rejection.negatives >= 10, "10 or more"),
        (
            "rejection.hand_count_images",
            rejection.hand_count_images,
            rejection.hand_count_images >= 10 or rejection.hand_count_images == 0,
            "10 or more, or 0",
        ),
        ("member.seed", member.seed, member.seed >= 0, "0 or more"),
        ("search.seed", search.seed, search.seed >= 0, "0 or more"),
        ("evaluate.seed", evaluate.seed, evaluate.seed >= 0, "0 or more"),
        ("evaluate.images", evaluate.images, evaluate.images >= 10, "10 or more"),
        ("evaluate.bootstrap", evaluate.bootstrap, evaluate.bootstrap >= 10, "10 or more"),
    ]
    for name, (low, high), within, rule in (
        ("search.dropout", search.dropout, lambda v: 0 <= v < 1, "0 to below 1"),
        ("search.learning_rate", search.learning_rate, lambda v: 0 < v < inf, "above 0"),
        ("search.backbone_rate", search.backbone_rate, lambda v: 0 < v < inf, "above 0"),
        ("search.weight_decay", search.weight_decay, lambda v: 0 <= v < inf, "0 or more"),
        ("search.label_smoothing", search.label_smoothing, lambda v: 0 <= v < 1, "0 to below 1"),
        ("search.augment_prob", search.augment_prob, lambda v: 0 <= v <= 1, "0 to 1"),
    ):
        holds = low <= high and within(low) and within(high)
        rules.append((name, [low, high], holds, f"low to high, each {rule}"))
    for name, choices in (
        ("search.epochs", search.epochs),
        ("search.batch_size", search.batch_size),
        ("search.h1", search.h1),
        ("search.h2", search.h2),
    ):
        rules.append((name, choices, min(choices, default=0) >= 1, "whole numbers from 1"))
    for name, value, holds, rule in rules:
        if not holds:
            raise UserError(f"{name} is {value}: it must be {rule}")
    for name, where in (("run.storage", config.run.storage), ("data.cache", data.cache)):
        if where is not None:
            storage_path(where, name)
    if rejection.combination != "auto":
        for witness in rejection.combination.split("+"):
            if witness not in WITNESS_NAMES:
                raise UserError(
                    f"rejection.combination names {witness!r}: it must be auto or join, with +, "
                    f"some of {', '.join(WITNESS_NAMES)}"
                )
            if witness in HANDS and not rejection.hand_count_images:
                raise UserError(
                    f"rejection.combination names {witness}: it needs rejection.hand_count_images, and that is "
                    "0"
                )
            if witness == OWN and (finetune.layers == "none" or search.trial != "head"):
                raise UserError(
                    f"rejection.combination names {OWN}: it needs members that are fine-tuned from "
                    "heads (finetune.layers not none, search.trial head)"
                )


def check_places(config: Config) -> None:
    """Refuse relative paths in a Ray job: its working folder is a copy that goes with it.

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
        place_for_a_job(name, path)


def place_for_a_job(name: str, path: str | None) -> None:
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

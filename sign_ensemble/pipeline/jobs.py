"""The jobs ``tune`` and ``train``: the stages of a run one after another.

A stage whose files exist is not run again, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache

from sign_ensemble.core.config import Config
from sign_ensemble.core.config_checks import with_absolute_paths
from sign_ensemble.core.console import say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.node_checks import check_nodes
from sign_ensemble.core.ray_cluster import PendingRay, starting_ray
from sign_ensemble.core.run_folder import RunFolder, gets_more_trials, made_folder, open_run
from sign_ensemble.core.run_lock import locked
from sign_ensemble.core.stage_timing import timed
from sign_ensemble.core.storage import StorageError
from sign_ensemble.data import backbone
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.learning.cluster_resources import check_room, concurrent_trials
from sign_ensemble.pipeline.evaluation import check_reading, check_sets, evaluate_run
from sign_ensemble.pipeline.finetuned_members import build_finetuned
from sign_ensemble.pipeline.limits_of_data import limits_of_data
from sign_ensemble.pipeline.members import build_members
from sign_ensemble.pipeline.preparation import Prepared, list_images, prepare
from sign_ensemble.pipeline.rule_calibration import build_rule
from sign_ensemble.pipeline.searching import defaults, search, search_has_ended
from sign_ensemble.search.records import TrialRecord, evaluate_all_folds, read_records, write_table
from sign_ensemble.search.space import default_params
from sign_ensemble.tracking import tracked


@contextmanager
def opened(config: Config, evaluates: bool) -> Iterator[RunFolder]:
    """The run's folder, for this command alone; ``evaluates``: whether it will read test signers.

    A user's mistake that stops it before its first stage ends leaves no files of it: the config
    would refuse the corrected call.
    """
    with locked(folder := made_folder(config)):
        if evaluates:
            check_reading(folder, config.evaluate, gets_more_trials(folder, config))
        run = open_run(config)
        try:
            yield run
        except StorageError:  # the store may answer again in minutes; now nothing can be removed
            raise
        except UserError:
            if not run.timings.exists():
                run.config.unlink(missing_ok=True)
                run.manifest.unlink(missing_ok=True)
            raise


@contextmanager
def ready(config: Config, run: RunFolder) -> Iterator[tuple[Manifest, PendingRay]]:
    """The manifest, and a Ray that starts while images are read.

    Most of what can be refused at once is refused before Ray starts.
    """
    say(f"run folder: {run.path}")
    backbone.load(config.data.weights)

    def check() -> None:
        concurrent_trials(config.search)
        if config.finetune.layers != "none":
            check_room(config.scale)
        check_nodes(config, run)

    with ExitStack() as ends:

        @cache
        def begun() -> Future[None]:
            return ends.enter_context(starting_ray(dashboard=config.search.trial == "end-to-end"))

        listed = list_images(config, run, begun)
        for line in limits_of_data(config, listed):
            say(line)
        yield listed, PendingRay(begun(), check)


def tune(config: Config, until: str = "evaluate") -> None:
    """The main job, ``until`` after search, ensemble (members and rule) or evaluate.

    Raises:
        UserError: a setting, an image or a file cannot be used.
    """
    config = with_absolute_paths(config)
    check_sets(config.evaluate, config.data)
    with opened(config, until == "evaluate") as run, tracked(config.wandb, run) as tracker:
        if search_has_ended(run, config) and run.rule.exists():
            list_images(config, run)
            say(f"run folder: {run.path}: search, members and rule are kept from before")
        else:
            with ready(config, run) as (listed, cluster):
                with timed(run, "features"):
                    prepared = prepare(config, listed, cluster)
                if not search_has_ended(run, config):
                    with timed(run, "search"):
                        search(prepared, tracker)
                if until != "search":
                    members_and_rule(prepared)
        if until == "evaluate":
            evaluate_run(run, config.evaluate, tracker)


def members_and_rule(prepared: Prepared) -> None:
    """Members and rule of an ended search, unless they exist."""
    run, frozen = prepared.run, prepared.config.finetune.layers == "none"
    if not run.index.exists():
        with timed(run, "members"):
            (build_members if frozen else build_finetuned)(prepared, read_records(run))
    if not run.rule.exists():
        with timed(run, "rule"):
            build_rule(prepared)


def train(config: Config) -> TrialRecord:
    """One setting, evaluated on every fold, then made a run of one member that can be evaluated.

    ``config.member`` is the setting; of ``search`` only folds, CPUs and GPUs count.

    Raises:
        UserError: a setting, an image or a file cannot be used.
    """
    one = replace(
        with_absolute_paths(config),
        search=replace(config.search, trials=1, trial="head", seed=config.member.seed),
        ensemble=replace(config.ensemble, size=1, method="top_k"),
    )
    with opened(one, False) as run, tracked(one.wandb, run) as tracker:
        if not (search_has_ended(run, one) and run.rule.exists()):
            with ready(one, run) as (listed, cluster):
                prepared = prepare(one, listed, cluster)
                if not search_has_ended(run, one):
                    records = []
                    for number, (kind, recipe) in enumerate(defaults(one, prepared.task).items()):
                        params = default_params(recipe)
                        about = (run, prepared.task, kind, recipe, params, number)
                        records.append(evaluate_all_folds(*about))
                    write_table(run, records, prepared.task.fold_names)
                members_and_rule(prepared)
        record = read_records(run)[0]
        tracker.setting(record.params, record)
        return record

"""A task to ended trials."""

from __future__ import annotations

from dataclasses import replace

from sign_ensemble import tracking
from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.config import Config, MemberConfig
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.learning.principal_components import ProjectedImages
from sign_ensemble.learning.task import Kind, Task
from sign_ensemble.pipeline.finetuned_members import end_to_end_of
from sign_ensemble.pipeline.preparation import FoundHands, Prepared, kinds_of
from sign_ensemble.search.progress_table import SearchTable
from sign_ensemble.search.records import TrialRecord, read_records
from sign_ensemble.search.space import first_recipe


def projected_folds(prepared: Prepared) -> dict[str, ProjectedImages]:
    """Every fold's training images projected on their principal components; none for end-to-end
    trials.
    """
    from sign_ensemble.core.ray_cluster import many_nodes
    from sign_ensemble.learning.parallel_heads import project_folds

    config = prepared.config
    if config.search.trial == "end-to-end":
        return {}
    with progress("folds projected on principal components") as step:
        return project_folds(
            prepared.task,
            config.member.components,
            config.search.cpus_per_trial,
            config.search.gpus_per_trial,
            many_nodes(),
            step,
        )


def defaults(config: Config, task: Task) -> dict[Kind, MemberConfig]:
    """The recipe of each kind's first trial."""
    return {kind: first_recipe(kind, config.member) for kind in task.kinds}


def search(prepared: Prepared, tracker: tracking.Tracker) -> list[TrialRecord]:
    """Run the trials that are missing."""
    from sign_ensemble.search.trials import search_trials

    config, run, task = prepared.config, prepared.run, prepared.task
    if config.search.trial == "end-to-end":
        task = replace(task, end_to_end=end_to_end_of(prepared))
    projected = projected_folds(prepared)
    ended = [record for record in read_records(run) if record.status != "failed"]
    if ended:
        say(f"{len(ended)} trials are kept from before")

    def log(record: TrialRecord) -> None:
        tracker.trial(record, task.fold_names)

    trials = len(task.kinds) * config.search.trials
    with SearchTable(trials, task.folds, ended, log) as table:
        records = search_trials(
            run, task, projected, defaults(config, task), config.search, config.ensemble.size, table
        )
    say(f"search: {table.summary()}")
    return records


def search_has_ended(run: RunFolder, config: Config) -> bool:
    """Whether the search has ended: all trials are there, or members were made already."""
    if not run.trials_table.exists():
        return False
    if run.index.exists():
        return True
    records = read_records(run)
    found = read_json(run.hands) if run.hands.exists() else {}
    kinds = kinds_of(config, FoundHands(**found) if found else None)
    return all(
        sum(record.kind == kind for record in records) >= config.search.trials for kind in kinds
    )

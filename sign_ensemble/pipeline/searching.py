"""A task to ended trials."""

from __future__ import annotations

from dataclasses import replace

from sign_ensemble import tracking
from sign_ensemble.core.config import Config
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.learning.principal_components import ProjectedImages
from sign_ensemble.pipeline.finetuned_members import end_to_end_of
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.search.progress_table import SearchTable
from sign_ensemble.search.records import TrialRecord, read_records


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

    with SearchTable(config.search.trials, task.folds, ended, log) as table:
        records = search_trials(
            run, task, projected, config.member, config.search, config.ensemble.size, table
        )
    say(f"search: {table.summary()}")
    return records


def search_has_ended(run: RunFolder, config: Config) -> bool:
    """Whether the search has ended: all trials are there, or members were made already."""
    if not run.trials_table.exists():
        return False
    return (run.members / "index.json").exists() or len(read_records(run)) >= config.search.trials

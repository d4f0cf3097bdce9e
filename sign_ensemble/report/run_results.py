"""Everything in a run folder that a report shows, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sign_ensemble.core.atomic_files import local_copy_of, read_json
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.rejection import answers_table


@dataclass(frozen=True)
class Results:
    """A finished run."""

    name: str
    metrics: Mapping[str, Any]  # metrics.json
    rule: Mapping[str, Any]  # rule.json
    answers: pa.Table  # answers.parquet
    trials: tuple[Mapping[str, Any], ...]  # rows of trials.parquet, best first
    members: tuple[Mapping[str, Any], ...]  # as members/index.json lists them
    importances: Mapping[str, float]  # of hyperparameters, see :func:`importances`
    set_aside: tuple[str, ...]  # path and reason of each unusable image
    settings: Mapping[str, Mapping[str, Any]]  # config.yaml, by group
    seconds: Mapping[str, float]  # of each stage


def read_results(run: RunFolder) -> Results:
    """Read everything.

    Raises:
        UserError: the run was not evaluated, or a file is missing, damaged or of another version.
    """
    if not run.config.is_file():
        raise UserError(f"{run.path}: not a run folder (it has no config.yaml)")
    if not run.metrics.is_file():
        raise UserError(f"{run.path} has no metrics.json yet: tune or evaluate it first")
    metrics = read_json(run.metrics)
    if not isinstance(metrics, dict) or "evaluations" not in metrics:
        raise UserError(
            f"{run.metrics}: not an evaluation of this version; evaluate the run again, with "
            "--evaluate.again true"
        )
    aside = rows_of(run.manifest, ["path", "split", "reason"])
    return Results(
        name=run.path.name,
        metrics=metrics,
        rule=read_json(run.rule),
        answers=answers_table.read(run.answers),
        trials=tuple(rows_of(run.trials_table)),
        members=tuple(read_json(run.index)["members"]),
        importances=importances(run.study),
        set_aside=tuple(f"{r['path']}: {r['reason']}" for r in aside if r["split"] == "set-aside"),
        settings=yaml.safe_load(run.config.read_text()),
        seconds=read_json(run.timings) if run.timings.is_file() else {},
    )


def rows_of(path: StoragePath, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a Parquet file.

    Raises:
        UserError: missing or damaged.
    """
    try:
        with local_copy_of(path) as file:
            return pq.read_table(file, columns=columns, partitioning=None).to_pylist()
    except (OSError, pa.ArrowException) as fault:
        raise UserError(f"{path} cannot be read: {' '.join(str(fault).split())}") from None


def importances(study: StoragePath) -> dict[str, float]:
    """The hyperparameters' importance for the loss (fANOVA, Hutter et al. 2014), largest first.

    Empty without a study of at least four complete trials whose losses differ.
    """
    if not study.is_file():
        return {}
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    with local_copy_of(study) as file:
        storage = JournalStorage(JournalFileBackend(str(file)))
        name = optuna.get_all_study_names(storage)[-1]
        found = optuna.load_study(study_name=name, storage=storage)
        complete = found.get_trials(states=(TrialState.COMPLETE,))
        if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
            return {}
        shares = get_param_importances(found, evaluator=FanovaImportanceEvaluator(seed=0))
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))

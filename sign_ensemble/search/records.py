"""What is known of each trial, on disk: the truth that an interrupted search goes on from.

A trial's folder holds a safetensors file per fold (logits on the fold's images and negatives,
figures in the header) and, once it has ended, ``trial.json``. Nothing here knows Ray or Optuna.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import (
    atomic_write,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import RemotePath, StoragePath, storage_path
from sign_ensemble.learning.end_to_end import fit_end_to_end_fold
from sign_ensemble.learning.head_training import fit_fold, recipe_of
from sign_ensemble.learning.task import FoldResult, Task, seed_of

OF_IMAGES = {"logits_NK", "negative_logits_GK"}
FIGURES = [each.name for each in fields(FoldResult) if each.name not in OF_IMAGES]  # of a fold


@dataclass(frozen=True)
class TrialRecord:
    """One ended trial.

    ``complete`` trials were judged on every fold, ``pruned`` ones stopped after a few, ``failed``
    ones broke. ``nll`` is the mean over the folds that there are, nats per image; each entry of
    ``folds`` holds the figures of :class:`FoldResult`.
    """

    number: int
    status: Literal["complete", "pruned", "failed"]
    params: dict[str, Any]
    folds: tuple[dict[str, Any], ...]
    error: str = ""

    def mean(self, figure: str) -> float:
        """A figure's mean over the folds, each fold counting once."""
        return float(np.mean([fold[figure] for fold in self.folds]))

    @property
    def nll(self) -> float:
        """The objective."""
        return self.mean("nll")

    def objectives(self, names: Sequence[str]) -> list[float]:
        """What the search lowers, by their names."""
        return [self.mean(name) for name in names]

    @property
    def running_nll(self) -> list[float]:
        """The objective as it stood after each fold."""
        values = [fold["nll"] for fold in self.folds]
        return [float(np.mean(values[: i + 1])) for i in range(len(values))]


def fold_key(task: Task, recipe: MemberConfig, fold: int, seed: int) -> str:
    """What a fold's result depends on; a file with another key is computed anew."""
    parts = [asdict(recipe), fold, seed, task.fold_names, task.labels, FIGURES]
    if task.end_to_end:
        parts.append(asdict(task.end_to_end.settings))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def negatives_of(task: Task) -> dict[str, NDArray[Any]]:
    """The self-made negatives' features and folds; from an object store fetched once a process."""
    where = storage_path(task.negatives)
    return read_arrays(where)[0] if isinstance(where, Path) else _fetched(where)


@lru_cache(maxsize=1)
def _fetched(where: RemotePath) -> dict[str, NDArray[Any]]:
    return read_arrays(where)[0]


def evaluate_fold(
    run: RunFolder, task: Task, recipe: MemberConfig, number: int, fold: int
) -> dict[str, Any]:
    """Train and judge one fold of one trial, or read it if that was done before.

    Args:
        run: Where it is written.
        task: Features, labels, folds; images, with the trial's settings put in, where
            convolutions learn too.
        recipe: Of the head.
        number: The trial's number.
        fold: The fold left out.

    Returns:
        The fold's figures.
    """
    seed = seed_of(task.seed, number, fold)
    key = fold_key(task, recipe, fold, seed)
    path = run.trial(number) / f"fold-{fold}.safetensors"
    if path.is_file():
        try:
            header = read_arrays(path)[1]
        except UserError:
            header = {}
        if header.get("key") == key:
            return dict(header["figures"])
    if task.end_to_end:
        result = fit_end_to_end_fold(task, task.end_to_end, recipe, number, fold, seed)
    else:
        negatives = negatives_of(task)
        mine = negatives["features"][negatives["folds"] == fold]
        result, _ = fit_fold(task, recipe, fold, seed, mine)
    arrays = {"logits": result.logits_NK, "negative_logits": result.negative_logits_GK}
    write_arrays(path, arrays, {"key": key, "figures": result.figures()})
    return result.figures()


def evaluate_all_folds(
    run: RunFolder, task: Task, default: MemberConfig, params: dict[str, Any], number: int
) -> TrialRecord:
    """Judge one setting on every fold in this process, and record it."""
    recipe = recipe_of(default, params)
    folds = [evaluate_fold(run, task, recipe, number, fold) for fold in range(task.folds)]
    record = TrialRecord(number, "complete", params, tuple(folds))
    write_record(run, record)
    return record


def out_of_fold(run: RunFolder, task: Task, number: int) -> tuple[NDArray[np.float32], ...]:
    """A complete trial's logits for every training image and negative, each by a model that has
    not seen its signer.

    Returns:
        logits_NK in the order of the task, negative_logits in the order of the negatives file.
    """
    negatives = negatives_of(task)
    logits_NK = np.zeros((len(task.labels_N), len(task.labels)), np.float32)
    negative_logits_GK = np.zeros((len(negatives["folds"]), len(task.labels)), np.float32)
    for fold in range(task.folds):
        arrays, _ = read_arrays(run.trial(number) / f"fold-{fold}.safetensors")
        logits_NK[task.folds_N == fold] = arrays["logits"]
        negative_logits_GK[negatives["folds"] == fold] = arrays["negative_logits"]
    return logits_NK, negative_logits_GK


def write_record(run: RunFolder, record: TrialRecord) -> None:
    """Write trial.json, whole."""
    write_json(run.trial(record.number) / "trial.json", asdict(record))


def read_records(run: RunFolder) -> list[TrialRecord]:
    """All ended trials, by number.

    Raises:
        UserError: a record is damaged, or of an earlier version.
    """
    records = []
    paths: list[StoragePath] = sorted(run.trials.glob("*/trial.json"), key=str)
    with ThreadPoolExecutor(16) as pool:  # an object store answers many as fast as one
        for path, values in zip(paths, pool.map(read_json, paths), strict=True):
            try:
                record = TrialRecord(**{**values, "folds": tuple(values["folds"])})
                if not all("augrc" in fold for fold in record.folds):
                    raise UserError(f"{path}: of an earlier version; give another run.name")
                records.append(record)
            except (KeyError, TypeError) as fault:
                raise UserError(f"{path}: not a trial's record ({fault})") from None
    return records


def write_table(run: RunFolder, records: Sequence[TrialRecord], folds: Sequence[str]) -> None:
    """Write trials.parquet: a row per trial, lowest loss first among the complete ones."""
    order = {"complete": 0, "pruned": 1, "failed": 2}
    ranked = sorted(
        records, key=lambda r: (order[r.status], -len(r.folds), r.nll if r.folds else 0.0)
    )
    rows = []
    for record in ranked:
        row: dict[str, Any] = {"number": record.number, "status": record.status}
        row |= record.params
        for name in ("nll", "augrc", "accuracy", "ece"):
            row[name] = record.mean(name) if record.folds else None
        row["worst_accuracy"] = min((f["accuracy"] for f in record.folds), default=None)
        row["seconds"] = sum(f["seconds"] for f in record.folds)
        for i, name in enumerate(folds):
            seen = record.folds[i] if i < len(record.folds) else {}
            row[f"nll_{name}"] = seen.get("nll")
            row[f"accuracy_{name}"] = seen.get("accuracy")
        rows.append({**row, "error": record.error})
    with atomic_write(run.trials_table) as beside:
        pq.write_table(pa.Table.from_pylist(rows), beside)

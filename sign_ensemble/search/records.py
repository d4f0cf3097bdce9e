"""Records of trials on disk, from which an interrupted search is resumed.

A trial's folder holds a safetensors file per fold (logits of the fold's images, figures in the
header) and, once it has ended, ``trial.json``. Nothing here depends on Ray or Optuna.

Letters: N training images, K labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
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
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.learning.end_to_end import fit_end_to_end_fold
from sign_ensemble.learning.fold_models import fit_fold
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.task import LOGITS, FoldResult, Kind, Task, seed_of

FIGURES = [each.name for each in fields(FoldResult) if each.name not in LOGITS]  # of a fold


@dataclass(frozen=True)
class TrialRecord:
    """One ended trial.

    ``complete`` trials were evaluated on every fold, ``pruned`` ones on the first few, ``failed``
    ones raised an error. Each entry of ``folds`` holds the figures of :class:`FoldResult`.
    """

    number: int
    status: Literal["complete", "pruned", "failed"]
    params: dict[str, Any]
    folds: tuple[dict[str, Any], ...]
    error: str = ""
    kind: Kind = "pixels"  # what its networks read

    def mean(self, figure: str) -> float:
        """A figure's mean over the folds, each fold counting once."""
        return float(np.mean([fold[figure] for fold in self.folds]))

    @property
    def nll(self) -> float:
        """The objective: out-of-fold loss, nats per image, the mean over the folds so far."""
        return self.mean("nll")

    @property
    def running_nll(self) -> list[float]:
        """The objective after each fold."""
        values = [fold["nll"] for fold in self.folds]
        return [float(np.mean(values[: i + 1])) for i in range(len(values))]


def fold_key(task: Task, kind: Kind, recipe: MemberConfig, fold: int, seed: int) -> str:
    """Key of all that a fold's result depends on; a file with another key is not used."""
    parts = [asdict(recipe), kind, fold, seed, task.fold_names, task.labels, FIGURES, task.copies]
    if task.end_to_end:
        parts.append(asdict(task.end_to_end.settings))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def evaluate_fold(
    run: RunFolder, task: Task, kind: Kind, recipe: MemberConfig, number: int, fold: int
) -> dict[str, Any]:
    """The fold's figures: a fold model is trained and evaluated on its fold, or the file of an
    earlier call is read. The task of an end-to-end trial has images, with its settings.
    """
    seed = seed_of(task.seed, number, fold)
    key = fold_key(task, kind, recipe, fold, seed)
    path = run.trial(number) / f"fold-{fold}.safetensors"
    if path.is_file():
        try:
            header = read_arrays(path)[1]
        except UserError:
            header = {}
        if header.get("key") == key:
            return dict(header["figures"])
    task = task.of_kind(kind)
    if task.end_to_end:
        result = fit_end_to_end_fold(task, task.end_to_end, recipe, number, fold, seed)
    else:
        result, _ = fit_fold(task, recipe, fold, seed)
    figures = result.figures()
    arrays = {"logits": result.logits_NK, "copies": result.copies_VNK}
    write_arrays(path, arrays, {"key": key, "figures": figures})
    return figures


def evaluate_all_folds(
    run: RunFolder,
    task: Task,
    kind: Kind,
    default: MemberConfig,
    params: dict[str, Any],
    number: int,
) -> TrialRecord:
    """Evaluate one setting on every fold in this process, and record it."""
    recipe = recipe_of(default, params)
    folds = [evaluate_fold(run, task, kind, recipe, number, fold) for fold in range(task.folds)]
    record = TrialRecord(number, "complete", params, tuple(folds), kind=kind)
    write_record(run, record)
    return record


def out_of_fold(run: RunFolder, task: Task, number: int, copy: int = 0) -> NDArray[np.float32]:
    """Out-of-fold logits (N, K) of a complete trial, in the order of the task: of the images, or of
    one augmented copy of each (where these were not read, of the images).
    """
    logits_NK = np.zeros((len(task.labels_N), len(task.labels)), np.float32)
    for fold in range(task.folds):
        arrays, _ = read_arrays(run.trial(number) / f"fold-{fold}.safetensors")
        of_copies = copy and len(arrays["copies"]) >= copy
        logits_NK[task.folds_N == fold] = (
            arrays["copies"][copy - 1] if of_copies else arrays["logits"]
        )
    return logits_NK


def write_record(run: RunFolder, record: TrialRecord) -> None:
    """Write trial.json, atomically."""
    write_json(run.trial(record.number) / "trial.json", asdict(record))


def read_records(run: RunFolder) -> list[TrialRecord]:
    """All ended trials, by number.

    Raises:
        UserError: a record is damaged, or of an earlier version.
    """
    records = []
    paths: list[StoragePath] = sorted(run.trials.glob("*/trial.json"), key=str)
    with ThreadPoolExecutor(16) as pool:  # an object store answers many requests at a time
        for path, values in zip(paths, pool.map(read_json, paths), strict=True):
            try:
                record = TrialRecord(**{**values, "folds": tuple(values["folds"])})
            except (KeyError, TypeError) as fault:
                raise UserError(f"{path}: not a trial's record ({fault})") from None
            if any(set(fold) != set(FIGURES) for fold in record.folds):
                raise UserError(f"{path}: of an earlier version; give another run.name")
            records.append(record)
    return records


def write_table(run: RunFolder, records: Sequence[TrialRecord], folds: Sequence[str]) -> None:
    """Write trials.parquet: a row per trial, lowest loss first among the complete ones."""
    order = {"complete": 0, "pruned": 1, "failed": 2}
    rows = []
    for record in sorted(
        records, key=lambda r: (order[r.status], -len(r.folds), r.nll if r.folds else 0.0)
    ):
        about = {"number": record.number, "kind": record.kind, "status": record.status}
        row: dict[str, Any] = {**about, **record.params}
        for name in ("nll", "accuracy", "ece"):
            row[name] = record.mean(name) if record.folds else None
        row["worst_accuracy"] = min((f["accuracy"] for f in record.folds), default=None)
        row["seconds"] = sum(f["seconds"] for f in record.folds)
        for i, name in enumerate(folds):
            figures = record.folds[i] if i < len(record.folds) else {}
            row[f"nll_{name}"] = figures.get("nll")
            row[f"accuracy_{name}"] = figures.get("accuracy")
        rows.append({**row, "error": record.error})
    with atomic_write(run.trials_table) as file:
        pq.write_table(pa.Table.from_pylist(rows), file)

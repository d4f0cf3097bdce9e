"""Records of trials are read as they were written; stale or damaged files are not used.

Letters: N images, K labels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.fold_models import fit_fold
from sign_ensemble.learning.task import KINDS, FoldResult, Task, seed_of
from sign_ensemble.search import records
from sign_ensemble.search.records import (
    TrialRecord,
    evaluate_all_folds,
    evaluate_fold,
    fold_key,
    out_of_fold,
    read_records,
    write_record,
    write_table,
)

DEFAULT = MemberConfig(widths=(4, 3), epochs=1)
FOLDS_N = np.array([1, 0, 2, 2, 1, 0, 0, 2, 1, 1])


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Ten images of three signers and two labels, all noise."""
    rng = np.random.default_rng(0)
    rng.normal(size=(10, 1, HEAD_FEATURES)).astype(np.float16).tofile(tmp_path / "features.f16")
    path = str(tmp_path / "features.f16")
    return Task(
        features=CachedArray(path, np.arange(10), (1, HEAD_FEATURES), "float16"),
        labels_N=np.tile([0, 1], 5),
        folds_N=FOLDS_N,
        fold_names=("ada", "ben", "cleo"),
        labels=("U", "V"),
        seed=5,
    )


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Fold and seed of each training so far; trainings are real."""
    done: list[tuple[int, int]] = []

    def counted(task: Task, recipe: MemberConfig, fold: int, seed: int) -> Any:
        done.append((fold, seed))
        return fit_fold(task, recipe, fold, seed)

    monkeypatch.setattr(records, "fit_fold", counted)
    return done


def figures(nll: float, accuracy: float = 0.5, seconds: float = 1.0) -> dict[str, Any]:
    return {
        "fold": 0, "n": 3, "nll": nll, "accuracy": accuracy, "ece": 0.25, "epochs": 1,
        "best_epoch": 1, "seconds": seconds,
    }  # fmt: skip


# --- a fold's file --------------------------------------------------------------------------------


def test_a_fold_is_evaluated_once(run: RunFolder, task: Task, fits: list[Any]) -> None:
    first = evaluate_fold(run, task, "pixels", DEFAULT, 7, 2)
    again = evaluate_fold(run, task, "pixels", DEFAULT, 7, 2)
    assert again == first  # figures come back to the bit
    assert fits == [(2, seed_of(5, 7, 2))]
    assert (first["fold"], first["n"]) == (2, 3)


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": replace(DEFAULT, dropout=0.25)},
        {"recipe": replace(DEFAULT, widths=(4, 2))},
        {"task": {"seed": 6}},
        {"task": {"labels": ("U", "W")}},
        {"task": {"fold_names": ("ada", "ben", "dan")}},
    ],
)
def test_a_fold_is_evaluated_again_when_what_it_depends_on_changed(
    changed: dict[str, Any], run: RunFolder, task: Task, fits: list[Any]
) -> None:
    evaluate_fold(run, task, "pixels", DEFAULT, 0, 1)
    other = Task(**{**vars(task), **changed.get("task", {})})
    evaluate_fold(run, other, "pixels", changed.get("recipe", DEFAULT), 0, 1)
    assert len(fits) == 2
    evaluate_fold(run, other, "pixels", changed.get("recipe", DEFAULT), 0, 1)
    assert len(fits) == 2


def test_the_key_knows_fold_and_seed(task: Task) -> None:
    keys = {fold_key(task, "pixels", DEFAULT, fold, seed) for fold in range(3) for seed in range(3)}
    assert len(keys) == 9
    same = fold_key(task, "pixels", MemberConfig(**vars(DEFAULT)), 0, 0)
    assert fold_key(task, "pixels", DEFAULT, 0, 0) == same


def test_the_key_knows_kind_and_copies(task: Task) -> None:
    both = replace(task, kinds=KINDS, features=replace(task.features, shape=(3, HEAD_FEATURES)))
    assert (task.copies, both.copies) == (0, 2)
    keys = {fold_key(each, kind, DEFAULT, 0, 0) for each in (task, both) for kind in KINDS}
    assert len(keys) == 4


def test_a_damaged_fold_is_evaluated_again(run: RunFolder, task: Task, fits: list[Any]) -> None:
    first = evaluate_fold(run, task, "pixels", DEFAULT, 0, 0)
    path = run.trial(0) / "fold-0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    again = evaluate_fold(run, task, "pixels", DEFAULT, 0, 0)
    assert len(fits) == 2
    del first["seconds"], again["seconds"]
    assert again == first


def test_out_of_fold_logits_are_in_the_order_of_the_task(
    run: RunFolder, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def marked(task: Task, recipe: Any, fold: int, seed: int) -> Any:
        """Logits that say which image they are of: its number and its fold."""
        rows = np.flatnonzero(task.folds_N == fold)
        logits_NK = np.stack([rows, np.full(len(rows), fold)], -1).astype(np.float32)
        copies_VNK = np.stack([logits_NK + 100])
        return FoldResult(fold, len(rows), 0.5, 0.5, 0.1, 1, 1, 0.0, logits_NK, copies_VNK), None

    monkeypatch.setattr(records, "fit_fold", marked)
    evaluate_all_folds(run, task, "pixels", DEFAULT, {}, 3)
    logits_NK = out_of_fold(run, task, 3)
    assert logits_NK.tolist() == [[i, fold] for i, fold in enumerate(FOLDS_N)]
    assert logits_NK.dtype == np.float32
    assert np.array_equal(out_of_fold(run, task, 3, copy=1), logits_NK + 100)
    assert np.array_equal(out_of_fold(run, task, 3, copy=2), logits_NK)  # it was not read


def test_an_unfinished_trial_has_no_out_of_fold_predictions(run: RunFolder, task: Task) -> None:
    evaluate_fold(run, task, "pixels", DEFAULT, 0, 0)
    with pytest.raises(UserError, match=r"fold-1\.safetensors: not there"):
        out_of_fold(run, task, 0)


# --- a trial's record -----------------------------------------------------------------------------


def test_all_folds_are_evaluated_and_recorded(
    run: RunFolder, task: Task, fits: list[tuple[int, int]]
) -> None:
    record = evaluate_all_folds(run, task, "pixels", DEFAULT, {"h1": 2, "dropout": 0.25}, 4)
    assert [fold for fold, _ in fits] == [0, 1, 2]
    assert len({seed for _, seed in fits}) == 3
    assert record.status == "complete"
    assert record.nll == pytest.approx(np.mean([fold["nll"] for fold in record.folds]), abs=1e-12)
    assert read_records(run) == [record]
    logits_NK = out_of_fold(run, task, 4)
    for fold, found in enumerate(record.folds):
        logits = logits_NK[task.folds_N == fold].astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        truth = task.labels_N[task.folds_N == fold]
        by_hand = -log_probs[np.arange(len(truth)), truth].mean()
        assert found["nll"] == pytest.approx(by_hand, abs=1e-9)


def test_a_record_comes_back_to_the_bit(run: RunFolder) -> None:
    written = [
        TrialRecord(0, "complete", {"dropout": 0.1 + 0.2, "h1": 256}, (figures(1 / 3),) * 2),
        TrialRecord(1, "pruned", {"learning_rate": 1e-5}, (figures(5e-324),)),
        TrialRecord(2, "failed", {}, (), "ValueError: ß\n in line 2"),
        TrialRecord(3, "complete", {"point_noise": 0.05}, (figures(0.7),), kind="landmarks"),
    ]
    for record in reversed(written):
        write_record(run, record)
    assert read_records(run) == written
    assert [record.nll for record in read_records(run)[:2]] == [1 / 3, 5e-324]


def test_running_and_mean_figures_by_hand() -> None:
    folds = tuple(figures(nll, accuracy) for nll, accuracy in ((1.0, 0.5), (0.5, 1.0), (0.0, 0.0)))
    record = TrialRecord(0, "complete", {}, folds)
    assert record.running_nll == [1.0, 0.75, 0.5]
    assert record.nll == 0.5
    assert record.mean("accuracy") == 0.5


def test_no_trials_are_no_records(run: RunFolder) -> None:
    assert read_records(run) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"number": 0, "sta', "not valid JSON"),
        ("{}", "not a trial's record"),
        ("[]", "not a trial's record"),
        ('{"number": 0, "folds": []}', "not a trial's record"),
        (
            '{"number": 0, "status": "complete", "params": {}, "folds": [], "colour": 1}',
            "not a trial's record",
        ),
        (
            json.dumps(asdict(TrialRecord(0, "complete", {}, ({**figures(0.5), "augrc": 0.1},)))),
            "of an earlier version",
        ),
    ],
)
def test_a_damaged_record_is_named(content: str, message: str, run: RunFolder) -> None:
    write_record(run, TrialRecord(1, "complete", {}, ()))
    run.trial(0).mkdir()
    (run.trial(0) / "trial.json").write_text(content)
    with pytest.raises(UserError, match=f"0000/trial.json: {message}"):
        read_records(run)


# --- the table ------------------------------------------------------------------------------------


def test_the_table_lists_the_best_first_with_all_columns(run: RunFolder) -> None:
    run.path.mkdir()
    params = {"dropout": 0.5, "h1": 256}
    rows = [
        TrialRecord(0, "complete", params, (figures(0.5, 0.9, 2.0), figures(0.7, 0.8, 3.0))),
        TrialRecord(1, "failed", params, (), "broke"),
        TrialRecord(2, "pruned", params, (figures(0.1),)),
        TrialRecord(3, "complete", params, (figures(0.2), figures(0.4, 0.25))),
    ]
    write_table(run, rows, ("ada", "ben+cleo"))
    table = pq.read_table(run.trials_table)
    assert table.column_names == [
        "number", "kind", "status", "dropout", "h1", "nll", "accuracy", "ece",
        "worst_accuracy", "seconds", "nll_ada", "accuracy_ada", "nll_ben+cleo",
        "accuracy_ben+cleo", "error",
    ]  # fmt: skip
    found = table.to_pylist()
    assert [row["number"] for row in found] == [3, 0, 2, 1]
    second, pruned, failed = found[1:]
    assert (second["nll"], second["worst_accuracy"], second["seconds"]) == (0.6, 0.8, 5.0)
    assert (second["nll_ada"], second["accuracy_ben+cleo"]) == (0.5, 0.8)
    assert (pruned["nll"], pruned["nll_ada"], pruned["nll_ben+cleo"]) == (0.1, 0.1, None)
    assert (failed["nll"], failed["worst_accuracy"], failed["error"]) == (None, None, "broke")


def test_a_table_of_failures_can_be_written(run: RunFolder) -> None:
    run.path.mkdir()
    write_table(run, [TrialRecord(0, "failed", {"h1": 2}, (), "broke")], ("ada",))
    assert pq.read_table(run.trials_table).to_pylist()[0]["seconds"] == 0


def test_a_record_is_plain_json(run: RunFolder) -> None:
    write_record(run, TrialRecord(12, "pruned", {"h1": 2}, (figures(0.5),)))
    assert json.loads((run.path / "trials" / "0012" / "trial.json").read_text()) == {
        "number": 12,
        "status": "pruned",
        "params": {"h1": 2},
        "folds": [figures(0.5)],
        "error": "",
        "kind": "pixels",
    }

"""Which trials become members.

Letters: N images, K labels.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.atomic_files import write_arrays
from sign_ensemble.core.config import EnsembleConfig, SearchConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.members import select
from sign_ensemble.search.records import TrialRecord

IMAGES = 60


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """Three labels by two signers."""
    labels, folds = (x.ravel() for x in np.indices((3, IMAGES // 3)))
    features = CachedArray("nowhere", np.arange(IMAGES), (1, 4), "float16")
    task = Task(features, labels, folds % 2, ("eve", "fay"), ("a", "b", "c"), 0)
    return SimpleNamespace(task=task, run=RunFolder(tmp_path))


def recorded(prepared: Any, number: int, nll: float, probability: float) -> TrialRecord:
    """A complete trial of this recorded loss, whose out-of-fold predictions give every true label
    this probability.
    """
    task = prepared.task
    probs_NK = np.full((IMAGES, 3), (1 - probability) / 2)
    probs_NK[np.arange(IMAGES), task.labels_N] = probability
    for fold in (0, 1):
        logits = np.log(probs_NK[task.folds_N == fold]).astype(np.float32)
        path = prepared.run.trial(number) / f"fold-{fold}.safetensors"
        write_arrays(path, {"logits": logits})
    return TrialRecord(number, "complete", {}, ({"nll": nll}, {"nll": nll}))


def test_members_are_selected_as_the_method_says(prepared: Any) -> None:
    prepared.config = SimpleNamespace(search=SearchConfig())
    records = [recorded(prepared, 2, 2.0, 0.9), recorded(prepared, 1, 1.0, 0.8)]

    def votes(**ensemble: Any) -> dict[int, int]:
        prepared.config.ensemble = EnsembleConfig(**ensemble)
        return select(prepared, records)

    assert votes(size=1) == {1: 1}  # by the recorded loss
    assert votes(size=1, method="greedy") == {2: 1}  # by the loss of what they predict
    records.append(TrialRecord(0, "complete", {}, ({"nll": 0.5},) * 2))
    assert list(votes(size=3)) == [0, 1, 2]
    assert list(votes(size=2)) == [0, 1]

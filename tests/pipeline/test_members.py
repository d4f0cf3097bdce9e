"""Greedy selection by what the rule answers: members that are unsure of negatives are worth more.

Letters: N images, G negatives, K labels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.atomic_files import write_arrays
from sign_ensemble.core.config import EnsembleConfig, RejectionConfig, SearchConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data import backbone
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.members import loss_of_signs, rule_risk, select
from sign_ensemble.search.records import TrialRecord
from sign_ensemble.search.selection import fold_mean_nll, greedy

IMAGES, MADE = 60, 12


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """Three labels by two signers; negatives as near to the images as these to each other."""
    labels, folds = (x.ravel() for x in np.indices((3, IMAGES // 3)))
    rng = np.random.default_rng(0)

    def drawn(labels: np.ndarray) -> np.ndarray:
        x_NA = rng.uniform(0, 1, (len(labels), backbone.ALL_FEATURES)).astype(np.float16)
        for label in range(3):
            x_NA[labels == label, 40 * label : 40 * label + 40] += 4
        return x_NA

    drawn(labels)[:, None].tofile(tmp_path / "features.f16")
    features = CachedArray(
        str(tmp_path / "features.f16"), np.arange(IMAGES), (1, backbone.ALL_FEATURES), "float16"
    )
    run = RunFolder(tmp_path)
    made_GA = drawn(np.arange(MADE) % 3)
    write_arrays(
        run.negatives,
        {
            "features": made_GA[:, : backbone.HEAD_FEATURES],
            "fourth": made_GA[:, backbone.HEAD_FEATURES :],
            "folds": np.arange(MADE) % 2,
            "kinds": np.arange(MADE) // 2 % 2,
        },
        {"kinds": ["joined", "cut"]},
    )
    task = Task(features, labels, folds % 2, ("eve", "fay"), ("a", "b", "c"), "", 0)
    config = SimpleNamespace(rejection=RejectionConfig(neighbours=1, hand_count_images=0))
    return SimpleNamespace(task=task, run=run, config=config)


def said(task: Task, sure_of_signs: float, sure_of_negatives: float) -> np.ndarray:
    """Probabilities of signs, all read rightly, and after them of negatives."""
    sure = np.r_[np.full(IMAGES, sure_of_signs), np.full(MADE, sure_of_negatives)]
    sure = sure + np.linspace(0, 0.01, len(sure))  # no ties
    probs = np.repeat((1 - sure[:, None]) / 2, 3, 1)
    probs[np.arange(len(sure)), np.r_[task.labels_N, np.zeros(MADE, int)]] = sure
    return probs


def test_whoever_is_unsure_of_negatives_lowers_the_rules_risk(prepared: Any) -> None:
    risk = rule_risk(prepared)
    unsure, sure = said(prepared.task, 0.8, 0.4), said(prepared.task, 0.9, 0.98)
    assert risk(unsure) < risk(sure)
    loss = loss_of_signs(prepared)
    assert loss(unsure) > loss(sure)  # which knows nothing of negatives
    trials = {0: sure, 1: unsure}
    assert greedy(trials, risk, 1) == {1: 1}
    assert greedy(trials, loss, 1) == {0: 1}


def written(prepared: Any, number: int, probs: np.ndarray) -> TrialRecord:
    """A complete trial that said so, with its files, and a loss as if it were 1, 2, 3, ..."""
    task = prepared.task
    logits = np.log(probs).astype(np.float32)
    for fold in (0, 1):
        arrays = {
            "logits": logits[:IMAGES][task.folds_N == fold],
            "negative_logits": logits[IMAGES:][np.arange(MADE) % 2 == fold],
        }
        write_arrays(prepared.run.trial(number) / f"fold-{fold}.safetensors", arrays)
    figures = {"nll": float(number), "augrc": float(-number)}
    return TrialRecord(number, "complete", {}, (figures, figures))


def test_members_are_selected_by_what_is_asked_for(prepared: Any) -> None:
    task = prepared.task
    prepared.task = replace(task, negatives=str(prepared.run.negatives))
    unsure, sure = said(task, 0.8, 0.4), said(task, 0.9, 0.98)
    records = [written(prepared, 2, sure), written(prepared, 1, unsure)]

    def votes(objective: Any, **ensemble: Any) -> dict[int, int]:
        prepared.config.ensemble = EnsembleConfig(size=1, **ensemble)
        prepared.config.search = SearchConfig(objective=objective)
        return select(prepared, records)

    assert votes("nll") == {1: 1}
    assert votes("nll", method="greedy") == {2: 1}  # the ensemble's own loss, of what it said
    assert votes("nll", method="greedy", lowers="augrc") == {1: 1}
    worse = TrialRecord(0, "complete", {}, ({"nll": 0.5, "augrc": 0.5},) * 2)
    records.append(worse)
    assert votes("nll") == {0: 1}
    records.append(TrialRecord(3, "complete", {}, ({"nll": 0.6, "augrc": 0.6},) * 2))
    prepared.config.ensemble = EnsembleConfig(size=3)
    assert list(select(prepared, records)) == [0, 3, 1]
    prepared.config.search = SearchConfig(objective="nll+augrc")
    assert list(select(prepared, records)) == [0, 1, 2]  # 3 is beaten by 0, the others by none


def test_the_loss_is_of_the_signs(prepared: Any) -> None:
    probs, task = said(prepared.task, 0.8, 0.4), prepared.task
    by_hand = fold_mean_nll(probs[:IMAGES], task.labels_N, task.folds_N)
    assert loss_of_signs(prepared)(probs) == by_hand


def test_a_misread_sign_raises_the_risk(prepared: Any) -> None:
    risk, right = rule_risk(prepared), said(prepared.task, 0.8, 0.4)
    wrong = right.copy()
    wrong[0] = np.roll(wrong[0], 1)
    assert risk(wrong) > risk(right)

"""Labels held out in groups, and what stands for a wrong gesture then.

Letters: N images, D features.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.config import RejectionConfig
from sign_ensemble.data import backbone
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.held_out_labels import held_out_scores, label_groups
from sign_ensemble.pipeline.out_of_signer import reference_set_of
from sign_ensemble.rejection.held_out_statistics import in_distribution_of, statistics_by_signer


@pytest.mark.parametrize(
    ("labels", "sizes"), [(26, [6, 5, 5]), (5, [1, 1, 1]), (4, [1, 1, 1]), (3, [1, 1, 1])]
)
def test_a_fifth_of_the_labels_at_a_time(labels: int, sizes: list[int]) -> None:
    groups = label_groups(labels, 3, seed=0)
    assert [len(group) for group in groups] == sizes
    together = np.concatenate(groups)
    assert len(np.unique(together)) == len(together)
    assert all((np.diff(group) > 0).all() for group in groups)


def test_five_groups_hold_every_label_once() -> None:
    assert np.sort(np.concatenate(label_groups(26, 5, seed=0))).tolist() == list(range(26))


def test_two_labels_must_be_left() -> None:
    assert label_groups(2, 3, seed=0) == []
    assert label_groups(26, 0, seed=0) == []
    assert all(len(group) == 1 for group in label_groups(3, 5, seed=0))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Three labels by two signers, five images each; a label's own features are high."""
    labels, folds = (x.ravel() for x in np.indices((3, 10)))
    shape = (30, 1, backbone.ALL_FEATURES)
    x_ND = np.random.default_rng(0).uniform(0, 0.1, shape).astype(np.float16)
    for label in range(3):
        x_ND[labels == label, 0, 40 * label : 40 * label + 40] = 4
    x_ND.tofile(tmp_path / "features.f16")
    features = CachedArray(
        str(tmp_path / "features.f16"),
        np.arange(30),
        shape[1:],
        "float16",
        columns=(0, backbone.HEAD_FEATURES),
    )
    return Task(features, labels, folds % 2, ("eve", "fay"), ("a", "b", "c"), 0)


def test_held_out_labels_need_no_training_and_are_told_from_signs(task: Task) -> None:
    config = SimpleNamespace(rejection=RejectionConfig(held_out_groups=1))
    prepared: Any = SimpleNamespace(task=task, config=config)
    rows = np.arange(30)
    (found,) = held_out_scores(prepared, reference_set_of(task, rows), rows)
    (out,) = label_groups(3, 1, task.seed)
    held_out_N = np.isin(task.labels_N, out)
    assert set(found.scores) == {"regional_mahalanobis", "knn_distance"}  # no hand-count pictures
    assert np.array_equal(found.groups_N, task.folds_N)
    assert np.array_equal(found.held_out_N, held_out_N)
    # every image of the held-out label is farther from the others than any other image
    knn_N = found.scores["knn_distance"]
    assert knn_N[held_out_N].min() > knn_N[~held_out_N].max()

    known = in_distribution_of([found], 0.5)
    assert known
    signs, ood = statistics_by_signer(found)[0]
    assert (len(signs), len(ood)) == (10, 5)
    assert known.of(signs).mean() > 0.8
    assert known.of(ood).max() < 0.2
    assert in_distribution_of([found], 0.0) is None  # not wanted
    assert in_distribution_of([], 0.5) is None  # nothing to fit it to

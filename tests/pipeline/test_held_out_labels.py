"""Labels left out of the training, and what stands for a wrong gesture then.

Letters: N images, K labels, E features.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sign_ensemble.core.config import MemberConfig, RejectionConfig, SearchConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data import backbone
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning import parallel_heads
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.calibration import believed
from sign_ensemble.pipeline.held_out_labels import (
    label_parts,
    left_out_distances,
    logits_of_parts,
    logits_without,
)
from sign_ensemble.pipeline.out_of_signer import reference_set_of
from sign_ensemble.rejection.candidates import Candidate
from sign_ensemble.rejection.choose import LEFT_OUT, statistics, strangers
from sign_ensemble.rejection.scores import DISTANCES


@pytest.mark.parametrize(
    ("labels", "sizes"), [(26, [6, 5, 5]), (5, [1, 1, 1]), (4, [1, 1, 1]), (3, [1, 1, 1])]
)
def test_a_fifth_of_the_labels_at_a_time(labels: int, sizes: list[int]) -> None:
    parts = label_parts(labels, 3, seed=0)
    assert [len(part) for part in parts] == sizes
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert all((np.diff(part) > 0).all() for part in parts)


def test_five_parts_hold_every_label_once() -> None:
    assert np.sort(np.concatenate(label_parts(26, 5, seed=0))).tolist() == list(range(26))


def test_two_labels_must_be_left() -> None:
    assert label_parts(2, 3, seed=0) == []
    assert label_parts(26, 0, seed=0) == []
    assert all(len(part) == 1 for part in label_parts(3, 5, seed=0))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Three labels by two signers, five images each; a label's own features are high."""
    labels, folds = (x.ravel() for x in np.indices((3, 10)))
    x_NA = (
        np.random.default_rng(0).uniform(0, 0.1, (30, 1, backbone.ALL_FEATURES)).astype(np.float16)
    )
    for label in range(3):
        x_NA[labels == label, 0, 40 * label : 40 * label + 40] = 4
    x_NA.tofile(tmp_path / "features.f16")
    features = CachedArray(
        str(tmp_path / "features.f16"),
        np.arange(30),
        (1, backbone.ALL_FEATURES),
        "float16",
        columns=backbone.HEAD_FEATURES,
    )
    return Task(features, labels, folds % 2, ("eve", "fay"), ("a", "b", "c"), "", 0)


def test_networks_do_not_know_the_label_left_out(task: Task) -> None:
    recipe = MemberConfig(widths=(32, 16), dropout=0.0, learning_rate=1e-3, validation_share=0.0)
    for fold in (0, 1):
        logits = logits_without(task, recipe, np.array([1]), 0, fold)
        labels = task.labels_N[task.folds_N == fold]
        assert logits.shape == (15, 2)
        known = labels != 1
        assert (logits[known].argmax(1) == labels[known] // 2).all()  # a and c, learnt
        assert np.array_equal(logits, logits_without(task, recipe, np.array([1]), 0, fold))


def prepared_in(folder: Path, task: Task) -> Any:
    """What :func:`logits_of_parts` needs of a run."""
    config = SimpleNamespace(search=SearchConfig())
    return SimpleNamespace(run=RunFolder(folder / "run"), task=task, config=config)


@pytest.mark.usefixtures("ray_two_cpus", "one_thread")
def test_workers_train_them_all(task: Task, tmp_path: Path) -> None:
    recipe = MemberConfig(widths=(8, 4), epochs=1, validation_share=0.0)
    parts = [np.array([1]), np.array([0, 2])]
    found = logits_of_parts(prepared_in(tmp_path, task), recipe, parts)
    for number, (out, logits_NK) in enumerate(zip(parts, found, strict=True)):
        for fold in (0, 1):
            alone = logits_without(task, recipe, out, number, fold)
            assert np.array_equal(logits_NK[task.folds_N == fold], alone)


@pytest.mark.usefixtures("ray_two_cpus")
def test_what_was_done_before_an_interruption_is_kept(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = MemberConfig(widths=(8, 4), epochs=1, validation_share=0.0)
    prepared = prepared_in(tmp_path, task)
    (first,) = logits_of_parts(prepared, recipe, [np.array([1])])
    trained: list[int] = []
    over_cluster = parallel_heads.map_over_cluster

    def counted(work: Any, pieces: Any, *more: Any) -> Any:
        trained.extend(piece.part for piece in pieces)
        return over_cluster(work, pieces, *more)

    monkeypatch.setattr(parallel_heads, "map_over_cluster", counted)
    again = logits_of_parts(prepared, recipe, [np.array([1]), np.array([2])])
    assert np.array_equal(again[0], first)
    assert trained == [1, 1]


def test_distances_alone_need_no_network(task: Task) -> None:
    config = SimpleNamespace(rejection=RejectionConfig(held_out_groups=1))
    prepared: Any = SimpleNamespace(task=task, config=config)
    chosen = np.arange(30)
    (found,) = left_out_distances(prepared, reference_set_of(task, chosen), chosen)
    (out,) = label_parts(3, 1, task.seed)
    strange_N = np.isin(task.labels_N, out)
    assert set(found.scores) == set(found.negatives) == set(DISTANCES - {"no_hand", "two_hands"})
    assert np.array_equal(found.groups_C, task.folds_N[~strange_N])
    assert np.array_equal(found.groups_G, task.folds_N[strange_N])
    assert set(found.kinds_G) == {LEFT_OUT}
    # every image of the label left out is farther from the others than any of these
    assert found.negatives["neighbour"].min() > found.scores["neighbour"].max()

    near = Candidate(("neighbour",), "smallest")
    belief = believed(near, [found], 0.5)
    assert belief
    assert belief.of(statistics(near, strangers(found)[0].signs)).min() > 0.8
    assert belief.of(statistics(near, strangers(found)[0].negatives[LEFT_OUT])).max() < 0.2
    assert believed(near, [found], 0.0) is None  # not asked for
    assert believed(near, [], 0.5) is None  # nothing tells

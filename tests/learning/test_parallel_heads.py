"""Projecting every fold's training images on principal components, in threads or workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning import parallel_heads
from sign_ensemble.learning.parallel_heads import project_fold, project_folds
from sign_ensemble.learning.task import Task


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Drawn features of twelve images and an augmented copy each, four of each of three signers."""
    values = np.random.default_rng(0).normal(size=(12, 2, HEAD_FEATURES)).astype(np.float16)
    values.tofile(tmp_path / "features.f16")
    features = CachedArray(
        str(tmp_path / "features.f16"), np.arange(12), (2, HEAD_FEATURES), "float16"
    )
    folds_N, names = np.arange(12) % 3, ("ada", "ben", "cleo")
    return Task(features, np.zeros(12, np.int64), folds_N, names, ("U",), 0)


@pytest.mark.usefixtures("ray_two_cpus")
def test_later_threads_compute_with_as_many_as_before() -> None:
    """torch gives a new thread what was set last, in whichever thread."""

    def threads_of_a_new_one() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    def work(item: int, shared: None) -> int:
        return torch.get_num_threads()

    here = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert sorted(parallel_heads.map_in_process(work, [0, 1], None, 1)) == [(0, 1), (1, 1)]
        assert threads_of_a_new_one() == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(here)


@pytest.mark.usefixtures("ray_two_cpus", "one_thread")
@pytest.mark.parametrize("machines", [1, 2])
def test_every_fold_s_projection_has_the_same_bits(
    machines: int, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By threads of this process where the cluster is this machine alone, else by workers."""
    by_workers: list[int] = []
    over_cluster = parallel_heads.map_over_cluster

    def counted(work: Any, items: Any, *more: Any) -> Any:
        by_workers.extend(items)
        return over_cluster(work, items, *more)

    monkeypatch.setattr(parallel_heads, "map_over_cluster", counted)
    steps: list[tuple[int, int]] = []
    found = project_folds(task, 5, 1, 0.0, machines > 1, lambda done, of: steps.append((done, of)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert len(found) == 3
    assert by_workers == ([] if machines == 1 else [0, 1, 2])
    for fold in range(3):
        key, alone = project_fold(fold, (task, 5))
        assert np.array_equal(found[key].coordinates_NVP, alone.coordinates_NVP)
        assert np.array_equal(found[key].subspace.components_PD, alone.subspace.components_PD)


@pytest.mark.usefixtures("ray_two_cpus")
@pytest.mark.parametrize(("components", "room"), [(0, 0.2), (HEAD_FEATURES, 0.2), (5, 0.0)])
def test_nothing_is_projected_without_need_or_room(
    components: int, room: float, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_heads, "MEMORY_SHARE", room)
    assert project_folds(task, components, 1, 0.0, False, lambda done, of: None) == {}

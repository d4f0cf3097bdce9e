"""Principal components by hand and against numpy's, and heads trained on them.

Letters: N images, V an image and its augmented copies, D features, P principal components.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from sign_ensemble.core import bf16_products
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning import head_training, principal_components
from sign_ensemble.learning.head_training import fit_rows, train_head
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.parallel_heads import project_fold
from sign_ensemble.learning.principal_components import (
    cached_projection,
    fit_principal_components,
    project_images,
)
from sign_ensemble.learning.task import Task

CPU = torch.device("cpu")
RECIPE = MemberConfig(
    widths=(32, 16), dropout=0.0, learning_rate=1e-3, epochs=10, batch_size=8, validation_share=0.0
)

pytestmark = pytest.mark.usefixtures("one_thread")


def cached(folder: Path, values: np.ndarray) -> CachedArray:
    """A file of features (R, V, D) in which image n has row R - 1 - n."""
    path = folder / "features.f16"
    path.write_bytes(values.astype(np.float16).tobytes())
    order = np.arange(len(values))[::-1].copy()
    return CachedArray(str(path), order, values.shape[1:], "float16")


# --- components -----------------------------------------------------------------------------------


def test_components_by_hand() -> None:
    # deviations from (1, 2, 3): ±3 along the second axis, ±1 along the first
    x_ND = torch.tensor([[1.0, 5.0, 3.0], [1.0, -1.0, 3.0], [2.0, 2.0, 3.0], [0.0, 2.0, 3.0]])
    subspace = fit_principal_components(x_ND, 2)
    assert subspace.mean_D.tolist() == [1.0, 2.0, 3.0]
    assert np.abs(subspace.components_PD) == pytest.approx(
        np.array([[0, 1, 0], [1, 0, 0]]), abs=1e-6
    )
    assert np.abs(fit_principal_components(x_ND, 1).components_PD[0]) == pytest.approx(
        [0, 1, 0], abs=1e-6
    )
    assert subspace.rate_factor == pytest.approx(sqrt(3 / 2))


def test_images_that_span_less_give_fewer_components() -> None:
    x_ND = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    assert fit_principal_components(x_ND, 3).components_PD.shape == (1, 3)
    assert np.abs(fit_principal_components(x_ND[:, :2], 9).components_PD[0]) == pytest.approx(
        [1, 0], abs=1e-6
    )


def test_components_are_numpys_singular_vectors() -> None:
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(40, 200)) * np.linspace(5, 0.1, 200)
    found = fit_principal_components(torch.from_numpy(x_ND).float(), 10).components_PD
    assert found @ found.T == pytest.approx(np.eye(10), abs=1e-4)
    *_, right = np.linalg.svd(x_ND - x_ND.mean(0), full_matrices=False)
    assert np.abs(found @ right[:10].T) == pytest.approx(np.eye(10), abs=1e-3)


def test_images_in_the_span_are_reconstructed() -> None:
    rng = np.random.default_rng(1)
    x_ND = torch.from_numpy(7 + rng.normal(size=(12, 3)) @ rng.normal(size=(3, 50))).float()
    subspace = fit_principal_components(x_ND, 8)
    assert len(subspace.components_PD) == 3
    back_ND = subspace.project(x_ND).numpy() @ subspace.components_PD + subspace.mean_D
    assert back_ND == pytest.approx(x_ND.numpy(), abs=1e-4)


def test_an_unprojected_head_is_equivalent() -> None:
    rng = np.random.default_rng(2)
    subspace = fit_principal_components(
        torch.from_numpy(rng.normal(3, 2, size=(30, 60))).float(), 9
    )
    head = Head(9, (5, 4), 3, dropout=0.4).eval()
    unprojected = subspace.unproject(head)
    assert not unprojected.training  # else dropout would be on
    assert subspace.unproject(head.train()).training
    head.eval()
    unseen_ND = torch.from_numpy(rng.normal(size=(20, 60))).float()
    with torch.no_grad():
        after, before = unprojected.logits(unseen_ND), head.logits(subspace.project(unseen_ND))
    assert after.numpy() == pytest.approx(before.numpy(), abs=1e-4)
    dropouts = [layer for layer in unprojected.layers if isinstance(layer, torch.nn.Dropout)]
    assert [layer.p for layer in dropouts] == [0.4, 0.4]
    assert unprojected.layers[0].weight.shape == (5, 60)


# --- training images ------------------------------------------------------------------------------


# largest error of a coordinate near 4: float16 keeps 11 bits of it, bf16 8 of it and of factors
ROUNDED = pytest.mark.parametrize(("half", "off"), [(False, 5e-3), (True, 3e-2)])


@ROUNDED
def test_images_are_projected_with_their_augmented_copies(
    half: bool, off: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bf16_products, "bf16_is_fast", lambda device: half)
    rng = np.random.default_rng(3)
    values = rng.normal(size=(9, 2, 40)).astype(np.float16)
    features = cached(tmp_path, values)
    rows = features.row_N[:7]  # 8 to 2: the two others are not used
    projected = project_images(features, rows, 4, CPU)
    of_rows = torch.from_numpy(values[rows])
    assert projected.coordinates_NVP.shape == (7, 2, 4)
    assert projected.coordinates_NVP.dtype == np.float16
    in_turn = of_rows[np.arange(7), np.arange(7) % 2]  # as it is, augmented, as it is, ...
    own = fit_principal_components(in_turn.float(), 4)
    assert np.array_equal(projected.subspace.components_PD, own.components_PD)
    assert projected.coordinates_NVP == pytest.approx(own.project(of_rows).numpy(), abs=off)


@ROUNDED
def test_components_are_fitted_on_some_of_many_images(
    half: bool, off: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bf16_products, "bf16_is_fast", lambda device: half)
    values = np.random.default_rng(4).normal(size=(11, 1, 30)).astype(np.float16)
    features = cached(tmp_path, values)
    monkeypatch.setattr(principal_components, "MAX_FITTED", 4)
    monkeypatch.setattr(principal_components, "CHUNK_BYTES", 2 * 30 * 4)  # two images: six chunks
    projected = project_images(features, features.row_N, 3, CPU)
    every_third = torch.from_numpy(values[features.row_N[::3], 0]).float()
    assert np.array_equal(projected.subspace.mean_D, every_third.mean(0).numpy())
    everyone = projected.subspace.project(torch.from_numpy(values[features.row_N]))
    assert projected.coordinates_NVP == pytest.approx(everyone.numpy(), abs=off)


def test_a_process_caches_projections_within_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = cached(tmp_path, np.random.default_rng(5).normal(size=(8, 1, 20)))
    # room for two projections of five images on three components
    monkeypatch.setattr(principal_components, "CACHE_BYTES", 2 * 5 * 3 * 2)
    monkeypatch.setattr(principal_components, "_CACHE", type(principal_components._CACHE)())
    rows = [features.row_N[i : i + 5] for i in range(3)]
    first, second = (cached_projection(features, each, 3, CPU) for each in rows[:2])
    assert cached_projection(features, rows[0], 3, CPU) is first
    assert cached_projection(features, rows[0], 2, CPU) is not first
    third = cached_projection(features, rows[2], 3, CPU)
    assert cached_projection(features, rows[2], 3, CPU) is third
    assert cached_projection(features, rows[1], 3, CPU) is not second  # used longest ago


# --- a head ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """60 images of 3 signers and 3 labels with an augmented copy each; labels are clusters."""
    rng = np.random.default_rng(0)
    labels_N, folds_N = np.tile(np.arange(3), 20), np.repeat(np.arange(3), 20)
    middle = rng.normal(size=(3, HEAD_FEATURES))
    values = middle[labels_N][:, None] + 0.5 * rng.normal(size=(60, 2, HEAD_FEATURES))
    features = cached(tmp_path_factory.mktemp("task"), values[::-1])
    return Task(features, labels_N, folds_N, ("ada", "ben", "cleo"), ("a", "b", "c"), 0)


def bits(head: Head) -> bytes:
    return b"".join(tensor.cpu().numpy().tobytes() for tensor in head.state_dict().values())


@pytest.mark.parametrize("components", [0, 10, 512])
def test_a_separable_problem_is_learned_and_takes_features(task: Task, components: int) -> None:
    rows = np.flatnonzero(task.folds_N != 1)
    head, _ = fit_rows(task, replace(RECIPE, components=components), rows, seed=0)
    assert head.layers[0].in_features == HEAD_FEATURES
    unseen = task.folds_N == 1
    logits_NK = logits_of(head, task.features.open()[task.features.row_N[unseen], 0])
    assert np.array_equal(logits_NK.argmax(1), task.labels_N[unseen])


def test_the_first_layer_is_in_the_components_span(task: Task) -> None:
    head, _ = fit_rows(task, replace(RECIPE, components=5), np.arange(40), seed=0)
    weights = head.state_dict()["layers.0.weight"].numpy()
    assert np.linalg.matrix_rank(weights, tol=1e-3) == 5
    subspace = cached_projection(task.features, task.features.row_N[:40], 5, CPU).subspace
    inside = weights @ subspace.components_PD.T @ subspace.components_PD
    assert inside == pytest.approx(weights, abs=1e-5)


def test_a_cached_projection_changes_no_bit(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = fit_rows(task, RECIPE, np.arange(40), seed=3)
    again, _ = fit_rows(task, RECIPE, np.arange(40), seed=3)
    monkeypatch.setattr(principal_components, "_CACHE", type(principal_components._CACHE)())
    anew, _ = fit_rows(task, RECIPE, np.arange(40), seed=3)
    assert bits(first) == bits(again) == bits(anew)


def test_a_given_projection_is_used_and_may_be_read_only(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.flatnonzero(task.folds_N != 1)
    alone, _ = fit_rows(task, RECIPE, rows, seed=3)
    key, projected = project_fold(1, (task, RECIPE.components))
    arrays = (
        projected.coordinates_NVP, projected.subspace.mean_D, projected.subspace.components_PD,
    )  # fmt: skip
    for array in arrays:  # as Ray's shared memory gives them
        array.flags.writeable = False
    monkeypatch.delattr(head_training, "cached_projection")
    shared, _ = fit_rows(replace(task, projected={key: projected}), RECIPE, rows, seed=3)
    assert bits(shared) == bits(alone)


def test_held_out_images_are_not_used(task: Task, tmp_path: Path) -> None:
    values = np.array(task.features.open())
    values[task.features.row_N[40:]] += 5  # cleo's
    moved = replace(task, features=cached(tmp_path, values))
    rows = np.arange(40)
    assert bits(fit_rows(task, RECIPE, rows, 0)[0]) == bits(fit_rows(moved, RECIPE, rows, 0)[0])


@pytest.mark.parametrize("components", [0, 5])
def test_logits_on_components_are_those_on_features(task: Task, components: int) -> None:
    rows = np.arange(40)
    trained = train_head(task, replace(RECIPE, components=components), rows, seed=3)
    finished, fitted = fit_rows(task, replace(RECIPE, components=components), rows, seed=3)
    assert bits(trained.on_features()) == bits(finished)
    assert trained.fitted == fitted
    unseen = np.random.default_rng(1).normal(size=(1100, HEAD_FEATURES)).astype(np.float16)
    found = trained.logits("all", lambda: unseen)  # more than a chunk
    assert found == pytest.approx(logits_of(finished, unseen), abs=1e-4)
    assert trained.logits("two", lambda: unseen[7:9]) == pytest.approx(found[7:9], abs=1e-4)
    assert trained.logits("none", lambda: unseen[:0]).shape == (0, len(task.labels))


def test_unseen_images_are_projected_once_for_each_subspace(task: Task) -> None:
    unseen = np.random.default_rng(1).normal(size=(3, HEAD_FEATURES)).astype(np.float16)
    times = []

    def read() -> np.ndarray:
        times.append(1)
        return unseen

    for rows in (np.arange(40), np.arange(20, 60)):
        for seed in (3, 4):
            trained = train_head(task, replace(RECIPE, components=5), rows, seed)
            finished = logits_of(trained.on_features(), unseen)
            assert trained.logits("three", read) == pytest.approx(finished, abs=1e-4)
    assert len(times) == 2  # other signers, other components


def test_the_cache_of_unseen_images_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cache: OrderedDict[str, torch.Tensor] = OrderedDict()
    monkeypatch.setattr(principal_components, "_UNSEEN_CACHE", cache)
    # two images of four coordinates
    monkeypatch.setattr(principal_components, "UNSEEN_CACHE_BYTES", 2 * 4 * 4)
    x_ND = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 6))).float()
    subspace = fit_principal_components(x_ND, 4)
    images = np.random.default_rng(1).normal(size=(5, 1, 6)).astype(np.float16)
    for number, one in enumerate(images):
        found = principal_components.cached_unseen_projection(str(number), subspace, one.view, CPU)
        assert torch.equal(found, subspace.project(torch.from_numpy(one)))
        assert len(cache) <= 2

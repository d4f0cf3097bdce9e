"""Principal directions by hand, against numpy's, and what a head makes of them.

Letters: N images, V views, D features, K directions.
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


def slots(folder: Path, values: np.ndarray) -> CachedArray:
    """A file of features (R, V, features) in which image n has slot R - 1 - n."""
    path = folder / "features.f16"
    path.write_bytes(values.astype(np.float16).tobytes())
    order = np.arange(len(values))[::-1].copy()
    return CachedArray(str(path), order, values.shape[1:], "float16")


# --- directions -----------------------------------------------------------------------------------


def test_directions_by_hand() -> None:
    # deviations from (1, 2, 3): ±3 along the second axis, ±1 along the first
    x_ND = torch.tensor([[1.0, 5.0, 3.0], [1.0, -1.0, 3.0], [2.0, 2.0, 3.0], [0.0, 2.0, 3.0]])
    space = fit_principal_components(x_ND, 2)
    assert space.mean_D.tolist() == [1.0, 2.0, 3.0]
    assert np.abs(space.components_PD) == pytest.approx(np.array([[0, 1, 0], [1, 0, 0]]), abs=1e-6)
    assert np.abs(fit_principal_components(x_ND, 1).components_PD[0]) == pytest.approx(
        [0, 1, 0], abs=1e-6
    )
    assert space.rate_factor == pytest.approx(sqrt(3 / 2))


def test_images_that_span_less_give_fewer_directions() -> None:
    x_ND = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    assert fit_principal_components(x_ND, 3).components_PD.shape == (1, 3)
    assert np.abs(fit_principal_components(x_ND[:, :2], 9).components_PD[0]) == pytest.approx(
        [1, 0], abs=1e-6
    )


def test_directions_are_numpys_singular_vectors() -> None:
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(40, 200)) * np.linspace(5, 0.1, 200)
    found = fit_principal_components(torch.from_numpy(x_ND).float(), 10).components_PD
    assert found @ found.T == pytest.approx(np.eye(10), abs=1e-4)
    *_, right = np.linalg.svd(x_ND - x_ND.mean(0), full_matrices=False)
    assert np.abs(found @ right[:10].T) == pytest.approx(np.eye(10), abs=1e-3)


def test_what_the_directions_span_is_kept() -> None:
    rng = np.random.default_rng(1)
    x_ND = torch.from_numpy(7 + rng.normal(size=(12, 3)) @ rng.normal(size=(3, 50))).float()
    space = fit_principal_components(x_ND, 8)
    assert len(space.components_PD) == 3
    back_ND = space.project(x_ND).numpy() @ space.components_PD + space.mean_D
    assert back_ND == pytest.approx(x_ND.numpy(), abs=1e-4)


def test_a_head_that_leaves_answers_as_before() -> None:
    rng = np.random.default_rng(2)
    space = fit_principal_components(torch.from_numpy(rng.normal(3, 2, size=(30, 60))).float(), 9)
    head = Head(9, (5, 4), 3, dropout=0.4).eval()
    end_to_end = space.unproject(head)
    assert not end_to_end.training  # else dropout would speak
    assert space.unproject(head.train()).training
    head.eval()
    strange_ND = torch.from_numpy(rng.normal(size=(20, 60))).float()
    with torch.no_grad():
        said, before = end_to_end.logits(strange_ND), head.logits(space.project(strange_ND))
    assert said.numpy() == pytest.approx(before.numpy(), abs=1e-4)
    assert [layer.p for layer in end_to_end.layers if isinstance(layer, torch.nn.Dropout)] == [
        0.4,
        0.4,
    ]
    assert end_to_end.layers[0].weight.shape == (5, 60)


# --- training images ------------------------------------------------------------------------------


# what a coordinate near 4 may be off by: float16 keeps 11 bits of it, bf16 8 of it and of factors
ROUNDED = pytest.mark.parametrize(("half", "off"), [(False, 5e-3), (True, 3e-2)])


@ROUNDED
def test_images_enter_with_their_views(
    half: bool, off: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bf16_products, "bf16_is_fast", lambda device: half)
    rng = np.random.default_rng(3)
    values = rng.normal(size=(9, 2, 40)).astype(np.float16)
    features = slots(tmp_path, values)
    chosen = features.row_N[:7]  # slots 8 to 2: the two others have no say
    projected = project_images(features, chosen, 4, CPU)
    mine = torch.from_numpy(values[chosen])
    assert projected.coordinates_NVP.shape == (7, 2, 4)
    assert projected.coordinates_NVP.dtype == np.float16
    in_turn = mine[np.arange(7), np.arange(7) % 2]  # as it is, its view, as it is, ...
    own = fit_principal_components(in_turn.float(), 4)
    assert np.array_equal(projected.subspace.components_PD, own.components_PD)
    assert projected.coordinates_NVP == pytest.approx(own.project(mine).numpy(), abs=off)


@ROUNDED
def test_many_images_are_represented_by_some(
    half: bool, off: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bf16_products, "bf16_is_fast", lambda device: half)
    values = np.random.default_rng(4).normal(size=(11, 1, 30)).astype(np.float16)
    features = slots(tmp_path, values)
    monkeypatch.setattr(principal_components, "MOST", 4)
    monkeypatch.setattr(
        principal_components, "PART", 2 * 30 * 4
    )  # two images at a time, in six parts
    projected = project_images(features, features.row_N, 3, CPU)
    every_third = torch.from_numpy(values[features.row_N[::3], 0]).float()
    assert np.array_equal(projected.subspace.mean_D, every_third.mean(0).numpy())
    everyone = projected.subspace.project(torch.from_numpy(values[features.row_N]))
    assert projected.coordinates_NVP == pytest.approx(everyone.numpy(), abs=off)


def test_a_process_keeps_what_entered_within_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = slots(tmp_path, np.random.default_rng(5).normal(size=(8, 1, 20)))
    monkeypatch.setattr(
        principal_components, "CACHED", 2 * 5 * 3 * 2
    )  # two of five images along three
    monkeypatch.setattr(principal_components, "_KEPT", type(principal_components._KEPT)())
    rows = [features.row_N[i : i + 5] for i in range(3)]
    first, second = (cached_projection(features, each, 3, CPU) for each in rows[:2])
    assert cached_projection(features, rows[0], 3, CPU) is first
    assert cached_projection(features, rows[0], 2, CPU) is not first
    cached_projection(features, rows[2], 3, CPU)
    assert cached_projection(features, rows[2], 3, CPU) is cached_projection(
        features, rows[2], 3, CPU
    )
    assert cached_projection(features, rows[1], 3, CPU) is not second  # used longest ago


# --- a head ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """60 images of 3 signers and 3 labels with one view: each label's features have a place."""
    rng = np.random.default_rng(0)
    labels_N, folds_N = np.tile(np.arange(3), 20), np.repeat(np.arange(3), 20)
    middle = rng.normal(size=(3, HEAD_FEATURES))
    values = middle[labels_N][:, None] + 0.5 * rng.normal(size=(60, 2, HEAD_FEATURES))
    features = slots(tmp_path_factory.mktemp("task"), values[::-1])
    return Task(features, labels_N, folds_N, ("ada", "ben", "cleo"), ("a", "b", "c"), "", 0)


def bits(head: Head) -> bytes:
    return b"".join(tensor.cpu().numpy().tobytes() for tensor in head.state_dict().values())


@pytest.mark.parametrize("components", [0, 10, 512])
def test_a_separable_problem_is_learned_and_takes_features(task: Task, components: int) -> None:
    rows = np.flatnonzero(task.folds_N != 1)
    head, _ = fit_rows(task, replace(RECIPE, components=components), rows, seed=0)
    assert head.layers[0].in_features == HEAD_FEATURES
    unseen = task.folds_N == 1
    said = logits_of(head, task.features.open()[task.features.row_N[unseen], 0])
    assert np.array_equal(said.argmax(1), task.labels_N[unseen])


def test_the_first_layer_stays_within_the_directions(task: Task) -> None:
    head, _ = fit_rows(task, replace(RECIPE, components=5), np.arange(40), seed=0)
    weights = head.state_dict()["layers.0.weight"].numpy()
    assert np.linalg.matrix_rank(weights, tol=1e-3) == 5
    space = cached_projection(task.features, task.features.row_N[:40], 5, CPU).subspace
    inside = weights @ space.components_PD.T @ space.components_PD
    assert inside == pytest.approx(weights, abs=1e-5)


def test_a_kept_subspace_changes_no_bit(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = fit_rows(task, RECIPE, np.arange(40), seed=3)
    again, _ = fit_rows(task, RECIPE, np.arange(40), seed=3)
    monkeypatch.setattr(principal_components, "_KEPT", type(principal_components._KEPT)())
    anew, _ = fit_rows(task, RECIPE, np.arange(40), seed=3)
    assert bits(first) == bits(again) == bits(anew)


def test_what_was_found_before_is_used_and_may_be_read_only(
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


def test_images_left_out_have_no_say(task: Task, tmp_path: Path) -> None:
    values = np.array(task.features.open())
    values[task.features.row_N[40:]] += 5  # cleo's
    moved = replace(task, features=slots(tmp_path, values))
    rows = np.arange(40)
    assert bits(fit_rows(task, RECIPE, rows, 0)[0]) == bits(fit_rows(moved, RECIPE, rows, 0)[0])


@pytest.mark.parametrize("components", [0, 5])
def test_a_head_reads_the_unseen_as_it_will_when_it_takes_features(
    task: Task, components: int
) -> None:
    rows = np.arange(40)
    learned = train_head(task, replace(RECIPE, components=components), rows, seed=3)
    finished, fitted = fit_rows(task, replace(RECIPE, components=components), rows, seed=3)
    assert bits(learned.on_features()) == bits(finished)
    assert learned.fitted == fitted
    unseen = np.random.default_rng(1).normal(size=(1100, HEAD_FEATURES)).astype(np.float16)
    found = learned.logits("all", lambda: unseen)  # more than are entered at a time
    assert found == pytest.approx(logits_of(finished, unseen), abs=1e-4)
    assert learned.logits("two", lambda: unseen[7:9]) == pytest.approx(found[7:9], abs=1e-4)
    assert learned.logits("none", lambda: unseen[:0]).shape == (0, len(task.labels))


def test_the_unseen_are_entered_once_for_each_fold(task: Task) -> None:
    unseen = np.random.default_rng(1).normal(size=(3, HEAD_FEATURES)).astype(np.float16)
    times = []

    def read() -> np.ndarray:
        times.append(1)
        return unseen

    for rows in (np.arange(40), np.arange(20, 60)):
        for seed in (3, 4):
            learned = train_head(task, replace(RECIPE, components=5), rows, seed)
            finished = logits_of(learned.on_features(), unseen)
            assert learned.logits("three", read) == pytest.approx(finished, abs=1e-4)
    assert len(times) == 2  # other signers, other directions


def test_what_is_kept_of_the_unseen_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: OrderedDict[str, torch.Tensor] = OrderedDict()
    monkeypatch.setattr(principal_components, "_UNSEEN", kept)
    monkeypatch.setattr(
        principal_components, "CACHED_UNSEEN", 2 * 4 * 4
    )  # two images of four coordinates
    space = fit_principal_components(
        torch.from_numpy(np.random.default_rng(0).normal(size=(9, 6))).float(), 4
    )
    images = np.random.default_rng(1).normal(size=(5, 1, 6)).astype(np.float16)
    for number, one in enumerate(images):
        found = principal_components.project_unseen(str(number), space, one.view, CPU)
        assert torch.equal(found, space.project(torch.from_numpy(one)))
        assert len(kept) <= 2

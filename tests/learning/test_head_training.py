"""Folds by hand, the training loop with a known loss, and a small problem that must be learned.

Letters: N images, V an image and its augmented copies, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.backbone import HEAD_FEATURES
from sign_ensemble.data.feature_cache import plain_features
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning import head_training
from sign_ensemble.learning.fold_models import block_of_each, fit_fold, fold_of_each
from sign_ensemble.learning.head_training import (
    bootstrap_rows,
    fit_rows,
    recipe_of,
    validation_mask,
)
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.task import KINDS, Task, seed_of
from sign_ensemble.learning.training_loop import (
    FeatureBatches,
    FitResult,
    MicroBatch,
    Schedule,
    fit,
    smoothed_nll,
)

CPU = torch.device("cpu")
QUICK = MemberConfig(widths=(8, 4), dropout=0.2, learning_rate=3e-3, epochs=3, batch_size=8)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """60 images of 3 signers and 3 labels, each with two augmented copies; labels are clusters.

    Rows are in another order than images, and one row of the file is of no image.
    """
    rng = np.random.default_rng(0)
    labels_N, folds_N = np.tile(np.arange(3), 20), np.repeat(np.arange(3), 20)
    row_N = rng.permutation(61)[:60]
    values = np.full((61, 3, HEAD_FEATURES), 9.0, np.float16)
    middle = rng.normal(size=(3, HEAD_FEATURES))
    values[row_N] = middle[labels_N][:, None] + 0.5 * rng.normal(size=(60, 3, HEAD_FEATURES))
    path = tmp_path_factory.mktemp("task") / "features.f16"
    path.write_bytes(values.tobytes())
    features = CachedArray(str(path), row_N, (3, HEAD_FEATURES), "float16")
    return Task(features, labels_N, folds_N, ("ada", "ben", "cleo"), ("a", "b", "c"), 0)


# --- folds ----------------------------------------------------------------------------------------


def test_a_signer_is_a_fold() -> None:
    signers = np.array(["cleo", "ada", "ben", "ada", "cleo"])
    folds, names = fold_of_each(signers, most=6)
    assert names == ("ada", "ben", "cleo")
    assert folds.tolist() == [2, 0, 1, 0, 2]
    assert folds.dtype == np.int64


def test_more_signers_than_folds_share_them_evenly() -> None:
    # sizes 5 4 3 3 1, two folds: a opens one, b the other; c joins b (4 < 5), d a (5 < 7), e b
    # (7 < 8): eight images each
    signers = np.repeat(["a", "b", "c", "d", "e"], [5, 4, 3, 3, 1])
    folds, names = fold_of_each(signers, most=2)
    assert names == ("a+d", "b+c+e")
    assert np.bincount(folds).tolist() == [8, 8]
    for name, fold in zip("abcde", [0, 1, 1, 0, 1], strict=True):
        assert set(folds[signers == name]) == {fold}


def test_without_signers_folds_are_blocks_of_each_label_in_file_order() -> None:
    labels = np.repeat([0, 1, 2], [8, 9, 12])
    order = np.random.default_rng(0).permutation(29)
    folds, names = block_of_each(labels, order, most=6)
    assert names == ("block-0", "block-1", "block-2", "block-3")
    assert folds.dtype == np.int64
    for label, sizes in ((0, [2, 2, 2, 2]), (1, [3, 2, 2, 2]), (2, [3, 3, 3, 3])):
        in_order = folds[order][labels[order] == label]
        assert in_order.tolist() == np.repeat([0, 1, 2, 3], sizes).tolist()


def test_blocks_are_no_more_than_the_rarest_label_has_images() -> None:
    labels = np.repeat([0, 1], [9, 2])
    folds, names = block_of_each(labels, np.arange(11), most=6)
    assert names == ("block-0", "block-1")
    assert folds[labels == 1].tolist() == [0, 1]
    assert len(block_of_each(np.zeros(11, np.int64), np.arange(11), most=3)[1]) == 3


# --- pieces ---------------------------------------------------------------------------------------


def test_a_share_of_each_label_is_kept_back() -> None:
    labels = np.repeat([0, 1, 2, 3], [10, 25, 9, 40])
    kept = validation_mask(labels, 0.1, np.random.default_rng(0))
    assert [int(kept[labels == label].sum()) for label in range(4)] == [1, 2, 0, 4]
    assert not validation_mask(labels, 0.0, np.random.default_rng(0)).any()
    assert np.array_equal(kept, validation_mask(labels, 0.1, np.random.default_rng(0)))
    assert not np.array_equal(kept, validation_mask(labels, 0.1, np.random.default_rng(1)))


def test_seeds_differ_in_every_part_and_in_order() -> None:
    parts = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    seeds = {seed_of(*each) for each in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)
    assert seed_of(-1, 0) == seed_of(2**32 - 1, 0)  # any whole number is a seed


def test_a_trials_parameters_replace_the_default_ones() -> None:
    default = MemberConfig(widths=(64, 32), dropout=0.5, epochs=4)
    params = {"h1": 16, "dropout": 0.3, "learning_rate": 0.01}
    found = recipe_of(default, params)
    assert found == MemberConfig(widths=(16, 32), dropout=0.3, learning_rate=0.01, epochs=4)
    assert params == {"h1": 16, "dropout": 0.3, "learning_rate": 0.01}
    assert recipe_of(default, {}) == default
    with pytest.raises(TypeError, match="colour"):
        recipe_of(default, {"colour": 1})


def test_smoothed_nll_by_hand() -> None:
    probs = [[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]
    log_probs, labels = torch.tensor(probs).log(), torch.tensor([0, 2])
    plain = -(log(0.5) + log(0.6)) / 2
    assert float(smoothed_nll(log_probs, labels, 0.0)) == pytest.approx(plain, abs=1e-6)
    even = -(log(0.5) + 2 * log(0.25) + 2 * log(0.2) + log(0.6)) / 6
    by_hand = 0.7 * plain + 0.3 * even
    assert float(smoothed_nll(log_probs, labels, 0.3)) == pytest.approx(by_hand, abs=1e-6)
    torchs = torch.nn.functional.cross_entropy(log_probs, labels, label_smoothing=0.3)
    assert float(torchs) == pytest.approx(by_hand, abs=1e-6)


def test_decay_spares_the_biases() -> None:
    head = Head(5, (4, 3), 2, dropout=0.0)
    weights, biases = adamw_for((head, 0.01), weight_decay=0.25).param_groups
    assert [p.ndim for p in weights["params"]] == [2, 2, 2]
    assert [p.ndim for p in biases["params"]] == [1, 1, 1]
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.25, 0.0)
    assert weights["lr"] == biases["lr"] == 0.01


@pytest.mark.parametrize(("augment_prob", "seen"), [(0.0, {0}), (0.5, {0, 1, 2}), (1.0, {1, 2})])
def test_an_epoch_has_each_image_once_as_it_is_or_augmented(
    augment_prob: float, seen: set[int]
) -> None:
    features = np.arange(7 * 3, dtype=np.float16).reshape(7, 3, 1)  # value 3 r + v
    rows, labels = np.array([6, 0, 2, 5, 1]), np.array([60, 0, 20, 50, 10])
    rng = np.random.default_rng(0)
    batches = FeatureBatches(features, rows, labels, size=2, augment_prob=augment_prob, rng=rng)
    assert batches.steps == 3
    epochs = []
    for number in range(1, 201):
        parts = [micro_batch for (micro_batch,) in batches.epoch(number, 0)]
        assert [(len(part.labels_N), part.weight) for part in parts] == [
            (2, 1.0),
            (2, 1.0),
            (1, 1.0),
        ]
        values = torch.cat([part.inputs[0][:, 0] for part in parts]).numpy().astype(int)
        shown = torch.cat([part.labels_N for part in parts]).numpy()
        assert (values // 3 * 10).tolist() == shown.tolist()  # features and labels stay together
        assert sorted(shown) == [0, 10, 20, 50, 60]
        epochs.append(values)
    augmentations = np.concatenate(epochs) % 3
    assert set(augmentations) == seen
    assert np.mean(augmentations > 0) == pytest.approx(augment_prob, abs=3 * sqrt(0.25 / 1000))
    assert len({tuple(each // 3) for each in epochs}) > 80  # of 120 orders


def test_images_without_augmentations_are_taken_as_they_are() -> None:
    features = np.arange(4, dtype=np.float16).reshape(4, 1, 1)
    rng = np.random.default_rng(0)
    batches = FeatureBatches(
        features, np.arange(4), np.arange(4), size=9, augment_prob=1.0, rng=rng
    )
    (((micro_batch,)),) = batches.epoch(1, 0)
    assert micro_batch.inputs[0][:, 0].tolist() == micro_batch.labels_N.tolist()


def test_noise_is_drawn_anew_for_every_image_and_step() -> None:
    features, labels = np.zeros((500, 1, 4), np.float16), np.zeros(500, np.int64)
    noisy = FeatureBatches(
        features, np.arange(500), labels, 500, 0.0, np.random.default_rng(0), noise=0.25
    )
    torch.manual_seed(0)
    first, second = (next(noisy.epoch(1, 0))[0].inputs[0] for _ in range(2))
    assert first.dtype == torch.float32
    for values in (first, second, (first - second) / sqrt(2)):
        # 2,000 draws: a standard error is .25 / √2000 = .0056, and .004 of the deviation
        assert float(values.mean()) == pytest.approx(0, abs=0.023)
        assert float(values.std()) == pytest.approx(0.25, abs=0.016)


# --- the training loop ----------------------------------------------------------------------------


class Line:
    """One batch of four points on a line; the label is the side."""

    steps = 1

    def epoch(self, number: int, begin: int) -> Iterator[list[MicroBatch]]:
        inputs = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
        yield [MicroBatch((inputs,), torch.tensor([0, 0, 1, 1]))]


def fitted_with(
    net: torch.nn.Module, rate: float, schedule: Schedule, validation_nll: Any = None
) -> FitResult:
    return fit(net, Line(), schedule, adamw_for((net, rate), weight_decay=0.0), CPU, validation_nll)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.LogSoftmax(-1))


def run_with(losses: list[float], patience: int) -> tuple[Any, torch.nn.Module, list[Any]]:
    """A training with the given validation losses; also the weights after each epoch."""
    net, seen = network(), []

    def validation_nll(given: torch.nn.Module) -> float:
        assert not given.training
        seen.append({k: v.clone() for k, v in given.state_dict().items()})
        return losses[len(seen) - 1]

    schedule = Schedule(len(losses), patience=patience)
    return fitted_with(net, 0.1, schedule, validation_nll), net, seen


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([3, 1, 2, 2, 0.5], 2, 4, 2),  # the fifth epoch would have been better
        ([3, 1, 2, 2, 0.5], 3, 5, 5),
        ([3, 2, 1], 1, 3, 3),
        ([1, 1, 1, 1, 1], 3, 4, 1),  # equal is no better
        ([1, 2, 3], 1, 2, 1),
        ([2, 3, 1, 2, 3, 0], 2, 5, 3),  # patience counts from the best
    ],
)
def test_the_best_epochs_weights_are_kept(
    losses: list[float], patience: int, epochs: int, best: int
) -> None:
    fitted, net, seen = run_with(losses, patience)
    assert (fitted.epochs, fitted.best_epoch) == (epochs, best)
    assert fitted.validation_nll == losses[best - 1]
    assert len(fitted.losses) == len(seen) == epochs
    for name, kept in net.state_dict().items():
        assert torch.equal(kept, seen[best - 1][name])
        assert best == epochs or not torch.equal(kept, seen[-1][name])
    assert not net.training


def test_without_validation_images_all_epochs_are_run() -> None:
    net = network()
    fitted = fitted_with(net, 0.1, Schedule(7))
    assert (fitted.epochs, fitted.best_epoch, fitted.validation_nll) == (7, 7, None)
    assert fitted.losses == tuple(sorted(fitted.losses, reverse=True))
    assert not net.training


def test_the_first_loss_is_the_untrained_networks() -> None:
    net = network()
    ((micro_batch,),) = Line().epoch(1, 0)
    with torch.no_grad():
        untrained = float(
            torch.nn.functional.nll_loss(net(*micro_batch.inputs), micro_batch.labels_N)
        )
    fitted = fitted_with(net, 1e-4, Schedule(1))
    assert fitted.losses[0] == pytest.approx(untrained, rel=0.01)  # bf16 where it is fast


# --- a head on cached features --------------------------------------------------------------------


def bits(head: Head) -> bytes:
    return b"".join(tensor.cpu().numpy().tobytes() for tensor in head.state_dict().values())


def test_the_same_seed_gives_the_same_bits_and_another_gives_others(task: Task) -> None:
    rows = np.arange(40)
    state = torch.get_rng_state()
    first, fitted = fit_rows(task, QUICK, rows, seed=3)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's draws go on as before
    torch.rand(5)
    again, refitted = fit_rows(task, QUICK, rows, seed=3)
    other, _ = fit_rows(task, QUICK, rows, seed=4)
    assert bits(first) == bits(again)
    assert fitted == refitted
    assert bits(first) != bits(other)


def test_a_bootstrap_draws_as_many_rows_with_replacement() -> None:
    rows = np.arange(100, 400)
    assert bootstrap_rows(rows, MemberConfig(), 3) is rows
    drawn = [bootstrap_rows(rows, MemberConfig(bootstrapped=True), seed) for seed in (3, 3, 4)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    for each in drawn:
        assert len(each) == 300
        assert set(each) <= set(rows)
        # of n images 1 - (1 - 1 / n)^n are drawn: .633 of 300, of which .025 is a standard error
        assert len(set(each)) / 300 == pytest.approx(0.633, abs=0.1)


@pytest.mark.parametrize("components", [0, 4])
def test_a_bootstrapped_head_s_training_images(
    task: Task, components: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels stay with their images, and validation images are not among them."""
    batches: list[FeatureBatches] = []

    def spy(*given: Any) -> FeatureBatches:
        batches.append(FeatureBatches(*given))
        return batches[-1]

    monkeypatch.setattr(head_training, "FeatureBatches", spy)
    recipe = replace(QUICK, bootstrapped=True, components=components, validation_share=0.2)
    rows = np.arange(40)
    fit_rows(task, recipe, rows, seed=3)
    fit_rows(task, replace(recipe, bootstrapped=False), rows, seed=3)
    drawn, every = batches
    row_N = np.arange(40) if components else task.features.row_N[rows]
    label_of = dict(zip(row_N.tolist(), task.labels_N[rows].tolist(), strict=True))
    assert len(drawn.rows_N) == len(every.rows_N)
    assert len(set(drawn.rows_N)) < len(drawn.rows_N)
    assert set(drawn.rows_N) <= set(every.rows_N)
    assert [label_of[row] for row in drawn.rows_N.tolist()] == drawn.labels_N.tolist()


def test_a_separable_problem_is_learned(task: Task) -> None:
    recipe = replace(
        QUICK, widths=(32, 16), dropout=0.0, learning_rate=1e-3, epochs=10, validation_share=0.0
    )
    result, trained = fit_fold(task, recipe, 1, seed=0)
    assert result.accuracy == 1.0
    assert result.nll < 0.1  # guessing costs log 3 = 1.1
    assert (result.epochs, result.best_epoch) == (10, 10)
    assert (result.fold, result.n) == (1, 20)
    values_ND = plain_features(task.features)[task.folds_N == 1]
    assert np.array_equal(result.logits_NK, trained.logits("the fold", lambda: values_ND))
    finished = logits_of(trained.on_features(), values_ND)
    assert result.logits_NK == pytest.approx(finished, abs=1e-4)


def test_a_fold_model_reads_the_copies_that_the_rule_is_calibrated_on(task: Task) -> None:
    assert task.copies == 0
    assert fit_fold(task, QUICK, 1, seed=0)[0].copies_VNK.shape == (0, 20, 3)
    both = replace(task, kinds=KINDS)
    for components in (0, 4):
        result, trained = fit_fold(both, replace(QUICK, components=components), 1, seed=0)
        rows_RVD, row_N = task.features.open(), task.features.row_N[task.folds_N == 1]
        assert result.copies_VNK.shape == (2, 20, 3)
        for copy in (1, 2):
            of_copy_ND = rows_RVD[row_N, copy]
            expected = logits_of(trained.on_features(), of_copy_ND)
            assert result.copies_VNK[copy - 1] == pytest.approx(expected, abs=1e-3)
            assert np.abs(result.logits_NK - expected).max() > 0.1  # they are other pictures


def test_figures_of_a_fold_are_those_of_its_logits(task: Task) -> None:
    result, _ = fit_fold(task, MemberConfig(widths=(3, 2), epochs=1), 2, 0)
    truth = task.labels_N[task.folds_N == 2]
    logits = result.logits_NK.astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert result.nll == pytest.approx(-log_probs[np.arange(20), truth].mean(), abs=1e-9)
    assert result.accuracy == np.mean(logits.argmax(1) == truth)
    assert "logits_NK" not in result.figures()
    assert result.figures()["nll"] == result.nll
    assert result.seconds > 0


def test_the_held_out_fold_is_not_trained_on(task: Task) -> None:
    # with all labels of fold 0 swapped, its fold model must stay the same bit for bit
    swapped = np.where(task.folds_N == 0, 2 - task.labels_N, task.labels_N)
    spoiled = Task(**{**vars(task), "labels_N": swapped})
    before, _ = fit_fold(task, QUICK, 0, seed=1)
    after, _ = fit_fold(spoiled, QUICK, 0, seed=1)
    assert before.logits_NK.tobytes() == after.logits_NK.tobytes()
    assert before.nll != after.nll
    # another fold's labels do matter
    other, _ = fit_fold(spoiled, QUICK, 1, seed=1)
    untouched, _ = fit_fold(task, QUICK, 1, seed=1)
    assert other.logits_NK.tobytes() != untouched.logits_NK.tobytes()


def test_logits_come_in_thousands_and_in_order() -> None:
    torch.manual_seed(0)
    head = Head(6, (4, 3), 2, dropout=0.5).eval()
    features = np.random.default_rng(0).normal(size=(2050, 6)).astype(np.float16)
    with torch.no_grad():
        at_once = head.logits(torch.from_numpy(features).float()).numpy()
    assert logits_of(head, features) == pytest.approx(at_once, abs=1e-5)


def test_a_features_file_is_read_at_the_rows_of_the_images(tmp_path: Path) -> None:
    values = np.arange(4 * 2 * HEAD_FEATURES, dtype=np.int64).reshape(4, 2, HEAD_FEATURES) % 2048
    (tmp_path / "f").write_bytes(values.astype(np.float16).tobytes())
    features = CachedArray(str(tmp_path / "f"), np.array([3, 0, 3]), (2, HEAD_FEATURES), "float16")
    assert features.open().shape == (4, 2, HEAD_FEATURES)
    assert np.array_equal(plain_features(features), values[[3, 0, 3], 0].astype(np.float16))

"""The figures against values worked out by hand, naive copies, and four other libraries.

Letters: N images, K labels.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch

from sign_ensemble.metrics.figures import (
    accuracy,
    augrc,
    aurc,
    auroc,
    coverage,
    ece,
    fpr95,
    nll,
    overconfident,
    selective_risk,
    top_class,
)

SEEDS = range(5)
CLOSE: dict[str, Any] = {"abs": 1e-6, "rel": 0}
EXACT: dict[str, Any] = {"abs": 1e-12, "rel": 0}

PROBS = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]])
LABELS = np.array([0, 2, 0, 2])


# --- worked out by hand: four rows each -----------------------------------------------------------


def test_accuracy_and_nll_of_four_rows() -> None:
    # row 2: the first of two equal labels is the answer
    assert accuracy(PROBS, LABELS) == 3 / 4
    by_hand = -(math.log(0.7) + math.log(0.3) + math.log(0.4) + math.log(0.8)) / 4
    assert nll(PROBS, LABELS) == pytest.approx(by_hand, **EXACT)


def test_nll_of_an_impossible_label_is_clipped() -> None:
    assert nll([[1.0, 0.0]], [1]) == pytest.approx(-math.log(2.2250738585072014e-308), **EXACT)


def test_top_class_gives_confidence_and_correctness() -> None:
    confidence, correct = top_class(PROBS, LABELS)
    assert confidence.tolist() == [0.7, 0.5, 0.4, 0.8]
    assert correct.tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("bins", "value"),
    [
        (1, abs(3 / 4 - 0.75)),
        (2, 0.5 * abs(1 / 2 - 0.65) + 0.5 * abs(1 - 0.85)),
        (3, 0.5 * abs(1 / 2 - 0.65) + 0.25 * (1 - 0.8) + 0.25 * (1 - 0.9)),  # sizes 2, 1, 1
        (15, (0.6 + 0.3 + 0.2 + 0.1) / 4),  # each image its own bin
    ],
)
def test_ece_of_four_rows(bins: int, value: float) -> None:
    assert ece([0.9, 0.6, 0.8, 0.7], [1, 0, 1, 1], bins=bins) == pytest.approx(value, **EXACT)


@pytest.mark.parametrize("correct", sorted(set(itertools.permutations([1, 0, 1, 1]))))
def test_equal_confidences_share_their_correctness(correct: tuple[int, ...]) -> None:
    assert ece([0.8] * 4, correct, bins=2) == pytest.approx(0.05, **EXACT)


@pytest.mark.parametrize(
    ("scores", "failures", "area", "generalised"),
    [
        # risks 0, 1/2, 1/3, 1/2; generalised 0, 1/4, 1/4, 1/2
        ([1, 2, 3, 4], [0, 1, 0, 1], 13 / 36, 1 / 4),
        # the tie: half the time as above, else risks 0, 0, 1/3, 1/2; generalised 0, 0, 1/4, 1/2
        ([1, 2, 2, 4], [0, 1, 0, 1], (13 / 36 + 7 / 36) / 2, (1 / 4 + 1 / 6) / 2),
        ([4, 2, 1, 3], [0, 0, 0, 0], 0.0, 0.0),
        # all fail: risk 1 everywhere; generalised 1/4, 1/2, 3/4, 1
        ([1, 2, 3, 4], [1, 1, 1, 1], 1.0, 5 / 8),
        # all tied: risk 1/4 everywhere; generalised 1/16, 1/8, 3/16, 1/4
        ([7, 7, 7, 7], [0, 0, 1, 0], 1 / 4, 5 / 32),
        ([3], [1], 1.0, 1.0),
        ([3], [0], 0.0, 0.0),
    ],
)
def test_risk_areas_of_four_rows(
    scores: list[int], failures: list[int], area: float, generalised: float
) -> None:
    assert aurc(scores, failures) == pytest.approx(area, **EXACT)
    assert augrc(scores, failures) == pytest.approx(generalised, **EXACT)


def test_auroc_and_fpr95_of_four_rows() -> None:
    known, ood = [0.3, 0.1, 0.4, 0.2], [0.5, 0.2]
    assert auroc(known, ood) == (1.5 + 4) / 8
    assert fpr95(known, ood) == 1 / 2  # t = 0.4
    assert fpr95(known, ood, target_coverage=0.5) == 1 / 2  # t = 0.2, and 0.2 is accepted
    assert fpr95(known, ood, target_coverage=0.49) == 1 / 2
    assert fpr95(known, ood, target_coverage=0.25) == 0  # t = 0.1


def test_fpr95_accepts_exactly_nineteen_of_twenty() -> None:
    known = np.arange(20.0)
    assert fpr95(known, [18.0, 18.5, 19.0, 30.0]) == 1 / 4


def test_figures_of_a_rule_with_four_rows() -> None:
    accepted = [1, 1, 0, 1]
    assert coverage(accepted) == 3 / 4
    assert selective_risk(accepted, [0, 1, 1, 0]) == 1 / 3
    assert overconfident([0.95, 0.90, 0.99, 0.2], accepted) == 2 / 4
    assert overconfident([0.95, 0.90, 0.99, 0.2], accepted, at=0.95) == 1 / 4


def test_error_is_none_when_nothing_is_accepted() -> None:
    assert coverage([0, 0]) == 0
    assert selective_risk([0, 0], [1, 0]) is None


# --- known truth ----------------------------------------------------------------------------------


def test_perfect_blind_and_inverted_detectors() -> None:
    low, high = np.arange(5.0), np.arange(10.0, 17.0)
    for known, ood, area, accepted in (
        (low, high, 1, 0),
        (high, low, 0, 1),
        (np.ones(4), np.ones(3), 0.5, 1),
    ):
        assert auroc(known, ood) == area
        assert fpr95(known, ood) == accepted


@pytest.mark.parametrize("seed", SEEDS)
def test_calibrated_generator_beats_its_flipped_copy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, 3000)
    correct = rng.random(3000) < confidence
    assert ece(confidence, correct) < 0.05
    assert ece(confidence, ~correct) > 0.4


@pytest.mark.parametrize("seed", SEEDS)
def test_ordering_failures_last_is_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    failures, noise = rng.random(60) < 0.3, rng.random(60)
    for area in (aurc, augrc):
        best, drawn, worst = (float(area(s, failures)) for s in (failures, noise, ~failures))
        assert best < drawn < worst


# --- naive copies ---------------------------------------------------------------------------------


def naive_area(failures: np.ndarray, generalised: bool) -> float:
    """Risks of rows already in order, by the trapezoid rule as numpy has it."""
    k, n = np.arange(1, len(failures) + 1), len(failures)
    risk = np.cumsum(failures) / (n if generalised else k)
    return float(np.trapezoid(risk, k / n) / (1 - 1 / n))


@pytest.mark.parametrize("seed", SEEDS)
def test_ties_are_the_mean_over_every_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, failures = rng.integers(0, 3, 6), rng.integers(0, 2, 6)
    orders = [
        list(o) for o in itertools.permutations(range(6)) if (np.diff(scores[[*o]]) >= 0).all()
    ]
    for area, generalised in ((aurc, False), (augrc, True)):
        mean = np.mean([naive_area(failures[o], generalised) for o in orders])
        assert area(scores, failures) == pytest.approx(mean, **EXACT)


@pytest.mark.parametrize("n", [7, 15, 16, 100, 299])
def test_ece_equals_a_loop_over_split_arrays(n: int) -> None:
    rng = np.random.default_rng(n)
    confidence, correct = rng.random(n), rng.integers(0, 2, n)
    order = np.argsort(confidence)
    loop = sum(
        abs(correct[part].mean() - confidence[part].mean()) * len(part) / n
        for part in np.array_split(order, 15)
        if len(part)
    )
    assert ece(confidence, correct) == pytest.approx(loop, **EXACT)


# --- other libraries ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchmetrics(torchvision_loads: None) -> ModuleType:
    return importlib.import_module("torchmetrics")


def torch_uncertainty_file(path: str) -> ModuleType:
    """One file of torch-uncertainty: its package wants Lightning, which its metrics never use."""
    package = importlib.util.find_spec("torch_uncertainty")
    if package is None or package.origin is None:
        pytest.skip("torch-uncertainty is not installed")
    file = Path(package.origin).parent / "metrics" / "classification" / path
    spec = importlib.util.spec_from_file_location(f"torch_uncertainty_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_and_nll_agree(seed: int, torchmetrics: ModuleType) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (200, 26)), rng.integers(0, 26, 200)
    logits[np.arange(200), labels] += 3
    log_probs = torch.log_softmax(torch.tensor(logits), 1)
    target = torch.tensor(labels)
    theirs = torchmetrics.functional.accuracy(
        log_probs, target, task="multiclass", num_classes=26, average="micro"
    )
    assert accuracy(log_probs.exp().numpy(), labels) == pytest.approx(float(theirs), **CLOSE)
    entropy = torch.nn.functional.cross_entropy(torch.tensor(logits), target)
    assert nll(log_probs.exp().numpy(), labels) == pytest.approx(float(entropy), **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_ece_agrees_with_torch_uncertainty(seed: int, torchmetrics: ModuleType) -> None:
    module = torch_uncertainty_file("calibration/adaptive_calibration_error.py")
    rng = np.random.default_rng(seed)
    n = 290 + seed  # with and without a remainder after 15 bins
    probs = rng.dirichlet(np.full(26, 0.3), n)
    labels = np.where(rng.random(n) < 0.7, probs.argmax(1), rng.integers(0, 26, n))
    metric = module.AdaptiveCalibrationError("multiclass", 15, "l1", num_classes=26)
    metric.update(torch.tensor(probs), torch.tensor(labels))
    confidence, correct = top_class(probs, labels)
    assert len(np.unique(confidence.astype(np.float32))) == n  # theirs rounds: no ties there either
    assert ece(confidence, correct) == pytest.approx(float(metric.compute()), **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_risk_areas_agree_with_torch_uncertainty(seed: int, torchmetrics: ModuleType) -> None:
    module = torch_uncertainty_file("risk_coverage.py")
    rng = np.random.default_rng(seed)
    n = 200 + 61 * seed
    confidence = rng.permutation(np.linspace(0.55, 0.95, n))  # no two alike, in float32 too
    failures = rng.integers(0, 2, n)
    probs = torch.tensor(np.stack([confidence, 1 - confidence], axis=1))
    for ours, theirs in ((aurc, module.AURC()), (augrc, module.AUGRC())):
        theirs.update(probs, torch.tensor(failures))  # the answer is always class 0
        assert ours(-confidence, failures) == pytest.approx(float(theirs.compute()), **CLOSE)


def two_samples(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    known, ood = rng.normal(0, 1, 260 + seed), rng.normal(1.5, 1, 180)
    return (known.round(1), ood.round(1)) if ties else (known, ood)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_detection_agrees_with_sklearn(seed: int, ties: bool) -> None:
    known, ood = two_samples(seed, ties)
    is_ood = np.repeat([0, 1], [len(known), len(ood)])
    scores = np.concatenate([known, ood])
    theirs = sklearn.metrics.roc_auc_score(is_ood, scores)
    assert auroc(known, ood) == pytest.approx(theirs, **CLOSE)
    accepted_ood, kept, _ = sklearn.metrics.roc_curve(1 - is_ood, -scores, drop_intermediate=False)
    at = int(np.argmax(kept >= 0.95))
    assert fpr95(known, ood) == pytest.approx(accepted_ood[at], **CLOSE)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_fpr95_agrees_with_torch_uncertainty(
    seed: int, ties: bool, torchmetrics: ModuleType
) -> None:
    known, ood = two_samples(seed, ties)
    compute = torch_uncertainty_file("fpr.py")._fprx_compute
    labels = torch.tensor(np.repeat([1, 0], [len(known), len(ood)]))
    theirs = compute(-torch.tensor(np.concatenate([known, ood])), labels, 0.95, pos_label=1)
    assert fpr95(known, ood) == pytest.approx(float(theirs), **CLOSE)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_detection_agrees_with_pytorch_ood(seed: int, ties: bool, torchmetrics: ModuleType) -> None:
    functional = pytest.importorskip("pytorch_ood.metrics.functional")
    known, ood = two_samples(seed, ties)
    scores = torch.tensor(np.concatenate([known, ood]))
    labels = torch.tensor(np.repeat([0, -1], [len(known), len(ood)]))  # < 0: their positives
    theirs = float(functional.auroc(scores, labels))
    assert auroc(known, ood) == pytest.approx(theirs, **CLOSE)
    swapped = float(functional.fpr_at_tpr(-scores, -1 - labels, tpr=0.95))
    assert fpr95(known, ood) == pytest.approx(swapped, **CLOSE)
    # unswapped, theirs is another figure: known images rejected at 95 % of ood ones detected
    other = float(functional.fpr_at_tpr(scores, labels, tpr=0.95))
    assert fpr95(-ood, -known) == pytest.approx(other, **CLOSE)
    assert fpr95(known, ood) != pytest.approx(other, abs=1e-3)


# --- weights --------------------------------------------------------------------------------------

N = 40
_RNG = np.random.default_rng(0)
_TIED = _RNG.integers(0, 12, N) / 11  # equal scores on purpose
_MARKS = _RNG.integers(0, 2, N)
_OTHER = _RNG.integers(0, 2, N)
_SIX = _RNG.dirichlet(np.ones(6), N)
_NAMES = _RNG.integers(0, 6, N)
ONE_SAMPLE: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "accuracy": (accuracy, (_SIX, _NAMES)),
    "nll": (nll, (_SIX, _NAMES)),
    "ece": (ece, (_TIED, _MARKS)),
    "ece of one bin": (partial(ece, bins=1), (_TIED, _MARKS)),
    "ece of many bins": (partial(ece, bins=60), (_TIED, _MARKS)),
    "aurc": (aurc, (_TIED, _MARKS)),
    "augrc": (augrc, (_TIED, _MARKS)),
    "coverage": (coverage, (_MARKS,)),
    "selective_risk": (selective_risk, (_MARKS, _OTHER)),
    "overconfident": (overconfident, (_TIED, _MARKS)),
}


@pytest.mark.parametrize("name", ONE_SAMPLE)
def test_weights_are_repeated_images(name: str) -> None:
    metric, arrays = ONE_SAMPLE[name]
    counts = np.random.default_rng(1).integers(0, 4, (30, N))  # totals differ from row to row
    counts[0] = 0
    counts[0, np.flatnonzero(_MARKS)[0]] = 1  # one image alone
    weighted = metric(*arrays, counts)
    assert weighted.shape == (30,)
    for value, row in zip(weighted, counts, strict=True):
        repeated = metric(*(np.repeat(array, row, axis=0) for array in arrays))
        assert value == pytest.approx(repeated, **EXACT)
    assert metric(*arrays, np.ones(N, int)) == pytest.approx(metric(*arrays), **EXACT)
    deeper = metric(*arrays, counts.reshape(2, 15, N))
    np.testing.assert_allclose(deeper, weighted.reshape(2, 15), rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", [auroc, fpr95, partial(fpr95, target_coverage=0.5)])
def test_weights_are_repeated_images_in_two_samples(metric: Callable[..., Any]) -> None:
    rng = np.random.default_rng(2)
    known, ood = rng.integers(0, 12, N) / 11, rng.integers(4, 16, 25) / 11
    known_counts, ood_counts = rng.integers(0, 4, (30, N)), rng.integers(0, 4, (30, 25))
    known_counts[0], ood_counts[0] = np.eye(N, dtype=int)[3], np.eye(25, dtype=int)[7]
    both = metric(known, ood, known_counts, ood_counts)
    first, second = metric(known, ood, known_counts), metric(known, ood, None, ood_counts)
    for row, (k, s) in enumerate(zip(known_counts, ood_counts, strict=True)):
        expected = metric(np.repeat(known, k), np.repeat(ood, s))
        assert both[row] == pytest.approx(expected, **EXACT)
        assert first[row] == pytest.approx(metric(np.repeat(known, k), ood), **EXACT)
        assert second[row] == pytest.approx(metric(known, np.repeat(ood, s)), **EXACT)


@pytest.mark.parametrize("name", ONE_SAMPLE)
def test_order_of_the_images_never_matters(name: str) -> None:
    metric, arrays = ONE_SAMPLE[name]
    order = np.random.default_rng(3).permutation(N)
    shuffled = metric(*(array[order] for array in arrays))
    assert shuffled == pytest.approx(metric(*arrays), **EXACT)


def test_rows_that_accept_nothing_are_marked() -> None:
    values = selective_risk([1, 0], [1, 0], np.array([[2, 0], [0, 2], [1, 1]]))
    np.testing.assert_array_equal(values, [1, np.nan, 1])


# --- refusals -------------------------------------------------------------------------------------

TWO = np.array([0.25, 0.75])
REFUSED: dict[str, Callable[[np.ndarray], Any]] = {
    "accuracy": lambda bad: accuracy(np.stack([bad, 1 - bad], axis=1), np.zeros(len(bad), int)),
    "nll": lambda bad: nll(np.stack([bad, 1 - bad], axis=1), np.zeros(len(bad), int)),
    "top_class": lambda bad: top_class(np.stack([bad, 1 - bad], 1), np.zeros(len(bad), int)),
    "ece": lambda bad: ece(bad, np.zeros(len(bad))),
    "aurc": lambda bad: aurc(bad, np.zeros(len(bad))),
    "augrc": lambda bad: augrc(bad, np.zeros(len(bad))),
    "auroc": lambda bad: (auroc(TWO, TWO), auroc(bad, TWO)),
    "fpr95": lambda bad: (fpr95(TWO, TWO), fpr95(TWO, bad)),
    "coverage": lambda bad: coverage(bad),
    "selective_risk": lambda bad: selective_risk(np.zeros(len(bad)), bad),
    "overconfident": lambda bad: overconfident(bad, np.zeros(len(bad))),
}


@pytest.mark.parametrize("bad", [[], [0.5, math.nan], [0.5, math.inf], [-math.inf, 0.5]])
@pytest.mark.parametrize("name", REFUSED)
def test_empty_sets_and_numbers_that_are_none_are_refused(name: str, bad: list[float]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        REFUSED[name](np.array(bad))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy(np.log(PROBS), LABELS), "accuracy: a row is no probability"),
        (lambda: accuracy(PROBS, [0, 1, 2, 3]), r"accuracy: labels must be .* 0\.\.2"),
        (lambda: accuracy(PROBS, [0, 1, 2, -1]), r"accuracy: labels must be .* 0\.\.2"),
        (lambda: nll(PROBS, [0.0, 1.0, 2.0, 0.0]), "nll: labels must be whole"),
        (lambda: nll(PROBS, [0, 1]), r"nll: probabilities \(4, 3\) and labels \(2,\)"),
        (lambda: ece([1.5], [1]), "ece: a confidence lies outside"),
        (lambda: ece([0.5], [1], bins=0), "ece: bins"),
        (lambda: aurc(TWO, [1]), "aurc: 1 marks for 2 images"),
        (lambda: aurc(TWO, [1, 2]), "aurc: marks are 0 or 1"),
        (lambda: fpr95(TWO, TWO, target_coverage=0.0), "fpr95: target_coverage"),
        (lambda: fpr95(TWO, TWO, target_coverage=95), "fpr95: target_coverage"),
        (lambda: coverage([1, 0], np.array([1, -1])), "coverage: weights"),
        (lambda: coverage([1, 0], np.array([1, 1, 1])), "coverage: weights"),
        (lambda: coverage([1, 0], np.array([0.5, 0.5])), "coverage: weights"),
        (lambda: auroc(TWO, TWO, np.zeros((3, 2), int)), "auroc: a row of weights"),
    ],
)
def test_mistakes_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call()

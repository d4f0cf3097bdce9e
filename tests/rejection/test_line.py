"""The smallest example: the sign of x, learned from x in [-1, 1], and then x = 10.

A network is most confident far from its training points, other networks agree with it, and only
distances to the training points themselves show that x = 10 is out of distribution.

Letters: N points, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.learning.optimizer import adamw_for
from sign_ensemble.learning.training_loop import FeatureBatches, fit, head_schedule
from sign_ensemble.rejection.class_gaussians import (
    ClassGaussians,
    fit_class_gaussians,
    label_distances,
    relative_distance,
)
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours
from sign_ensemble.rejection.predictor import Answers, answer
from sign_ensemble.rejection.rule import Rule, accepts_score
from sign_ensemble.rejection.scores import all_scores

RECIPE = MemberConfig(
    widths=(16, 16), dropout=0.0, learning_rate=3e-3, epochs=15, validation_share=0.0
)
MEMBERS, SIGNERS, NEIGHBOURS, TARGET_COVERAGE = 5, 4, 5, 0.95
FAR = 10.0


def features(x_N: np.ndarray) -> np.ndarray:
    """Frozen features: 64 units ReLU(a x + b), a and b drawn once."""
    rng = np.random.default_rng(0)
    slope_D, height_D = rng.normal(size=64), rng.normal(size=64)
    return np.maximum(np.outer(x_N, slope_D) + height_D, 0).astype(np.float16)


def points(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """So many x from [-1, 0) and (0, 1], and which of the two each is from."""
    rng = np.random.default_rng(seed)
    x_N = rng.uniform(0.0, 1.0, n) * np.where(rng.random(n) < 0.5, -1, 1)
    return x_N, (x_N > 0).astype(np.int64)


def trained(seed: int) -> Head:
    x_N, labels_N = points(seed=1, n=400)
    torch.manual_seed(seed)
    head = Head(64, RECIPE.widths, 2, RECIPE.dropout)
    batches = FeatureBatches(
        features(x_N)[:, None], np.arange(len(x_N)), labels_N, RECIPE.batch_size, 0.0,
        np.random.default_rng(seed),
    )  # fmt: skip
    optimizer = adamw_for((head, RECIPE.learning_rate), weight_decay=0.0)
    fit(head, batches, head_schedule(RECIPE), optimizer, torch.device("cpu"))
    return head


@dataclass(frozen=True)
class Line:
    """Five networks, what distances are measured to, and the rule."""

    heads: tuple[Head, ...]
    nearest: NearestNeighbours
    gaussians: ClassGaussians
    rule: Rule

    def output(self, x_N: np.ndarray) -> EnsembleOutput:
        found = features(x_N)
        return EnsembleOutput(
            np.stack([logits_of(head, found) for head in self.heads]),
            np.ones(MEMBERS),
            self.nearest.distances(found, NEIGHBOURS),
            relative_distance(*label_distances(found, self.gaussians)),  # a point is one region
        )

    def answers(self, *x: float) -> Answers:
        return answer(self.output(np.array(x)), self.rule)


@pytest.fixture(scope="module")
def line() -> Line:
    """Trained on 400 points, calibrated on 400 others, a hundred of each signer."""
    x_N, labels_N = points(seed=1, n=400)
    reference_BD = features(x_N)
    rule = Rule(
        target_coverage=TARGET_COVERAGE,
        uncertainty_share=0.0,
        calibration={},
        groups_C=np.arange(400) % SIGNERS,
        single_C=np.zeros(400),
        temperature=1.0,
    )
    found = Line(
        tuple(trained(seed) for seed in range(MEMBERS)),
        NearestNeighbours.of(reference_BD),
        fit_class_gaussians(reference_BD, labels_N),
        rule,
    )
    others_N, _ = points(seed=2, n=400)
    rule.calibration.update(all_scores(found.output(others_N)))
    return found


def test_the_ensemble_has_learned_the_labels(line: Line) -> None:
    x_N, labels_N = points(seed=3, n=1000)
    assert (line.answers(*x_N).labels_N == labels_N).mean() > 0.98


def test_a_network_is_more_confident_far_away_than_on_any_training_point(line: Line) -> None:
    x_N, _ = points(seed=1, n=400)
    on_points = line.output(x_N).log_probs_MNK.max(-1)
    far_away = line.output(np.array([FAR])).log_probs_MNK.max(-1)
    assert (far_away >= on_points.max(1, keepdims=True)).all()
    assert np.exp(far_away).min() > 0.999


@pytest.mark.parametrize("score", ["total_uncertainty", "disagreement"])
def test_no_score_of_the_networks_alone_rejects_it(line: Line, score: str) -> None:
    found = line.answers(FAR).scores[score]
    calibration, weights = line.rule.calibration[score], line.rule.weights_C
    assert accepts_score(found, calibration, weights, TARGET_COVERAGE).tolist() == [True]


def test_the_rule_rejects_it_and_gives_the_reason(line: Line) -> None:
    found = line.answers(FAR, -FAR)
    assert found.accepted_N.tolist() == [False, False]
    reason = "like nothing in the training images (5 say plus)"
    assert found.reason(0, ("minus", "plus")) == reason


def test_the_rule_accepts_its_target_coverage_of_new_points(line: Line) -> None:
    x_N, _ = points(seed=4, n=2000)
    accepted = line.answers(*x_N).accepted_N.mean()
    # 2,000 new points, a threshold from 400 others: two binomial errors of the target coverage
    error = np.sqrt(TARGET_COVERAGE * (1 - TARGET_COVERAGE) * (1 / 2000 + 1 / 400))
    assert accepted == pytest.approx(TARGET_COVERAGE, abs=2 * error)

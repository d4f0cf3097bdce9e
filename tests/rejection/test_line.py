"""The example that began it: the sign of x, learned from x in [-1, 1], asked about x = 10.

A network fitted there is surest where it knows least, its fellows agree with it, and only what
looks at the training points themselves can tell.

Letters: M members, N points, D features.
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
from sign_ensemble.rejection.class_gaussians import fit_class_gaussians, relative_distance
from sign_ensemble.rejection.ensemble import EnsembleOutput
from sign_ensemble.rejection.nearest_neighbours import knn_distance
from sign_ensemble.rejection.norms import Norms
from sign_ensemble.rejection.predictor import Answers, answer
from sign_ensemble.rejection.regional_mahalanobis import RegionalGaussians
from sign_ensemble.rejection.rule import Rule, accepts_score
from sign_ensemble.rejection.scores import all_scores

RECIPE = MemberConfig(
    widths=(16, 16), dropout=0.0, learning_rate=3e-3, epochs=15, validation_share=0.0
)
MEMBERS, SIGNERS, K, KEEP = 5, 4, 5, 0.95
FAR_AWAY = 10.0


def features(x_N: np.ndarray) -> np.ndarray:
    """Frozen layers of a sort: 64 units ReLU(a x + b), a and b drawn once."""
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
    """Five networks and the rule over them."""

    heads: tuple[Head, ...]
    rule: Rule

    def evidence(self, x_N: np.ndarray) -> EnsembleOutput:
        found = features(x_N)
        return EnsembleOutput(
            np.stack([logits_of(head, found) for head in self.heads]),
            np.ones(MEMBERS),
            knn_distance(found, self.rule.bank, K),
            relative_distance(found, self.rule.clouds),
            np.zeros(len(x_N)),  # a point has no parts
            Norms.of(self.rule.bank).of_images(found),
        )

    def answers(self, *x: float) -> Answers:
        return answer(self.evidence(np.array(x)), self.rule)


@pytest.fixture(scope="module")
def line() -> Line:
    """Trained on 400 points, calibrated on 400 others, a hundred of each signer."""
    x_N, labels_N = points(seed=1, n=400)
    bank = features(x_N)
    heads = tuple(trained(seed) for seed in range(MEMBERS))
    rule = Rule(
        witnesses=("total_uncertainty", "neighbour"),
        joined="smallest",
        target_coverage=KEEP,
        calibration={},
        groups_C=np.arange(400) % SIGNERS,
        single_C=np.zeros(400),
        neighbours=K,
        bank=bank,
        clouds=fit_class_gaussians(bank, labels_N),
        parts=RegionalGaussians(()),
        choice={},
        temperature=1.0,
    )
    others, _ = points(seed=2, n=400)
    rule.calibration.update(all_scores(Line(heads, rule).evidence(others)))
    return Line(heads, rule)


def test_the_network_reads_what_it_was_taught(line: Line) -> None:
    x_N, labels_N = points(seed=3, n=1000)
    assert (line.answers(*x_N).labels_N == labels_N).mean() > 0.98


def test_a_network_is_surer_far_away_than_on_any_training_point(line: Line) -> None:
    x_N, _ = points(seed=1, n=400)
    taught = line.evidence(x_N).log_probs_MNK.max(-1)
    away = line.evidence(np.array([FAR_AWAY])).log_probs_MNK.max(-1)
    assert (away >= taught.max(1, keepdims=True)).all()
    assert np.exp(away).min() > 0.999


@pytest.mark.parametrize("score", ["total_uncertainty", "disagreement", "energy", "max_logit"])
def test_no_score_of_the_networks_alone_refuses_it(line: Line, score: str) -> None:
    found = line.answers(FAR_AWAY).scores[score]
    rule = line.rule
    assert accepts_score(found, rule.calibration[score], rule.groups_C, KEEP).tolist() == [True]


def test_the_rule_refuses_it_and_says_why(line: Line) -> None:
    said = line.answers(FAR_AWAY, -FAR_AWAY)
    assert said.accepted_N.tolist() == [False, False]
    assert said.why(0, ("minus", "plus")) == "like nothing in the training images (5 say plus)"


def test_the_rule_keeps_what_it_promises_of_new_points(line: Line) -> None:
    x_N, _ = points(seed=4, n=2000)
    kept = line.answers(*x_N).accepted_N.mean()
    # 2,000 new points against a threshold drawn with 400: two binomial errors of the promise
    error = np.sqrt(KEEP * (1 - KEEP) * (1 / 2000 + 1 / 400))
    assert kept == pytest.approx(KEEP, abs=2 * error)

"""The figures of metrics.json, measured on unseen signers and OOD images.

    known.{accuracy, coverage, confident, selective_risk, ece, aurc, augrc, nll}
    sets.<name>.{kind, n, auroc, fpr95, accepted, overconfident}

Both stand for the ensemble with its rule. The same two trees stand under ``single`` (the best
member with max-prob) and under ``scores.<score>`` (the ensemble rejecting by that score alone).
``signers.<id>`` holds the known tree of each test signer, with all near images in its aurc and
augrc. Every figure is ``{value, low, high, n}``.

* auroc and fpr95 compare the OOD statistic; the rule's uncertainty test counts in aurc, augrc,
  coverage and accepted.
* Failures of aurc and augrc are wrong answers on known images and all near images.
* ``confident`` and ``overconfident``: share of known images, or of a set, that is accepted with
  confidence ≥ 0.90. A single model accepts everything there, and its confidence is its probability.
* ``ece`` and ``nll`` are of probabilities.

Letters: N images, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble import metrics
from sign_ensemble.metrics.intervals import with_interval
from sign_ensemble.rejection.predictor import Answers
from sign_ensemble.rejection.rule import Rule, accepts_score
from sign_ensemble.rejection.scores import Scores, max_prob


@dataclass(frozen=True)
class OodSet:
    """A near or far set and the answers to it."""

    kind: str
    answers: Answers


@dataclass(frozen=True)
class Method:
    """One way of answering and rejecting, on one set of images."""

    probs_NK: NDArray[np.float64]  # probabilities
    confidence: NDArray[np.float64]  # what counts for ``confident`` and ``overconfident``
    ood: Scores  # the score behind auroc and fpr95
    rejection: Scores  # the score behind aurc and augrc
    accepted: NDArray[np.bool_]  # the decision at the shipped threshold
    claimed: NDArray[np.bool_]  # what counts as answered for ``confident`` and ``overconfident``


def ensemble_method(answers: Answers, rule: Rule) -> Method:
    """The shipped rule."""
    ood, rejection = rule.statistic(answers.scores), rule.rejection_score(answers.scores)
    probs_NK = answers.output.probs_NK
    accepted_N = answers.accepted_N
    return Method(probs_NK, answers.confidence_N, ood, rejection, accepted_N, accepted_N)


def score_method(answers: Answers, rule: Rule, name: str) -> Method:
    """The ensemble rejecting by one score alone, its threshold calibrated in the same way."""
    scores = answers.scores[name]
    accepted = accepts_score(scores, rule.calibration[name], rule.weights_C, rule.target_coverage)
    probs_NK = answers.output.probs_NK
    return Method(probs_NK, answers.probability_N, scores, scores, accepted, accepted)


def single_method(answers: Answers, rule: Rule, best: int) -> Method:
    """The best member with max-prob."""
    probs_NK = np.exp(answers.output.log_probs_MNK[best])
    scores = max_prob(probs_NK)
    accepted = accepts_score(scores, rule.single_C, rule.weights_C, rule.target_coverage)
    return Method(probs_NK, probs_NK.max(-1), scores, scores, accepted, np.ones(len(scores), bool))


@dataclass(frozen=True)
class Bootstrap:
    """Draws and seed of the bootstrap intervals."""

    draws: int
    seed: int

    def figure(self, statistic: Any, *sizes: int, centred: bool = False) -> dict[str, Any]:
        """A figure as metrics.json holds it."""
        return with_interval(
            statistic, sizes, draws=self.draws, seed=self.seed, centred=centred
        ).as_dict()


def with_near(
    known: Method, labels_N: NDArray[np.int64], near: Sequence[Method]
) -> tuple[Scores, NDArray[np.bool_], NDArray[np.bool_]]:
    """Rejection scores, acceptances and failures of known images, followed by all near images."""
    wrong_N = known.probs_NK.argmax(-1) != labels_N
    return (
        np.concatenate([known.rejection, *[each.rejection for each in near]]),
        np.concatenate([known.accepted, *[each.accepted for each in near]]),
        np.concatenate([wrong_N, *[np.ones(len(each.accepted), bool) for each in near]]),
    )


def known_tree(
    method: Method, labels_N: NDArray[np.int64], near: Sequence[Method], bootstrap: Bootstrap
) -> dict[str, Any]:
    """The figures on known signs."""
    n = len(labels_N)
    probability, correct = metrics.top_class(method.probs_NK, labels_N)
    scores, _, failures = with_near(method, labels_N, near)
    figure = bootstrap.figure
    return {
        "accuracy": figure(partial(metrics.accuracy, method.probs_NK, labels_N), n),
        "coverage": figure(partial(metrics.coverage, method.accepted), n),
        "selective_risk": figure(partial(metrics.selective_risk, method.accepted, ~correct), n),
        "confident": figure(partial(metrics.overconfident, method.confidence, method.claimed), n),
        "ece": figure(partial(metrics.ece, probability, correct), n, centred=True),
        "aurc": figure(partial(metrics.aurc, scores, failures), len(scores)),
        "augrc": figure(partial(metrics.augrc, scores, failures), len(scores)),
        "nll": figure(partial(metrics.nll, method.probs_NK, labels_N), n),
    }


def set_tree(known: Method, ood: Method, kind: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """The figures on one OOD set."""
    n, m = len(known.ood), len(ood.ood)
    figure = bootstrap.figure
    return {
        "kind": kind,
        "n": m,
        "auroc": figure(partial(metrics.auroc, known.ood, ood.ood), n, m),
        "fpr95": figure(partial(metrics.fpr95, known.ood, ood.ood), n, m),
        "accepted": figure(partial(metrics.coverage, ood.accepted), m),
        "overconfident": figure(partial(metrics.overconfident, ood.confidence, ood.claimed), m),
    }


def evaluate(
    known: Answers,
    labels_N: NDArray[np.int64],
    signers_N: NDArray[np.str_],
    ood: Mapping[str, OodSet],
    rule: Rule,
    best: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """The tree of metrics.json.

    ``best`` is the member with the lowest loss on training signers it had not seen.
    """

    def branch(method: Callable[..., Method], **more: Any) -> dict[str, Any]:
        of_known = method(known, rule, **more)
        of_sets = {name: method(each.answers, rule, **more) for name, each in ood.items()}
        near = [of_sets[name] for name, each in ood.items() if each.kind == "near"]
        return {
            "known": known_tree(of_known, labels_N, near, bootstrap),
            "sets": {
                name: set_tree(of_known, of_sets[name], each.kind, bootstrap)
                for name, each in ood.items()
            },
        }

    shipped = ensemble_method(known, rule)
    near = [ensemble_method(each.answers, rule) for each in ood.values() if each.kind == "near"]
    signers = {}
    for signer in np.unique(signers_N):
        of_signer_N = signers_N == signer
        part = Method(**{name: value[of_signer_N] for name, value in vars(shipped).items()})
        signers[str(signer)] = known_tree(part, labels_N[of_signer_N], near, bootstrap)
    return {
        **branch(ensemble_method),
        "single": branch(single_method, best=best),
        "scores": {
            name: branch(score_method, name=name)
            for name in known.scores
            if name in rule.calibration
        },
        "signers": signers,
    }

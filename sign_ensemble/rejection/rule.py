"""The rule: several witnesses, one question, a threshold from signers the models had not seen.

Each witness's score is turned into a surprise, −log of the share of calibration images at least as
strange; the surprises are joined; the joined statistic is turned into a conformal p-value on the
same images, every calibration signer weighing the same. An image is answered if its p-value exceeds
1 − keep.

Where total uncertainty is no witness, it may be asked as a second question: not whether an image is
strange, but whether a sign is read surely. Each question then has its share of what may be refused.

Letters: N images, C calibration images, W witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.rejection.class_gaussians import ClassGaussians
from sign_ensemble.rejection.gda_predictions import GdaPredictions
from sign_ensemble.rejection.hand_count import HandCountDetector
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.regional_mahalanobis import RegionalGaussians
from sign_ensemble.rejection.risk_control import RiskControl
from sign_ensemble.rejection.temperature import tempered
from sign_ensemble.rejection.vetoes import (
    Joined,
    loo_beyond,
    loo_veto_excess,
    tail_excess,
    veto_excess,
    vetoes_of,
)

Floats = NDArray[np.float64]
UNSURE = "total_uncertainty"  # the score that the second question goes by


def conformal_p(scores_N: Floats, calibration_C: Floats, weights_C: Floats | None = None) -> Floats:
    """Share of calibration images at least as strange, counting the image itself.

    p(s) = (1 + C Σ_c w_c [s_c ≥ s]) / (C + 1), Σ w = 1. With equal weights and exchangeable images,
    P(p ≤ a) ≤ a (Vovk et al. 2005). Ties count as at least as strange.

    Args:
        scores_N: Scores asked about, higher = stranger.
        calibration_C: Scores of images by signers that the models had not seen.
        weights_C: Weight of each, summing to 1; None is 1/C.

    Raises:
        ValueError: a score is not a finite number, or there is no calibration image.
    """
    if not len(calibration_C):
        raise ValueError("conformal_p: no calibration scores")
    if not (np.isfinite(scores_N).all() and np.isfinite(calibration_C).all()):
        raise ValueError("conformal_p: scores must be finite")
    count = len(calibration_C)
    weights = np.full(count, 1 / count) if weights_C is None else weights_C
    order = np.argsort(calibration_C, kind="stable")
    above = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]])
    at_least = above[np.searchsorted(calibration_C[order], scores_N, side="left")]
    return np.minimum((1 + count * at_least) / (count + 1), 1.0)  # sums of weights round


def neg_log_p(scores_N: Floats, calibration_C: Floats, weights_C: Floats | None = None) -> Floats:
    """−log p(s), made continuous so that it ranks images beyond every calibration image too.

    Between calibration scores −log p is interpolated linearly. Above the highest, an exponential
    tail goes on: −log p(c_max) + (s − c_max) / β, with β the mean excess of the calibration scores
    over their 90 % quantile. Only ranks come from it; the promise is made by :func:`conformal_p`.

    Returns:
        Surprise in nats, 0 at the least strange calibration image and below.
    """
    knots = np.unique(calibration_C)
    heights = -np.log(conformal_p(knots, calibration_C, weights_C))
    if not np.isfinite(scores_N).all():
        raise ValueError("surprise: scores must be finite")
    inside_N = np.interp(scores_N, knots, heights)
    return inside_N + np.maximum(scores_N - knots[-1], 0.0) / tail_excess(calibration_C)


def loo_neg_log_p(calibration_C: Floats, weights_C: Floats | None = None) -> Floats:
    """Surprise of each calibration image among the *others*, as an image asked about has it.

    Were it counted among itself, it would look less strange than a new image of the same kind, and
    a rule of several witnesses would refuse too many. With n equal weights the share refused is
    then, in simulation, at most the share promised from n = 39 on.

    Returns:
        −log of (1 + n (Σ_c w_c [s_c ≥ s_i] − w_i)) / (1 + n (1 − w_i)), with the exponential tail
        of :func:`neg_log_p` for a single highest image.
    """
    count = len(calibration_C)
    weights = np.full(count, 1 / count) if weights_C is None else weights_C
    at_least = (conformal_p(calibration_C, calibration_C, weights) * (count + 1) - 1) / count
    others = (1 + count * np.maximum(at_least - weights, 0.0)) / (1 + count * (1 - weights))
    return -np.log(np.minimum(others, 1.0)) + loo_beyond(calibration_C)


def join(surprises_WN: Floats, how: Joined) -> Floats:
    """One statistic from several witnesses' surprises (W, N).

    ``smallest``: the largest surprise, that is the smallest p-value; Bonferroni's factor is left to
    the calibration. ``fisher``: their sum, −Σ log p (Fisher 1925). ``guarded``: as smallest, where
    guards' rows are no surprises but how far :func:`veto_excess` an image lies.
    """
    return surprises_WN.sum(0) if how == "fisher" else surprises_WN.max(0)


def signer_weights(groups_C: NDArray[np.int64]) -> Floats:
    """Weights that sum to 1 and give every group the same total."""
    _, index_C, counts = np.unique(groups_C, return_inverse=True, return_counts=True)
    return 1.0 / (len(counts) * counts[index_C])


@dataclass(frozen=True)
class Rule:
    """When an image is answered.

    Args:
        witnesses: Those that decide.
        joined: How, see :func:`join`.
        target_coverage: Share of a new signer's signs to answer.
        unsure: Share of what is refused that the second question may refuse; 0: it is not asked.
        calibration: Every witness's scores (C,) on calibration images, also of those that do not
            decide, for comparison.
        groups_C: Calibration signer (fold) of each image.
        single_C: 1 − max probability of the best member on the same images: the rule of a model
            alone.
        neighbours: k of the neighbour witness.
        bank: Features (B, D) it looks among.
        clouds: What the relative Mahalanobis witness measures to; they read too, if any clouds do.
        parts: What the part Mahalanobis witness measures to.
        choice: How the combination was chosen, for the report.
        temperature: What would make the ensemble's probabilities honest on the calibration images,
            see ``temperature.py``; confidences use it, no decision does.
        fifth: The fifth layer's clouds, where they read.
        readings: How clouds read.
        promise: Which signs are read surely enough to be answered, where that was asked for.
        own: Clouds of each member's own convolutions, where members have these: a witness, and
            they read, in place of frozen ones.
        belief: How likely an image is to be a sign, by how strange it is; None where nothing tells.
        hands: What no sign looks like, and two at once; None where nobody asks.
    """

    witnesses: tuple[str, ...]
    joined: Joined
    target_coverage: float
    calibration: dict[str, Floats]
    groups_C: NDArray[np.int64]
    single_C: Floats
    neighbours: int
    bank: NDArray[np.float16]
    clouds: ClassGaussians
    parts: RegionalGaussians
    choice: dict[str, Any]
    temperature: float
    fifth: ClassGaussians | None = None
    readings: GdaPredictions | None = None
    promise: RiskControl | None = None
    own: tuple[MemberGda, ...] = ()
    unsure: float = 0.0
    belief: InDistribution | None = None
    hands: HandCountDetector | None = None

    @property
    def weights_C(self) -> Floats:
        """Every calibration signer weighs the same."""
        return signer_weights(self.groups_C)

    @property
    def guards(self) -> tuple[str, ...]:
        """What counts only beyond all calibration images."""
        return vetoes_of(self.witnesses, self.joined)

    def surprises(self, scores: Mapping[str, Floats]) -> Floats:
        """Surprise of each deciding witness, (W, N); of a guard, how far beyond."""
        weights = self.weights_C

        def of(name: str) -> Floats:
            if name in self.guards:
                return veto_excess(name, scores[name], self.calibration[name])
            return neg_log_p(scores[name], self.calibration[name], weights)

        return np.stack([of(name) for name in self.witnesses])

    def statistic(self, scores: Mapping[str, Floats]) -> Floats:
        """The joined statistic: how strange each image is."""
        return join(self.surprises(scores), self.joined)

    def p_values(self, scores: Mapping[str, Floats]) -> Floats:
        """p-value of each image under "a training label, signed by a new person, read surely".

        Of two questions with shares u and 1 − u the smaller of p / (1 − u) and p' / u (Bonferroni,
        weighted): at most a share 1 − keep of a new signer's signs is refused for either.
        """
        return self.p_of_questions(scores).min(0)

    def p_of_questions(self, scores: Mapping[str, Floats]) -> Floats:
        """p-value by each question over its share (1 or 2, N), at most 1: strange, then unsure if
        that is asked.
        """
        return self._over_shares(self.p_strange(scores), scores)

    def _over_shares(self, strange_N: Floats, scores: Mapping[str, Floats]) -> Floats:
        if not self.unsure:
            return strange_N[None]
        unsure_N = conformal_p(scores[UNSURE], self.calibration[UNSURE], self.weights_C)
        over_QN = np.stack([strange_N / (1 - self.unsure), unsure_N / self.unsure])
        return np.minimum(over_QN, 1.0)

    def p_strange(self, scores: Mapping[str, Floats]) -> Floats:
        """Conformal p-value of each image under "a training label, signed by a new person"."""
        weights = self.weights_C
        if len(self.witnesses) == 1:  # its surprise only rises with its score: exact as it is
            name = self.witnesses[0]
            return conformal_p(scores[name], self.calibration[name], weights)
        return conformal_p(self.statistic(scores), self.own_statistic(), weights)

    def doubt(self, scores: Mapping[str, Floats]) -> Floats:
        """What the whole rule refuses by, higher = refused sooner: −log of :meth:`p_values`, made
        continuous as in :func:`neg_log_p`; of one question its statistic.
        """
        strange_N = self.statistic(scores)
        if not self.unsure:
            return strange_N
        weights = self.weights_C
        of_strange_N = neg_log_p(strange_N, self.own_statistic(), weights)
        of_unsure_N = neg_log_p(scores[UNSURE], self.calibration[UNSURE], weights)
        return np.maximum(of_strange_N + np.log(1 - self.unsure), of_unsure_N + np.log(self.unsure))

    def confidence(self, probs_NK: Floats, strange_N: Floats) -> Floats:
        """Probability that the likeliest label is right, (N,): that the image is a sign at all, see
        ``belief.py``, times the label's tempered probability. Where nothing tells the first, the
        second alone.

        Args:
            probs_NK: The ensemble's probabilities.
            strange_N: The joined statistic.
        """
        of_label_N = tempered(probs_NK, self.temperature).max(-1)
        return of_label_N * self.belief.of(strange_N) if self.belief else of_label_N

    def own_statistic(self) -> Floats:
        """The joined statistic of each calibration image among the others, (C,)."""
        weights = self.weights_C

        def of(name: str) -> Floats:
            if name in self.guards:
                return loo_veto_excess(name, self.calibration[name])
            return loo_neg_log_p(self.calibration[name], weights)

        return join(np.stack([of(name) for name in self.witnesses]), self.joined)

    def answers_own(self) -> NDArray[np.bool_]:
        """Which calibration images the rule answers, (C,)."""
        own = self.own_statistic()
        strange_C = conformal_p(own, own, self.weights_C)
        return accepts(self._over_shares(strange_C, self.calibration).min(0), self.target_coverage)

    def too_unsure(self, scores: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """Which images are refused for what was promised of errors; none if nothing was."""
        unsure_N = scores["total_uncertainty"]
        return unsure_N > (self.promise.sure if self.promise else np.inf)


def accepts(p_values_N: Floats, target_coverage: float) -> NDArray[np.bool_]:
    """Answer where p > 1 − keep; what differs from it by rounding alone (1e-9) equals it."""
    return p_values_N > 1 - target_coverage + 1e-9


def accepts_score(
    scores_N: Floats, calibration_C: Floats, groups_C: NDArray[np.int64], target_coverage: float
) -> NDArray[np.bool_]:
    """The same decision from one score alone."""
    return accepts(conformal_p(scores_N, calibration_C, signer_weights(groups_C)), target_coverage)


def resolution(groups_C: NDArray[np.int64]) -> float:
    """The finest statement about a whole new signer that S calibration signers allow: 1/(S + 1)."""
    return 1.0 / (len(np.unique(groups_C)) + 1)

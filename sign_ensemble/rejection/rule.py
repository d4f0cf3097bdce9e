"""The rejection rule, from top to bottom as ``docs/rejection.md`` describes it.

1. OOD test: the joint distance of an image (where hands are not used, its regional Mahalanobis
   distance), as −log of its conformal p-value on calibration images.
2. Vetoes: kNN distance, no hand, two hands, and what MediaPipe's networks count: no hand found,
   several found. Each says nothing about an image that scores no higher than the highest
   calibration image (counts: than one hand), and raises the statistic of one that does.
3. Uncertainty test: a second test, of the total uncertainty, with its own share of
   α = 1 − target coverage.
4. An image is accepted if the combined p-value exceeds α: if each test's exceeds its share of α, or
   1/(n + 1) where n calibration images cannot support that.
5. Optional selective risk control: an image that is too uncertain for it is rejected too.

The calibration images are of signers whom the models had not seen, as they are and in augmented
copies; every signer weighs the same, and so do images and copies.

Letters: N images, C calibration images, K labels, Q tests (OOD, uncertainty).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.rejection.calibration_support import Support
from sign_ensemble.rejection.conformal import (
    Floats,
    beyond,
    calibration_weights,
    conformal_p,
    level,
    loo_beyond,
    loo_neg_log_p,
    neg_log_p,
)
from sign_ensemble.rejection.p_in_distribution import EVERY_IMAGE_A_SIGN, InDistribution
from sign_ensemble.rejection.scores import (
    COUNTED_SCORES,
    HAND_COUNT_SCORES,
    UNCERTAINTY_SCORE,
    ood_score_among,
    vetoes_among,
)
from sign_ensemble.rejection.selective_risk_control import RiskControl

ROUNDING = 1e-9  # a p-value that exceeds its level by no more is equal to it
ByScore = Mapping[str, Floats]


def veto_excess(name: str, scores_N: Floats, calibration_C: Floats) -> Floats:
    """How strongly a veto speaks against each image, nats; 0 unless the score is beyond all
    calibration images, or counts something else than one hand.

    :func:`beyond`; hand-count scores and counts start at log(C + 1), the neg_log_p of an image that
    no calibration image equals, since their tails say little about how wrong a picture is.
    """
    excess_N = scores_N if name in COUNTED_SCORES else beyond(scores_N, calibration_C)
    return _with_start(name, excess_N, len(calibration_C) + 1)


def loo_veto_excess(name: str, calibration_C: Floats) -> Floats:
    """Leave-one-out :func:`veto_excess` of the calibration images, (C,)."""
    excess_C = calibration_C if name in COUNTED_SCORES else loo_beyond(calibration_C)
    return _with_start(name, excess_C, len(calibration_C))


def _with_start(name: str, excess_N: Floats, images: int) -> Floats:
    if name not in (*HAND_COUNT_SCORES, *COUNTED_SCORES):
        return excess_N
    return np.where(excess_N > 0, np.log(images) + excess_N, 0.0)


def statistics(scores: ByScore, calibration: ByScore, weights_C: Floats) -> dict[str, Floats]:
    """What the OOD test and each veto say of N images, in nats, higher = more OOD."""
    ood_score = ood_score_among(calibration)
    found = {ood_score: neg_log_p(scores[ood_score], calibration[ood_score], weights_C)}
    for name in vetoes_among(calibration):
        found[name] = veto_excess(name, scores[name], calibration[name])
    return found


def ood_statistic(scores: ByScore, calibration: ByScore, weights_C: Floats) -> Floats:
    """The largest of :func:`statistics`, (N,): how OOD each image is."""
    return np.maximum.reduce([*statistics(scores, calibration, weights_C).values()])


def loo_ood_statistic(calibration: ByScore, weights_C: Floats) -> Floats:
    """:func:`ood_statistic` of each calibration image among the others, (C,)."""
    vetoes = [loo_veto_excess(name, calibration[name]) for name in vetoes_among(calibration)]
    ood_C = calibration[ood_score_among(calibration)]
    return np.maximum.reduce([loo_neg_log_p(ood_C, weights_C), *vetoes])


@dataclass(frozen=True)
class Rule:
    """When an image is accepted."""

    target_coverage: float  # 1 − α, the share of a new signer's signs to accept
    # share u of α that the uncertainty test may use, 0 to below 1; 0: there is no such test
    uncertainty_share: float
    # every score (C,) of the calibration images by name; also of scores that the rule does not use,
    # for comparison
    calibration: dict[str, Floats]
    groups_C: NDArray[np.int64]  # the signer (fold) of each calibration image
    single_C: Floats  # 1 − max probability of the best member: what a single model would reject by
    temperature: float  # see ``temperature.py``; for ``confidence.py`` alone
    # which calibration images are augmented copies; None: none
    copies_C: NDArray[np.bool_] | None = None
    # P(in-distribution | statistic), see ``p_in_distribution.py``; None where it is not known
    in_distribution: InDistribution | None = None
    # see ``selective_risk_control.py``; None where it was not asked for
    risk_control: RiskControl | None = None

    @property
    def weights_C(self) -> Floats:
        """Weight of each calibration image, see :func:`calibration_weights`."""
        return calibration_weights(self.groups_C, self.copies_C)

    @property
    def ood_score(self) -> str:
        """The score of the OOD test."""
        return ood_score_among(self.calibration)

    @property
    def vetoes(self) -> tuple[str, ...]:
        """The vetoes in use."""
        return vetoes_among(self.calibration)

    def words(self) -> str:
        """The rule in a few words, for tables."""
        second = f", and {UNCERTAINTY_SCORE} as a second test" if self.uncertainty_share else ""
        return f"{self.ood_score} with the vetoes {', '.join(self.vetoes)}{second}"

    def confidence_in_words(self) -> str:
        """What a confidence assumes of the images shown."""
        return self.in_distribution.words() if self.in_distribution else EVERY_IMAGE_A_SIGN

    def statistics(self, scores: ByScore) -> dict[str, Floats]:
        """See :func:`statistics`."""
        return statistics(scores, self.calibration, self.weights_C)

    def statistic(self, scores: ByScore) -> Floats:
        """See :func:`ood_statistic`."""
        return ood_statistic(scores, self.calibration, self.weights_C)

    def loo_statistic(self) -> Floats:
        """See :func:`loo_ood_statistic`."""
        return loo_ood_statistic(self.calibration, self.weights_C)

    @property
    def images(self) -> int:
        """Calibration images, augmented copies not counted."""
        return int((~self.copies_C).sum()) if self.copies_C is not None else len(self.groups_C)

    @property
    def support(self) -> Support:
        """What target coverage the calibration images support."""
        return Support(self.images, self.target_coverage, self.uncertainty_share)

    def p_of_tests(self, scores: ByScore) -> Floats:
        """p-value by each test, (Q, N): OOD, then uncertainty."""
        p_N = conformal_p(self.statistic(scores), self.loo_statistic(), self.weights_C)
        return self._with_uncertainty(p_N, scores)

    def _with_uncertainty(self, p_ood_N: Floats, scores: ByScore) -> Floats:
        if not self.uncertainty_share:
            return p_ood_N[None]
        calibration_C = self.calibration[UNCERTAINTY_SCORE]
        p_N = conformal_p(scores[UNCERTAINTY_SCORE], calibration_C, self.weights_C)
        return np.stack([p_ood_N, p_N])

    def over_shares(self, p_QN: Floats) -> Floats:
        """p-values of the tests over their shares of α, at most 1, (Q, N).

        With shares 1 − u and u, p / (1 − u) and p' / u (weighted Bonferroni). The smaller one is
        the combined p-value of "a training label, signed by a new person, read with certainty": at
        most a share α of a new signer's signs is rejected. Where n images cannot support a share,
        1/((n + 1) α) takes its place (see ``Support``), and as much more may be rejected.
        """
        return np.minimum(p_QN / np.array(self.support.shares)[:, None], 1.0)

    def passes(self, p_QN: Floats) -> NDArray[np.bool_]:
        """Which images pass both tests, by their p-values: the combined one exceeds α."""
        return self.over_shares(p_QN).min(0) > 1 - self.target_coverage + ROUNDING

    def rejection_score(self, scores: ByScore) -> Floats:
        """−log of the combined p-value, made continuous as by :func:`neg_log_p`; higher = rejected
        sooner. Without an uncertainty test it is the statistic.
        """
        ood_N, weights = self.statistic(scores), self.weights_C
        if not self.uncertainty_share:
            return ood_N
        calibration_C = self.calibration[UNCERTAINTY_SCORE]
        by_ood_N = neg_log_p(ood_N, self.loo_statistic(), weights)
        by_uncertainty_N = neg_log_p(scores[UNCERTAINTY_SCORE], calibration_C, weights)
        first, second = np.log(self.support.shares)
        return np.maximum(by_ood_N + first, by_uncertainty_N + second)

    def too_uncertain(self, scores: ByScore) -> NDArray[np.bool_]:
        """Which images selective risk control rejects; none where it was not asked for."""
        most = self.risk_control.threshold if self.risk_control else np.inf
        return scores[UNCERTAINTY_SCORE] > most

    def accepted_calibration(self) -> NDArray[np.bool_]:
        """Which calibration images the two tests accept, each calibrated on the others, (C,)."""
        loo_C = self.loo_statistic()
        p_C = conformal_p(loo_C, loo_C, self.weights_C)
        return self.passes(self._with_uncertainty(p_C, self.calibration))


def accepts_score(
    scores_N: Floats, calibration_C: Floats, weights_C: Floats, target_coverage: float
) -> NDArray[np.bool_]:
    """The same decision by one score alone."""
    p_N = conformal_p(scores_N, calibration_C, weights_C)
    return p_N > level(1 - target_coverage, len(calibration_C)) + ROUNDING

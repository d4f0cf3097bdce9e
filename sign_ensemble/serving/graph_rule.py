"""The rejection rule as a module that is exported, like ``rejection/rule.py``.

What depends on the calibration images alone is computed by the run's own code: an image's score is
then looked up among their sorted scores. All in float64.

Letters: N images, K labels, Q tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, log, sqrt

import numpy as np
import torch
from torch import nn

from sign_ensemble.rejection.conformal import Floats, conformal_p, tail_excess
from sign_ensemble.rejection.p_in_distribution import InDistribution
from sign_ensemble.rejection.rule import ROUNDING, Rule
from sign_ensemble.rejection.scores import (
    COUNTED_SCORES,
    HAND_COUNT_SCORES,
    UNCERTAINTY_SCORE,
)
from sign_ensemble.rejection.temperature import TINY
from sign_ensemble.serving.graph_weights import exactly


class SortedNumbers(nn.Module):
    """How many of ascending numbers lie below each of N values: first the block, then in it, since
    there is no such operator.
    """

    def __init__(self, numbers: Floats) -> None:
        super().__init__()
        side = ceil(sqrt(len(numbers)))
        padded = np.full(side * side, inf)
        padded[: len(numbers)] = numbers
        self.side, self.blocks = side, exactly(padded.reshape(side, side))

    def forward(self, values_N: torch.Tensor, or_equal: bool = False) -> torch.Tensor:
        """Their count (N,); with ``or_equal`` those that are equal too. Values are finite."""

        def count(numbers: torch.Tensor) -> torch.Tensor:
            values = values_N[:, None]
            return (numbers <= values if or_equal else numbers < values).long().sum(1)

        block_N = count(self.blocks[:, -1]).clamp(max=self.side - 1)
        return block_N * self.side + count(self.blocks[block_N])


class PValue(nn.Module):
    """``conformal_p`` of scores among calibration images."""

    def __init__(self, calibration_C: Floats, weights_C: Floats) -> None:
        super().__init__()
        knots = np.unique(calibration_C)
        ends = np.append(knots, np.nextafter(knots[-1], inf))
        self.knots = SortedNumbers(knots)
        self.values = exactly(conformal_p(ends, calibration_C, weights_C))

    def forward(self, scores_N: torch.Tensor) -> torch.Tensor:
        """p-values (N,)."""
        return self.values[self.knots(scores_N)]


class Interpolated(nn.Module):
    """``numpy.interp``: linear between ascending knots, constant beyond."""

    def __init__(self, knots: Floats, values: Floats) -> None:
        super().__init__()
        self.sorted = SortedNumbers(knots)
        self.knots, self.values = exactly(knots), exactly(values)
        self.slopes = exactly(np.append(np.diff(values) / np.diff(knots), 0.0))

    def forward(self, at_N: torch.Tensor) -> torch.Tensor:
        """The values (N,)."""
        j_N = (self.sorted(at_N, or_equal=True) - 1).clamp(min=0)
        past_N = (at_N - self.knots[j_N]).clamp(min=0)
        return self.slopes[j_N] * past_N + self.values[j_N]


class NegLogP(nn.Module):
    """``neg_log_p`` of scores among calibration images."""

    def __init__(self, calibration_C: Floats, weights_C: Floats) -> None:
        super().__init__()
        knots = np.unique(calibration_C)
        self.between = Interpolated(knots, -np.log(conformal_p(knots, calibration_C, weights_C)))
        self.beyond = Beyond(calibration_C)

    def forward(self, scores_N: torch.Tensor) -> torch.Tensor:
        """Nats (N,)."""
        return self.between(scores_N) + self.beyond(scores_N)


class Beyond(nn.Module):
    """How far scores lie beyond every calibration image's, nats."""

    def __init__(self, calibration_C: Floats) -> None:
        super().__init__()
        self.highest, self.spread = float(calibration_C.max()), tail_excess(calibration_C)

    def forward(self, scores_N: torch.Tensor) -> torch.Tensor:
        """0 up to the highest score."""
        return (scores_N - self.highest).clamp(min=0) / self.spread


class VetoExcess(nn.Module):
    """``veto_excess`` of one veto."""

    def __init__(self, name: str, calibration_C: Floats) -> None:
        super().__init__()
        self.beyond = None if name in COUNTED_SCORES else Beyond(calibration_C)
        starts = name in (*HAND_COUNT_SCORES, *COUNTED_SCORES)
        self.start = log(len(calibration_C) + 1) if starts else None

    def forward(self, scores_N: torch.Tensor) -> torch.Tensor:
        """Nats (N,)."""
        excess_N = scores_N if self.beyond is None else self.beyond(scores_N)
        if self.start is None:
            return excess_N
        zero = torch.zeros((), dtype=torch.float64)
        return torch.where(excess_N > 0, self.start + excess_N, zero)


class Confidence(nn.Module):
    """``confidence`` of answers."""

    def __init__(self, temperature: float, in_distribution: InDistribution | None) -> None:
        super().__init__()
        self.temperature, known = temperature, in_distribution
        self.of = Interpolated(known.statistics, known.probabilities) if known else None

    def forward(self, probs_NK: torch.Tensor, statistic_N: torch.Tensor) -> torch.Tensor:
        """The confidences (N,)."""
        logs_NK = probs_NK.clamp(min=float(TINY)).log() / self.temperature
        of_label_N = logs_NK.softmax(-1).amax(-1)
        return of_label_N if self.of is None else of_label_N * self.of(statistic_N)


@dataclass(frozen=True)
class Decisions:
    """What the rule says of N images; see ``rejection/predictor.py``."""

    confidence_N: torch.Tensor
    p_values_N: torch.Tensor
    accepted_N: torch.Tensor
    deciding_N: torch.Tensor  # index into the names of the scores


class GraphRule(nn.Module):
    """The rule. ``scores`` are the names of all scores, in the order of the output."""

    def __init__(self, rule: Rule, scores: Sequence[str]) -> None:
        super().__init__()
        calibration, weights_C = rule.calibration, rule.weights_C
        self.ood_score = rule.ood_score
        self.names = (rule.ood_score, *rule.vetoes)
        self.ood = NegLogP(calibration[rule.ood_score], weights_C)
        self.vetoes = nn.ModuleList(VetoExcess(name, calibration[name]) for name in rule.vetoes)
        self.p_ood = PValue(rule.loo_statistic(), weights_C)
        self.uncertainty_share, self.images = rule.uncertainty_share, rule.images
        if rule.uncertainty_share:
            self.p_uncertainty = PValue(calibration[UNCERTAINTY_SCORE], weights_C)
        self.most_uncertain = rule.risk_control.threshold if rule.risk_control else inf
        self.confidence = Confidence(rule.temperature, rule.in_distribution)
        self.index_of = {name: at for at, name in enumerate(scores)}
        self.deciding = exactly(np.array([self.index_of[name] for name in self.names]))

    def forward(
        self,
        scores: Mapping[str, torch.Tensor],
        probs_NK: torch.Tensor,
        hands_N: torch.Tensor | None,
        target_coverage: torch.Tensor,
    ) -> Decisions:
        """The decisions; the target coverage is a float64 number."""
        each = [self.ood(scores[self.ood_score])]
        pairs = zip(self.names[1:], self.vetoes, strict=True)
        each += [veto(scores[name]) for name, veto in pairs]
        statistics = torch.stack(each)
        statistic_N = statistics.amax(0)
        combined_QN = self._over_shares(self._p_of_tests(statistic_N, scores), target_coverage)
        p_N = combined_QN.amin(0)
        passes_N = p_N > 1 - target_coverage + ROUNDING
        uncertain_N = scores[UNCERTAINTY_SCORE] > self.most_uncertain
        by_uncertainty_N = uncertain_N & passes_N
        if len(combined_QN) > 1:
            by_uncertainty_N = by_uncertainty_N | (combined_QN[1] < combined_QN[0])
        deciding_N = self.deciding[statistics.argmax(0)]
        if hands_N is not None and "joint_distance" in self.index_of:
            # without a hand there is nothing that a joint distance could be of
            nothing_N = (hands_N == 0) & (deciding_N == self.index_of["joint_distance"])
            deciding_N = torch.where(nothing_N, self.index_of["hand_not_found"], deciding_N)
        return Decisions(
            self.confidence(probs_NK, statistic_N),
            p_N,
            passes_N & ~uncertain_N,
            torch.where(by_uncertainty_N, self.index_of[UNCERTAINTY_SCORE], deciding_N),
        )

    def _p_of_tests(
        self, statistic_N: torch.Tensor, scores: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        p_N = self.p_ood(statistic_N)
        if not self.uncertainty_share:
            return p_N[None]
        return torch.stack([p_N, self.p_uncertainty(scores[UNCERTAINTY_SCORE])])

    def _over_shares(self, p_QN: torch.Tensor, target_coverage: torch.Tensor) -> torch.Tensor:
        """p-values over the tests' shares of α = 1 − target coverage, as ``Support`` has them."""
        alpha, u = 1 - target_coverage, self.uncertainty_share
        alphas = torch.stack([(1 - u) * alpha, u * alpha] if u else [alpha])
        shares = alphas.clamp(min=1 / (self.images + 1)) / alpha
        return (p_QN / shares[:, None]).clamp(max=1.0)

"""A run's own code as what reads pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.rejection.predictor import Predictor, load_predictor
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.scores import SCORES, UNCERTAINTY_SCORE
from sign_ensemble.serving.answered_images import AnsweredImages
from sign_ensemble.serving.predictions import RuleSummary

REASONS = {score.name: score.reason for score in SCORES}


def summary_of(rule: Rule) -> RuleSummary:
    """The rule in a few numbers."""
    risk = rule.risk_control
    return RuleSummary(
        ood_score=rule.ood_score,
        vetoes=rule.vetoes,
        uncertainty_score=UNCERTAINTY_SCORE,
        uncertainty_share=rule.uncertainty_share,
        target_coverage=rule.target_coverage,
        max_uncertainty=risk.threshold if risk and risk.is_supported else None,
        ood_prior=rule.in_distribution.ood_prior if rule.in_distribution else None,
        calibration_images=rule.images,
        calibration_signers=len(np.unique(rule.groups_C)),
    )


@dataclass(frozen=True)
class RunBackend:
    """Reads pictures with torch; see ``loaded_ensemble.Backend``."""

    predictor: Predictor

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the probabilities."""
        return self.predictor.ensemble.labels

    @property
    def settings(self) -> DataConfig:
        """How pictures are read."""
        return self.predictor.data

    @property
    def rule(self) -> RuleSummary:
        """The rejection rule in a few numbers."""
        return summary_of(self.predictor.rule)

    @property
    def reasons(self) -> dict[str, str]:
        """Why an image is rejected, in words, by score."""
        return REASONS

    def answer(self, pictures_NHW3: NDArray[np.uint8]) -> AnsweredImages:
        """What the ensemble says of N square pictures."""
        found = self.predictor.answer(pictures_NHW3)
        output = found.output
        return AnsweredImages(
            probs_NK=output.probs_NK,
            probs_MNK=np.exp(output.log_probs_MNK),
            kinds_M=output.kinds_M,
            weights_M=output.votes_M,
            gda_count=output.gda_count,
            confidence_N=found.confidence_N,
            p_values_N=found.p_values_N,
            accepted_N=found.accepted_N,
            deciding_N=found.deciding_N,
            scores=found.scores,
            hands=found.hands,
        )


def load_run(run: RunFolder) -> RunBackend:
    """Read a finished run.

    Raises:
        UserError: it has not come that far, or a file was damaged or changed.
    """
    return RunBackend(load_predictor(run))

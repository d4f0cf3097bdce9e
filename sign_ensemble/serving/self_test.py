"""Whether two backends answer the same pictures alike: a run's own code, and what was exported.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.device import best_device, bf16_is_fast, float32_products
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.data import backbone
from sign_ensemble.rejection.scores import UNCERTAINTY_SCORE
from sign_ensemble.serving.answered_images import AnsweredImages
from sign_ensemble.serving.loaded_ensemble import Backend
from sign_ensemble.serving.predictions import RuleSummary
from sign_ensemble.serving.run_backend import RunBackend, load_run

NEAR = 1e-3  # distance to the threshold, of p-values, within which decisions may differ
AT_ONCE = 64  # pictures answered at a time


@dataclass(frozen=True)
class Differences:
    """How two backends' answers to the same pictures differ."""

    pictures: int
    label_flips: int  # the likeliest label is another one
    answered_label_flips: int  # these, where either answers
    decision_flips: int  # one answers and the other rejects
    decision_flips_elsewhere: int  # these, where the first is not near its threshold
    near_threshold: int  # pictures on which the first is within NEAR of it
    probability: float  # largest differences, over all pictures and labels
    confidence: float
    p_value: float

    @property
    def agree(self) -> bool:
        """Whether no answer differs but near the threshold."""
        return not (self.answered_label_flips or self.decision_flips_elsewhere)

    def words(self) -> str:
        """One sentence for people."""
        return (
            f"of {self.pictures} pictures {self.label_flips} labels and {self.decision_flips} "
            f"decisions differ, {self.decision_flips_elsewhere} of these decisions not within "
            f"{NEAR} of the threshold ({self.near_threshold} pictures are); largest differences: "
            f"probability {self.probability:.1g}, confidence {self.confidence:.1g}, p-value "
            f"{self.p_value:.1g}"
        )


@contextmanager
def loaded_in_float32(run: RunFolder) -> Iterator[RunBackend]:
    """A run that multiplies in float32 in the block, as onnxruntime does; else a CPU with fast bf16
    products rounds otherwise than the exported ensemble, by up to 1/256 of a factor.
    """
    with float32_products():
        backbone.load.cache_clear()
        try:
            yield load_run(run)
        finally:
            backbone.load.cache_clear()


def bf16_is_used() -> bool:
    """Whether runs multiply in bf16 on this machine."""
    return bf16_is_fast(best_device())


def answers_of(backend: Backend, pictures_NHW3: NDArray[np.uint8]) -> list[AnsweredImages]:
    """The answers to N pictures, AT_ONCE at a time."""
    starts = range(0, len(pictures_NHW3), AT_ONCE)
    return [backend.answer(pictures_NHW3[start : start + AT_ONCE]) for start in starts]


def differences(
    first: Sequence[AnsweredImages], second: Sequence[AnsweredImages], rule: RuleSummary
) -> Differences:
    """How the second's answers differ from the first's; ``rule`` is the first's."""
    one, other = _Joined(first), _Joined(second)
    near_N = np.abs(one.p_values_N - (1 - rule.target_coverage)) <= NEAR
    if rule.max_uncertainty is not None:
        near_N |= np.abs(one.uncertainty_N - rule.max_uncertainty) <= NEAR
    other_label_N = one.probs_NK.argmax(-1) != other.probs_NK.argmax(-1)
    other_decision_N = one.accepted_N != other.accepted_N
    return Differences(
        pictures=len(near_N),
        label_flips=int(other_label_N.sum()),
        answered_label_flips=int((other_label_N & (one.accepted_N | other.accepted_N)).sum()),
        decision_flips=int(other_decision_N.sum()),
        decision_flips_elsewhere=int((other_decision_N & ~near_N).sum()),
        near_threshold=int(near_N.sum()),
        probability=_largest(one.probs_NK, other.probs_NK),
        confidence=_largest(one.confidence_N, other.confidence_N),
        p_value=_largest(one.p_values_N, other.p_values_N),
    )


class _Joined:
    """Answers in several parts as arrays of all pictures."""

    def __init__(self, parts: Sequence[AnsweredImages]) -> None:
        self.probs_NK = np.concatenate([part.probs_NK for part in parts])
        self.confidence_N = np.concatenate([part.confidence_N for part in parts])
        self.p_values_N = np.concatenate([part.p_values_N for part in parts])
        self.accepted_N = np.concatenate([part.accepted_N for part in parts])
        self.uncertainty_N = np.concatenate([part.scores[UNCERTAINTY_SCORE] for part in parts])


def _largest(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())

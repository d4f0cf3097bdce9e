"""What is answered for one image, as Python users get it."""

from __future__ import annotations

from dataclasses import dataclass

from sign_ensemble.rejection.votes import Vote


@dataclass(frozen=True)
class HandFound:
    """The hand that was read, in pixels of the image."""

    box: tuple[float, float, float, float]  # left, top, right, bottom of its points
    points: tuple[tuple[float, float], ...]  # x and y of the 21 points, in MediaPipe's order
    side: str  # ``left`` or ``right``; a mirrored picture shows the other one
    count: int  # how many hands were found


@dataclass(frozen=True)
class Disagreement:
    """Mutual information of label and member, nats, and its parts, whose sum it is."""

    total: float
    within_pixels: float | None  # None: all members are of one kind
    within_landmarks: float | None
    between_kinds: float | None


@dataclass(frozen=True)
class Prediction:
    """What is answered for one image. The figures are None where it could not be read."""

    label: str | None  # the answer; None if the image is rejected
    reason: str  # why it is rejected, in words; empty if it is accepted
    rejected_by: str | None  # the score that decided, see ``rejection/scores.py``
    likeliest: str | None  # the most probable label, also of a rejected image
    confidence: float | None  # probability that this label is right, 0 to 1
    probability: float | None  # the ensemble's probability of it, given that the image is a sign
    p_value: float | None  # rejected if it is at most 1 - target coverage
    disagreement: Disagreement | None
    votes: tuple[Vote, ...]  # by member, then GDA predictions
    votes_in_words: str  # the same as ``3 say U, 2 say V``
    hand: HandFound | None  # None: no hand was found, or none was looked for
    error: str | None = None  # why the image could not be read

    @property
    def accepted(self) -> bool:
        """Whether the image is answered."""
        return self.label is not None


def unreadable(reason: str) -> Prediction:
    """Of an image that could not be read."""
    return Prediction(None, reason, None, None, None, None, None, None, (), "", None, reason)


@dataclass(frozen=True)
class RuleSummary:
    """The rejection rule in a few numbers; ``docs/rejection.md`` describes it."""

    ood_score: str  # the score of the OOD test
    vetoes: tuple[str, ...]
    uncertainty_score: str
    uncertainty_share: float  # the uncertainty test's share of 1 - target coverage; 0: no such test
    target_coverage: float  # share of a new signer's signs that should be accepted
    max_uncertainty: float | None  # selective risk control's limit, nats; None: there is none
    ood_prior: float | None  # share of images that are no sign, as ``confidence`` assumes
    calibration_images: int  # without augmented copies
    calibration_signers: int

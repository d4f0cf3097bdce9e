"""What an ensemble says of N images, as arrays, and the predictions made of them.

A run's own code and the exported ensemble both end here.

Letters: N images, M members, then GDA predictions, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.hand_views import is_left
from sign_ensemble.data.square_pictures import Placement
from sign_ensemble.hands.finder import Hands
from sign_ensemble.hands.hand_region import POINTS
from sign_ensemble.rejection.votes import votes_in_words, votes_of
from sign_ensemble.serving.predictions import Disagreement, HandFound, Prediction

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class AnsweredImages:
    """What an ensemble says of N images."""

    probs_NK: Floats  # the ensemble's probabilities
    probs_MNK: Floats  # those of each member and GDA prediction
    kinds_M: tuple[str, ...]  # what each of them reads
    weights_M: NDArray[np.float64]  # how many votes each has
    gda_count: int  # how many of M, the last ones, are GDA predictions
    confidence_N: Floats
    p_values_N: Floats
    accepted_N: NDArray[np.bool_]
    deciding_N: Sequence[str]  # the score that speaks most against each image
    scores: Mapping[str, Floats]  # every score by name
    hands: Hands | None = None  # in the square pictures; None: none was looked for


def hand_found(hands: Hands, i: int, at: Placement) -> HandFound | None:
    """The hand in picture i, which lies ``at`` a place of its square."""
    if not hands.found_N[i]:
        return None
    found = at.in_picture(hands.points_N42[i].reshape(POINTS, 2))
    left, top, right, bottom = (*map(float, found.min(0)), *map(float, found.max(0)))
    points = tuple((float(x), float(y)) for x, y in found)
    side = "left" if is_left(hands)[i] else "right"
    return HandFound((left, top, right, bottom), points, side, int(hands.count_N[i]))


def disagreement_on(scores: Mapping[str, Floats], i: int) -> Disagreement:
    """The disagreement on image i, and its parts where there are members of both kinds."""
    names = ("disagreement_pixels", "disagreement_landmarks", "disagreement_between")
    parts = [float(scores[name][i]) if name in scores else None for name in names]
    return Disagreement(float(scores["disagreement"][i]), *parts)


def predictions_of(
    found: AnsweredImages,
    labels: Sequence[str],
    reasons: Mapping[str, str],
    placements: Sequence[Placement],
) -> list[Prediction]:
    """A prediction per image; ``reasons`` are words for people, by score."""
    kinds, made = len(set(found.kinds_M[: len(found.kinds_M) - found.gda_count])), []
    for i, at in enumerate(placements):
        k, accepted = int(found.probs_NK[i].argmax()), bool(found.accepted_N[i])
        has_hand = found.hands is None or bool(found.hands.found_N[i])
        votes = votes_of(
            found.probs_MNK[:, i], labels, found.kinds_M, found.weights_M, found.gda_count, has_hand
        )
        made.append(
            Prediction(
                label=labels[k] if accepted else None,
                reason="" if accepted else reasons[found.deciding_N[i]],
                rejected_by=None if accepted else found.deciding_N[i],
                likeliest=labels[k],
                confidence=float(found.confidence_N[i]),
                probability=float(found.probs_NK[i, k]),
                p_value=float(found.p_values_N[i]),
                disagreement=disagreement_on(found.scores, i),
                votes=votes,
                votes_in_words=votes_in_words(votes, kinds),
                hand=hand_found(found.hands, i, at) if found.hands else None,
            )
        )
    return made

"""Votes: which label each member, and each GDA prediction, names for one image.

Letters: M members, then GDA predictions, K labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LANDMARKS = "landmarks"


@dataclass(frozen=True)
class Vote:
    """What one member, or one GDA prediction, says of an image."""

    kind: str  # what it reads: ``pixels`` or ``landmarks``
    label: str  # its likeliest label
    probability: float  # its probability of that label
    weight: float  # how many votes it has
    is_member: bool = True  # False: a GDA prediction


def votes_of(
    probs_MK: NDArray[np.floating],
    labels: Sequence[str],
    kinds_M: Sequence[str],
    weights_M: NDArray[np.float64],
    gda_count: int,
    hand_found: bool = True,
) -> tuple[Vote, ...]:
    """The votes on one image, in the order of the members; the last ``gda_count`` of M are GDA
    predictions. Without a hand, those that read landmarks say nothing, nor does a GDA of both
    kinds.
    """
    members, found = len(probs_MK) - gda_count, []
    gda_needs_hand = LANDMARKS in kinds_M[members:]
    for m, probs_K in enumerate(probs_MK):
        needs_hand = gda_needs_hand if m >= members else kinds_M[m] == LANDMARKS
        if needs_hand and not hand_found:
            continue
        k = int(probs_K.argmax())
        vote = Vote(kinds_M[m], labels[k], float(probs_K[k]), float(weights_M[m]), m < members)
        found.append(vote)
    return tuple(found)


def votes_in_words(votes: Sequence[Vote], kinds: int) -> str:
    """Votes on one image, most first: ``3 say U, 2 say V``, then ``GDA says V``; where members are
    of several ``kinds``, each kind's own.
    """
    counts: dict[str, Counter[str]] = {}
    for vote in votes:
        if vote.is_member:
            counts.setdefault(vote.kind, Counter())[vote.label] += int(vote.weight)
    parts = []
    for kind, of_kind in counts.items():
        words = [f"{n} say{'s' if n == 1 else ''} {label}" for label, n in of_kind.most_common()]
        parts.append((f"{kind}: " if kinds > 1 else "") + ", ".join(words))
    gda = dict.fromkeys(vote.label for vote in votes if not vote.is_member)
    if gda:
        parts.append(f"GDA says {' and '.join(gda)}")
    return ("; " if kinds > 1 else ", ").join(parts)

"""What the rule may be: sets of witnesses, and ways to join them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sign_ensemble.rejection.vetoes import HANDS, Joined

FAR = "neighbour"  # the witness that has no blind spot far from the training images
MOST = 3  # witnesses at once: searched without a limit, two or three were chosen (protocol M)
NAMED_ONLY = frozenset({"generalised_entropy", "sirc", "feature_norm"})
"""Witnesses that decide only where they are named: every further one adds dozens of candidates, of
which a few signers favour some by chance. On four built-in signers one of 136 was better by 2.05
standard errors, and told a fifth signer's wrong gestures worse (AUROC .68 instead of .81)."""


@dataclass(frozen=True)
class Candidate:
    """Witnesses and how they are joined."""

    witnesses: tuple[str, ...]
    joined: Joined

    def among(self, names: Collection[str]) -> Candidate:
        """The same without a guard that is not among these."""
        there = tuple(name for name in self.witnesses if name not in HANDS or name in names)
        return replace(self, witnesses=there)

    @property
    def name(self) -> str:
        """For tables: ``energy+neighbour (fisher)``."""
        several = len(self.witnesses) > 1
        return "+".join(self.witnesses) + (f" ({self.joined})" if several else "")


USUAL = Candidate(("total_uncertainty", "part_mahalanobis", *HANDS, FAR), "guarded")
"""What nobody is sure of, what fits no label, what is like nothing seen, what has no hand or two: a
witness for each way an image can be strange. A few signers cannot choose among dozens of
candidates: on protocol M's training signers, each left out of the choice in turn (n = 20), this
one, then with the distance of the whole picture, had risk .043 and accepted .373 of signs whose
labels were left out; the lowest cost on the others .045 and .420, the fewest witnesses within a
standard error of it .047 and .436. That it is the worst part's distance: see ``parts.py``."""

USUAL_FINETUNED = Candidate(("part_mahalanobis", *HANDS, FAR), "guarded")
"""The same where members are fine-tuned. Such networks are sure of what they should not be: how
surely a sign is read is a question by itself. Networks without some labels are heads, which say
nothing of fine-tuned ones: they are not asked, and no other candidate is taken. Training signers
would have own_mahalanobis decide too; why it does not is told in README.
"""


def set_of(candidate: Candidate) -> tuple[frozenset[str], str]:
    """What makes two candidates the same, in whatever order their witnesses are named."""
    return frozenset(candidate.witnesses), candidate.joined


def candidates(names: Sequence[str]) -> list[Candidate]:
    """Every set of at most MOST witnesses with FAR in it; of several, all ways to join them.

    Self-made negatives without a hand are refused by nearly every set at 95 % of a signer's *own*
    signs; a threshold from other signers may lie far beyond, and only FAR is safe then. Where FAR
    is not among the names, every set is a candidate. HANDS are guards and nothing else: they are
    beside FAR wherever that is one, and are not counted.
    """
    found = []
    ranking = [name for name in names if name not in HANDS]
    guards = (*(name for name in HANDS if name in names), FAR)
    for size in range(1, min(len(ranking), MOST) + 1):
        for chosen in combinations(ranking, size):
            if FAR in names and FAR not in chosen:
                continue
            found.append(Candidate(chosen, "smallest"))
            if size > 1:
                found.append(Candidate(chosen, "fisher"))
            if size > 1 and FAR in chosen:
                others = tuple(name for name in chosen if name != FAR)
                found.append(Candidate((*others, *guards), "guarded"))
    return found

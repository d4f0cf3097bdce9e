"""Which witnesses decide: chosen on training signers and self-made negatives alone.

What stands for a wrong gesture is a sign whose label was left out of the training. A rule fails
where it answers one, and where it answers a sign that is misread.

Letters: C calibration images, N images of one signer, G negatives, W witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.data.negatives import NO_HAND
from sign_ensemble.metrics import augrc, fpr95
from sign_ensemble.rejection.candidates import USUAL, Candidate, candidates, set_of
from sign_ensemble.rejection.rule import Floats, join, neg_log_p, signer_weights
from sign_ensemble.rejection.vetoes import veto_excess, vetoes_of

LEFT_OUT = "left-out labels"  # the kind of negative that stands for a wrong gesture
GUARD = "beyond all: "  # before a witness's name, among a stranger's surprises: as a guard counts
SURE = 2.0  # standard errors by which another candidate has to be better than the usual one


@dataclass(frozen=True)
class Calibration:
    """Out-of-signer scores of the training signers' signs and of the negatives made from them.

    Args:
        scores: Witness → (C,) scores of signs.
        groups_C: The signer (fold) of each sign.
        wrong_C: Which signs the ensemble misreads.
        negatives: Witness → (G,) scores of negatives.
        groups_G: The signer (fold) whose images each negative was made from.
        kinds_G: The kind of each negative.
    """

    scores: Mapping[str, Floats]
    groups_C: NDArray[np.int64]
    wrong_C: NDArray[np.bool_]
    negatives: Mapping[str, Floats]
    groups_G: NDArray[np.int64]
    kinds_G: NDArray[np.str_]


@dataclass(frozen=True)
class Stranger:
    """One signer's surprises, calibrated on the others as a stranger's would be.

    Args:
        signer: The signer (fold).
        signs: Witness → surprises of the signer's signs.
        wrong_N: Which of them the ensemble misreads.
        negatives: Kind → witness → surprises of the negatives made from the signer's images.
    """

    signer: int
    signs: Mapping[str, Floats]
    wrong_N: NDArray[np.bool_]
    negatives: Mapping[str, Mapping[str, Floats]]


def strangers(calibration: Calibration) -> list[Stranger]:
    """Every signer as a stranger to the others."""
    found = []
    for group in np.unique(calibration.groups_C):
        mine_C = calibration.groups_C == group
        weights = signer_weights(calibration.groups_C[~mine_C])

        def surprises(
            scores: Mapping[str, Floats],
            rows: NDArray[np.bool_],
            others_C: NDArray[np.bool_] = ~mine_C,
            weights: Floats = weights,
        ) -> dict[str, Floats]:
            found = {
                name: neg_log_p(scores[name][rows], calibration.scores[name][others_C], weights)
                for name in scores
            }
            return found | {
                GUARD + name: veto_excess(
                    name, scores[name][rows], calibration.scores[name][others_C]
                )
                for name in scores
            }

        negatives = {}
        for kind in np.unique(calibration.kinds_G):
            mine_G = (calibration.groups_G == group) & (calibration.kinds_G == kind)
            if mine_G.any():
                negatives[str(kind)] = surprises(calibration.negatives, mine_G)
        signs = surprises(calibration.scores, mine_C)
        found.append(Stranger(int(group), signs, calibration.wrong_C[mine_C], negatives))
    return found


def statistics(candidate: Candidate, surprises: Mapping[str, Floats]) -> Floats:
    """What the candidate ranks images by."""
    guards = vetoes_of(candidate.witnesses, candidate.joined)
    names = [GUARD * (name in guards) + name for name in candidate.witnesses]
    return join(np.stack([surprises[name] for name in names]), candidate.joined)


def accepted_of(candidate: Candidate, stranger: Stranger) -> dict[str, float]:
    """Share of each kind of negative accepted at the threshold that keeps 95 % of the signer's
    signs.
    """
    signs = statistics(candidate, stranger.signs)
    return {
        kind: float(fpr95(signs, statistics(candidate, surprises)))
        for kind, surprises in stranger.negatives.items()
    }


def gestures(among: Sequence[Stranger]) -> tuple[str, ...]:
    """The kinds of negative that stand for wrong gestures.

    Labels left out; where none were, hands that are joined from two: wrong gestures of a sort, but
    what betrays them is the seam.
    """
    kinds = dict.fromkeys(kind for stranger in among for kind in stranger.negatives)
    if LEFT_OUT in kinds:
        return (LEFT_OUT,)
    return tuple(kind for kind in kinds if kind not in NO_HAND)


def risk(candidate: Candidate, stranger: Stranger, kinds: Sequence[str]) -> float:
    """AUGRC of the signer's signs and of the negatives of these kinds, all of which are failures
    as misread signs are: the chance that a failure is answered, over all thresholds.
    """
    strange = [
        statistics(candidate, surprises)
        for kind, surprises in stranger.negatives.items()
        if kind in kinds
    ]
    scores = np.concatenate([statistics(candidate, stranger.signs), *strange])
    failed = np.ones(len(scores), bool)
    failed[: len(stranger.wrong_N)] = stranger.wrong_N
    return float(augrc(scores, failed))


def mean_shares(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over strangers of each kind's share."""
    kinds = dict.fromkeys(kind for shares in each for kind in shares)
    return {
        kind: float(np.mean([shares[kind] for shares in each if kind in shares])) for kind in kinds
    }


def by_signer(values: Sequence[float], signers: Sequence[int]) -> dict[int, float]:
    """The mean of what was found with each signer.

    What was found with one signer several times, other labels being left out, is one observation:
    the same hands and the same light are in all of it.
    """
    return {
        signer: float(np.mean([v for v, of in zip(values, signers, strict=True) if of == signer]))
        for signer in dict.fromkeys(signers)
    }


@dataclass(frozen=True)
class Judged:
    """A candidate and what came of it.

    Args:
        candidate: Witnesses and how they are joined.
        risk: Mean over strangers of :func:`risk`.
        risks: The same of each signer alone.
        accepted: Mean share of each kind of negative accepted, see :func:`accepted_of`.
        near: The same of all kinds that stand for wrong gestures.
    """

    candidate: Candidate
    risk: float
    risks: Mapping[int, float]
    accepted: Mapping[str, float]
    near: float

    @property
    def cost(self) -> float:
        """Lower is better: the risk, plus the share accepted of the worst kind without a hand.

        The worst kind, since a mean would let one blind spot be paid for by the others.
        """
        far = max((share for kind, share in self.accepted.items() if kind in NO_HAND), default=0.0)
        return round(self.risk + far, 12)

    def gain(self, usual: Judged) -> tuple[float, float]:
        """By how much the cost is below the usual's; and the standard error of that, from the
        differences between both risks, signer by signer: infinite where there is but one.
        """
        gains = [usual.risks[signer] - mine for signer, mine in self.risks.items()]
        count = len(gains)
        error = float(np.std(gains, ddof=1) / np.sqrt(count)) if count > 1 else np.inf
        return round(usual.cost - self.cost, 12), error

    def row(self, usual: Judged) -> dict[str, Any]:
        """For tables; without a standard error where one signer has none."""
        gain, error = self.gain(usual)
        return {
            "combination": self.candidate.name,
            "cost": self.cost,
            "gain": gain,
            "standard_error": error if np.isfinite(error) else None,
            "accepted": dict(self.accepted),
        }


def judged(candidate: Candidate, among: Sequence[Stranger]) -> Judged:
    """What comes of a candidate with all strangers."""
    kinds = gestures(among)
    asked = [each for each in among if set(kinds) & set(each.negatives)] or among
    risks = [risk(candidate, stranger, kinds) for stranger in asked]
    shares = mean_shares([accepted_of(candidate, stranger) for stranger in among])
    near = float(np.mean([shares[kind] for kind in kinds])) if kinds else 0.0
    each = by_signer(risks, [stranger.signer for stranger in asked])
    return Judged(candidate, float(np.mean(risks)), each, shares, round(near, 12))


def choose(
    calibrations: Sequence[Calibration], names: Sequence[str], usual: Candidate = USUAL
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The usual candidate, unless the training signers clearly favour another.

    Another is taken if its cost is lower by more than SURE standard errors of the difference, and
    it accepts no more of what stands for wrong gestures at 95 % of signs kept; of several, that of
    lowest cost, then of fewest witnesses, then the earliest.

    Args:
        calibrations: Several, since signs whose labels were left out had models of their own.
        names: The witnesses, all of which every calibration has.
        usual: A candidate of these witnesses.

    Returns:
        The candidate, and a row per candidate, lowest cost first: name, cost, its gain over the
        usual one with its standard error, share accepted per kind.
    """
    among = [stranger for calibration in calibrations for stranger in strangers(calibration)]
    found = [judged(candidate, among) for candidate in candidates(names)]
    found.sort(key=lambda each: (each.cost, len(each.candidate.witnesses)))  # sorting is stable
    (at,) = [each for each in found if set_of(each.candidate) == set_of(usual)]

    def is_better(each: Judged) -> bool:
        gain, error = each.gain(at)
        return gain > 0 and gain > SURE * error and each.near <= at.near

    best = next((each for each in found if is_better(each)), at)
    return best.candidate, [each.row(at) for each in found]

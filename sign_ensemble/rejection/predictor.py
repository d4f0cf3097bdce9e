"""The one path of a prediction: images → members → scores → rule → answers.

evaluate, predict and whatever else answers calls :func:`answer`; so what is measured is what is
shipped.

Letters: M members, N images, H and W rows and columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data import backbone
from sign_ensemble.data.feature_cache import preprocessing_of
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.ensemble import Ensemble, EnsembleOutput, load_ensemble
from sign_ensemble.rejection.gda_predictions import ensemble_output
from sign_ensemble.rejection.member_gda import gda_distances, of_members
from sign_ensemble.rejection.nearest_neighbours import NearestNeighbours
from sign_ensemble.rejection.norms import Norms
from sign_ensemble.rejection.reference_set import DistanceModels, Distances, distances
from sign_ensemble.rejection.rule import UNSURE, Rule, accepts, join
from sign_ensemble.rejection.scores import OWN, Scores, all_scores

REASONS = {
    "total_uncertainty": "nobody is sure",
    "disagreement": "the members disagree",
    "energy": "weak evidence for every label",
    "max_logit": "weak evidence for every label",
    "generalised_entropy": "nobody is sure",
    "sirc": "nobody is sure",
    "feature_norm": "hardly anything to be seen",
    "neighbour": "like nothing in the training images",
    "relative_mahalanobis": "a hand that fits no label",
    "part_mahalanobis": "a part of the hand fits no label",
    OWN: "to the members' eyes a hand that fits no label",
    "no_hand": "hardly any hand in the picture",
    "two_hands": "two signs at once",
}


@dataclass(frozen=True)
class Predictor:
    """A finished run, ready to answer."""

    ensemble: Ensemble
    rule: Rule
    weights: str

    @cached_property
    def near(self) -> NearestNeighbours:
        """The rule's bank, made ready once."""
        return NearestNeighbours.of(self.rule.bank)

    @cached_property
    def norms(self) -> Norms:
        """What is usual in it."""
        return Norms.of(self.rule.bank)

    def evidence(
        self, images_NHW3: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
    ) -> EnsembleOutput:
        """What members and training images say of N images.

        Args:
            images_NHW3: The images.
            progress: Called with (images whose frozen features are there, images).
        """
        found = backbone.load(self.weights).of_images(images_NHW3, progress)
        rule, labels, votes_M = self.rule, len(self.ensemble.labels), self.ensemble.votes_M
        logits, from_own, own_N = [], [], None
        for i, (heads, features_ND) in enumerate(self.ensemble.seen(found.head_ND, images_NHW3)):
            logits.append(heads.logits(features_ND))
            if rule.own:
                from_own.append(gda_distances(features_ND, rule.own[i], labels))
        atlas = DistanceModels(np.arange(labels), rule.clouds, rule.parts, rule.fifth)
        cloud_N, part_N, to_labels_RNK = distances(found, atlas, labels)
        if from_own:
            own_N, to_labels_RNK = of_members(from_own, votes_M)
        near_N = self.near.distances(found.fifth_ND, rule.neighbours)
        norm_N = self.norms.of_images(found.fifth_ND)
        hands_NG = rule.hands.scores(found.fifth_ND) if rule.hands else None
        at = Distances(near_N, cloud_N, part_N, norm_N, to_labels_RNK, own_N, hands_NG)
        return ensemble_output(np.concatenate(logits), votes_M, at, rule.readings)

    def answer(
        self, images_NHW3: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
    ) -> Answers:
        """Label or refusal for N images."""
        return answer(self.evidence(images_NHW3, progress), self.rule)


@dataclass(frozen=True)
class Answers:
    """What is said of N images.

    Args:
        evidence: What it is said from.
        scores: Every witness's scores.
        labels_N: Most probable label, as its place in the list of labels.
        probability_N: The ensemble's probability of it, given that the image is a sign.
        confidence_N: Probability that it is right, see :meth:`Rule.confidence`.
        p_values_N: Conformal p-value of being a training label signed by a new person, and read
            surely where the rule asks that too.
        accepted_N: Whether the image is answered.
        witness_N: The witness that is most surprised, also where the image is accepted;
            total_uncertainty where the sign is rather read unsurely than strange, and where an
            image is refused only for what was promised of errors.
        votes_MN: Each member's label.
    """

    evidence: EnsembleOutput
    scores: dict[str, Scores]
    labels_N: NDArray[np.int64]
    probability_N: NDArray[np.float64]
    confidence_N: NDArray[np.float64]
    p_values_N: NDArray[np.float64]
    accepted_N: NDArray[np.bool_]
    witness_N: NDArray[np.str_]
    votes_MN: NDArray[np.int64]

    def votes(self, i: int, labels: tuple[str, ...]) -> str:
        """The members' votes on image i, most first: ``3 say U, 2 say V``; where clouds read too,
        ``3 say U, 2 say V, clouds say V``.
        """
        counts: Counter[str] = Counter()
        members = len(self.votes_MN) - self.evidence.clouds
        for member, label in enumerate(self.votes_MN[:members, i]):
            counts[labels[label]] += int(self.evidence.votes_M[member])
        said = [f"{n} say{'s' if n == 1 else ''} {label}" for label, n in counts.most_common()]
        of_clouds = dict.fromkeys(labels[label] for label in self.votes_MN[members:, i])
        return ", ".join([*said, *([f"clouds say {' and '.join(of_clouds)}"] if of_clouds else [])])

    def why(self, i: int, labels: tuple[str, ...]) -> str:
        """Why image i is refused, with the members' votes; empty if it is answered."""
        if self.accepted_N[i]:
            return ""
        return f"{REASONS[self.witness_N[i]]} ({self.votes(i, labels)})"


def answer(evidence: EnsembleOutput, rule: Rule) -> Answers:
    """Apply the rule to evidence."""
    scores = all_scores(evidence)
    probs_NK = evidence.probs_NK
    by_question = rule.p_of_questions(scores)
    p_values = by_question.min(0)
    surprises_WN = rule.surprises(scores)
    strange_N, unsure_N = ~accepts(p_values, rule.target_coverage), rule.too_unsure(scores)
    witness_N = np.where(
        (by_question.argmin(0) == 1) | (unsure_N & ~strange_N),
        UNSURE,
        np.array(rule.witnesses)[surprises_WN.argmax(0)],
    )
    return Answers(
        evidence=evidence,
        scores=scores,
        labels_N=probs_NK.argmax(-1),
        probability_N=probs_NK.max(-1),
        confidence_N=rule.confidence(probs_NK, join(surprises_WN, rule.joined)),
        p_values_N=p_values,
        accepted_N=~(strange_N | unsure_N),
        witness_N=witness_N,
        votes_MN=evidence.logits_MNK.argmax(-1),
    )


def load_predictor(run: RunFolder) -> Predictor:
    """Read a run's members and rule.

    Raises:
        UserError: the run has not come that far, a file was damaged or changed, or images would be
            prepared otherwise than in training.
    """
    data = load_config(run).data
    members = load_ensemble(run.members, data.weights)
    reader = Predictor(members, rule_file.load(run.rule), data.weights)
    if len(reader.rule.own) not in (0, len(members.parts)):
        raise UserError(
            f"{run.rule}: it has clouds of {len(reader.rule.own)} members, and the run has "
            f"{len(members.parts)}"
        )
    if reader.rule.own and OWN not in reader.rule.calibration:
        raise UserError(f"{run.rule}: of an earlier version; run tune anew")
    then = reader.ensemble.members[0].card.preprocessing
    for name, now in preprocessing_of(data, backbone.load(data.weights).sha256).items():
        if name not in then:
            raise UserError(
                f"{run.path}: its members are of an earlier version, which prepared images "
                f"otherwise ({name} is not among what they say of it); run tune anew"
            )
        if then[name] != now:
            setting = f"data.{name}" if name in ("size", "fit") else name
            raise UserError(
                f"{run.path}: its members were trained with {setting} {then[name]}, now it is {now}"
            )
    return reader

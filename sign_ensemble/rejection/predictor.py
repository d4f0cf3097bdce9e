"""The one path of a prediction: images → ensemble → scores → rule → answers.

evaluate, predict and whatever else answers calls :func:`answer`, so what is measured is what is
shipped.

Letters: N images, M members, K labels, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder, load_config
from sign_ensemble.data import backbone
from sign_ensemble.data.feature_cache import preprocessing_of
from sign_ensemble.data.hand_features import features_of_views
from sign_ensemble.data.hand_views import HandViews, look
from sign_ensemble.hands.finder import Hands
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.confidence import confidence
from sign_ensemble.rejection.ensemble import Ensemble, EnsembleOutput, read_ensemble
from sign_ensemble.rejection.gda_predictions import ensemble_output
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.score_models import ScoreModels
from sign_ensemble.rejection.scores import BY_NAME, UNCERTAINTY_SCORE, Scores, all_scores
from sign_ensemble.rejection.votes import Vote, votes_in_words, votes_of


@dataclass(frozen=True)
class Predictor:
    """A finished run, ready to answer."""

    ensemble: Ensemble
    models: ScoreModels
    rule: Rule
    data: DataConfig

    def look(self, images_NHW3: NDArray[np.uint8]) -> HandViews | None:
        """What is seen of N pictures, as ``read_image`` gives them; None where no hand is looked
        for.
        """
        return look(images_NHW3, self.data) if self.data.crop == "hand" else None

    def output(
        self,
        images_NHW3: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
        views: HandViews | None = None,
    ) -> EnsembleOutput:
        """What members and the reference set say of N pictures; ``views`` is what :meth:`look`
        gives of them.

        ``progress`` is called with (pictures whose frozen features are computed, pictures).
        """
        views = views or self.look(images_NHW3)
        if views:
            seen_NHW3 = views.crops_NHW3
            features = features_of_views(views, self.data.weights, progress)
        else:
            seen_NHW3 = images_NHW3
            features = backbone.load(self.data.weights).of_images(images_NHW3, progress)
        labels, logits, of_members = len(self.ensemble.labels), [], []
        gdas = iter(self.models.member_gdas)
        for group, logits_MNK, read_ND in self.ensemble.logits(features, seen_NHW3):
            logits.append(logits_MNK)
            if self.models.member_gdas and group.kind == "pixels":
                of_members.append(next(gdas).to_labels(read_ND, labels))
        return ensemble_output(
            np.concatenate(logits),
            self.ensemble.votes_M,
            self.models.distances(features, of_members, labels),
            self.models.gda,
            self.ensemble.kinds_M,
            self.models.scales,
        )

    def answer(
        self, images_NHW3: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
    ) -> Answers:
        """A label or a rejection for each of N images."""
        views = self.look(images_NHW3)
        answers = answer(self.output(images_NHW3, progress, views), self.rule)
        return replace(answers, hands=views.hands if views else None)


@dataclass(frozen=True)
class Answers:
    """What is answered for N images."""

    output: EnsembleOutput  # what the ensemble said
    scores: dict[str, Scores]  # every score by name
    labels_N: NDArray[np.int64]  # index of the likeliest label
    # the ensemble's probability of it, given that the image is a sign
    probability_N: NDArray[np.float64]
    confidence_N: NDArray[np.float64]  # probability that it is right, see ``confidence.py``
    p_values_N: NDArray[np.float64]  # see ``Rule.over_shares``
    accepted_N: NDArray[np.bool_]  # whether the image is accepted
    # name of the score that speaks most against the image, also where it is accepted
    deciding_score_N: NDArray[np.str_]
    labels_MN: NDArray[np.int64]  # each member's label
    hands: Hands | None = None  # the hands; None where they are not looked for

    def votes_on(self, i: int, labels: tuple[str, ...]) -> tuple[Vote, ...]:
        """Which label each member names for image i, see ``votes.py``."""
        output = self.output
        kinds_M = output.kinds_M or ("pixels",) * len(self.labels_MN)
        found = output.hands_N is None or output.hands_N[i] > 0
        probs_MK = np.exp(output.rows(np.array([i])).log_probs_MNK[:, 0])
        return votes_of(probs_MK, labels, kinds_M, output.votes_M, output.gda_count, found)

    def votes(self, i: int, labels: tuple[str, ...]) -> str:
        """:meth:`votes_on` image i in words."""
        members = len(self.labels_MN) - self.output.gda_count
        kinds = len(set(self.output.kinds_M[:members]))
        return votes_in_words(self.votes_on(i, labels), kinds)

    @property
    def deciding_N(self) -> list[str]:
        """Name of the score that speaks most against each image, also where it is accepted."""
        names, hands_N = [str(name) for name in self.deciding_score_N], self.output.hands_N
        if hands_N is None:
            return names
        # without a hand there is nothing that a joint distance could be of
        return [
            "hand_not_found" if name == "joint_distance" and not hands else name
            for name, hands in zip(names, hands_N, strict=True)
        ]

    def reason(self, i: int, labels: tuple[str, ...]) -> str:
        """Why image i is rejected, with the votes; empty if it is accepted."""
        if self.accepted_N[i]:
            return ""
        return f"{BY_NAME[self.deciding_N[i]].reason} ({self.votes(i, labels)})"


def answer(output: EnsembleOutput, rule: Rule) -> Answers:
    """Apply the rule."""
    scores, probs_NK = all_scores(output), output.probs_NK
    p_QN = rule.p_of_tests(scores)
    rejected_N, combined_QN = ~rule.passes(p_QN), rule.over_shares(p_QN)
    uncertain_N = rule.too_uncertain(scores)
    statistics = rule.statistics(scores)
    each = np.stack([*statistics.values()])
    by_uncertainty_N = (combined_QN.argmin(0) == 1) | (uncertain_N & ~rejected_N)
    return Answers(
        output=output,
        scores=scores,
        labels_N=probs_NK.argmax(-1),
        probability_N=probs_NK.max(-1),
        confidence_N=confidence(probs_NK, each.max(0), rule.temperature, rule.in_distribution),
        p_values_N=combined_QN.min(0),
        accepted_N=~(rejected_N | uncertain_N),
        deciding_score_N=np.where(
            by_uncertainty_N, UNCERTAINTY_SCORE, np.array(list(statistics))[each.argmax(0)]
        ),
        labels_MN=output.logits_MNK.argmax(-1),
    )


def load_predictor(run: RunFolder) -> Predictor:
    """Read a run's members and rule.

    Raises:
        UserError: the run has not come that far, a file was damaged or changed, or images would be
            prepared otherwise than in training.
    """
    data = load_config(run).data
    ensemble = read_ensemble(run.members, data.weights)
    rule, models = rule_file.load(run.rule)
    of_pixels = sum(group.kind == "pixels" for group in ensemble.groups)
    if len(models.member_gdas) not in (0, of_pixels):
        raise UserError(
            f"{run.rule}: it has the GDA of {len(models.member_gdas)} members, and the run has "
            f"{of_pixels} members"
        )
    then = ensemble.members[0].card.preprocessing
    for name, now in preprocessing_of(data, backbone.load(data.weights).sha256).items():
        if name not in then:
            raise UserError(
                f"{run.path}: its members are of an earlier version, which prepared images "
                f"otherwise (they do not say their {name}); run tune anew"
            )
        if then[name] != now:
            settings = ("size", "fit", "crop", "handedness")
            setting = f"data.{name}" if name in settings else name
            raise UserError(
                f"{run.path}: its members were trained with {setting} {then[name]}, now it is {now}"
            )
    return Predictor(ensemble, models, rule, data)

"""Out-of-signer predictions and distances to the rejection rule.

Letters: N training images, B reference images, M members (or fold models), K labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.console import say
from sign_ensemble.pipeline.finetuned_members import pixel_task
from sign_ensemble.pipeline.hand_count_pictures import hand_count_images
from sign_ensemble.pipeline.held_out_labels import held_out_scores
from sign_ensemble.pipeline.members import best_trial
from sign_ensemble.pipeline.out_of_fold import member_gdas, read_out_of_fold
from sign_ensemble.pipeline.out_of_signer import (
    distances_to_other_signers,
    reference_rows,
    reference_set_of,
)
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.conformal import signer_weights
from sign_ensemble.rejection.ensemble import EnsembleOutput, load_ensemble
from sign_ensemble.rejection.gda_predictions import (
    GdaPredictions,
    ensemble_output,
    fit_gda_predictions,
)
from sign_ensemble.rejection.held_out_statistics import in_distribution_of
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.reference_set import Distances, ReferenceSet, fit_distance_models
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.score_models import ScoreModels
from sign_ensemble.rejection.scores import UNCERTAINTY_SCORE, all_scores, max_prob
from sign_ensemble.rejection.selective_risk_control import learn_then_test
from sign_ensemble.rejection.temperature import fit_temperature
from sign_ensemble.search.records import out_of_fold


@dataclass(frozen=True)
class OutOfSigner:
    """Predictions for every training image by models that have not seen its signer, and its
    distances to the other signers.
    """

    logits_MNK: NDArray[np.float32]  # logits
    votes_M: NDArray[np.float64]  # weight of each model
    single: int  # which of them stands for a single model
    distances: Distances  # distances
    finetuned: bool  # whether the models are fine-tuned fold models

    def output(self, gda: GdaPredictions | None) -> EnsembleOutput:
        """What the ensemble says of the images."""
        return ensemble_output(self.logits_MNK, self.votes_M, self.distances, gda)


def out_of_signer_of(
    prepared: Prepared, reference: ReferenceSet, votes: Mapping[int, int]
) -> OutOfSigner:
    """Collect it from fine-tuned fold models where there are any, else from the trials' records
    (trial number → votes).
    """
    run, task = prepared.run, prepared.task
    gda = prepared.config.ensemble.gda == "auto"
    predicted = read_out_of_fold(run)
    distances = distances_to_other_signers(prepared, reference, gda and predicted is None)
    if predicted:
        distances = replace(distances, to_labels_MNK=predicted.to_labels_MNK)
        logits_MNK = predicted.logits_MNK
        return OutOfSigner(logits_MNK, np.ones(len(logits_MNK)), 0, distances, True)
    logits_MNK = np.stack([out_of_fold(run, task, number) for number in votes])
    votes_M = np.array(list(votes.values()), np.float64)
    return OutOfSigner(logits_MNK, votes_M, best_trial(votes, run), distances, False)


def build_rule(prepared: Prepared) -> None:
    """Fit the score models, calibrate the rule, and write both."""
    config, run, task = prepared.config, prepared.run, prepared.task
    settings, weights_N = config.rejection, signer_weights(task.folds_N)
    index = read_json(run.members / "index.json")["members"]
    votes = {entry["trial"]: entry["votes"] for entry in index}
    rows_B = reference_rows(prepared)
    reference = reference_set_of(task, rows_B, hand_count_images(prepared))
    unseen = out_of_signer_of(prepared, reference, votes)
    gda, of_members = fitted_gda(prepared, unseen, rows_B)
    output = unseen.output(gda)
    probs_NK, scores = output.probs_NK, all_scores(output)
    rule = Rule(
        target_coverage=settings.target_coverage,
        uncertainty_share=settings.uncertainty_share,
        calibration=dict(scores),
        groups_C=task.folds_N,
        single_C=max_prob(softmax(unseen.logits_MNK[unseen.single].astype(np.float64), -1)),
        temperature=fit_temperature(probs_NK, task.labels_N, weights_N),
    )
    if settings.ood_prior:
        held_out = held_out_scores(prepared, reference, rows_B)
        rule = replace(rule, in_distribution=in_distribution_of(held_out, settings.ood_prior))
    if settings.max_error is not None:
        wrong_N = probs_NK.argmax(-1) != task.labels_N
        rule = with_risk_control(rule, wrong_N, settings.max_error)
    say(f"rejection rule: {rule.words()}")
    models = ScoreModels(
        distance_models=fit_distance_models(reference, gda is not None and not of_members),
        reference_BD=reference.fifth_BVD[:, 0],
        neighbours=settings.neighbours,
        gda=gda,
        member_gdas=tuple(of_members),
    )
    rule_file.save(rule, models, run.rule)


def fitted_gda(
    prepared: Prepared, unseen: OutOfSigner, rows_B: NDArray[np.int64]
) -> tuple[GdaPredictions | None, list[MemberGda]]:
    """How GDA predictions join the ensemble (None: not at all), and the GDA of each fine-tuned
    member's own features.
    """
    config, task = prepared.config, prepared.task
    if config.ensemble.gda == "none":
        return None, []
    gda = fit_gda_predictions(
        unseen.distances.to_labels_MNK,
        unseen.logits_MNK,
        unseen.votes_M,
        task.labels_N,
        signer_weights(task.folds_N),
        of_members=unseen.finetuned,
    )
    say(
        gda.words()
        if gda
        else "GDA predictions are not used: members alone read unseen signers better"
    )
    if not (gda and unseen.finetuned):
        return gda, []
    members = load_ensemble(prepared.run.members, config.data.weights).members
    return gda, member_gdas(pixel_task(prepared), members, rows_B)


def with_risk_control(rule: Rule, wrong_C: NDArray[np.bool_], max_error: float) -> Rule:
    """The rule with selective risk control, fitted to the calibration images that it accepts."""
    accepted_C = rule.accepted_calibration()
    uncertainty_C = rule.calibration[UNCERTAINTY_SCORE]
    control = learn_then_test(uncertainty_C[accepted_C], wrong_C[accepted_C], max_error)
    say(f"rejection rule: {control.words()}")
    return replace(rule, risk_control=control)

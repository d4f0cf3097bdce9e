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
from sign_ensemble.core.whose_signs import whose_signs
from sign_ensemble.learning.task import Kind
from sign_ensemble.pipeline.finetuned_members import pixel_task
from sign_ensemble.pipeline.hand_count_pictures import hand_count_images
from sign_ensemble.pipeline.held_out_labels import held_out_scores
from sign_ensemble.pipeline.members import best_trial
from sign_ensemble.pipeline.out_of_fold import member_gdas, read_out_of_fold
from sign_ensemble.pipeline.out_of_signer import (
    copies_to_calibrate,
    distances_to_other_signers,
    reference_rows,
    reference_set_of,
)
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.calibration_support import Support
from sign_ensemble.rejection.conformal import calibration_weights
from sign_ensemble.rejection.ensemble import EnsembleOutput, read_ensemble
from sign_ensemble.rejection.gda_predictions import (
    GdaPredictions,
    ensemble_output,
    fit_gda_predictions,
)
from sign_ensemble.rejection.held_out_statistics import in_distribution_of
from sign_ensemble.rejection.joint_distance import JointScales, fit_joint_scales
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.reference_set import (
    Distances,
    ReferenceSet,
    concatenate_distances,
    fit_distance_models,
)
from sign_ensemble.rejection.rule import Rule
from sign_ensemble.rejection.score_models import ScoreModels
from sign_ensemble.rejection.scores import UNCERTAINTY_SCORE, all_scores, max_prob
from sign_ensemble.rejection.selective_risk_control import learn_then_test
from sign_ensemble.rejection.temperature import fit_temperature
from sign_ensemble.search.records import out_of_fold, read_records

# share of what the OOD test may reject that may go to signs whose hand is not found
MISSED_SHARE = 0.5


@dataclass(frozen=True)
class OutOfSigner:
    """Predictions for training images by models that have not seen their signers, and their
    distances to the other signers: of all images, then of some augmented copies.
    """

    copies: Mapping[int, NDArray[np.int64]]  # see ``copies_to_calibrate``
    logits_MNK: NDArray[np.float32]  # logits, of all of these
    votes_M: NDArray[np.float64]  # weight of each model
    kinds_M: tuple[Kind, ...]  # what each reads
    single: int  # which of them stands for a single model
    distances: Distances  # distances, of all of these
    finetuned: bool  # whether the models are fine-tuned fold models

    @property
    def rows_N(self) -> NDArray[np.int64]:
        """The training image of each."""
        return np.concatenate([*self.copies.values()])

    @property
    def are_copies_N(self) -> NDArray[np.bool_]:
        """Which are augmented copies."""
        return np.arange(len(self.rows_N)) >= len(self.copies[0])

    def output(self, gda: GdaPredictions | None, scales: JointScales | None) -> EnsembleOutput:
        """What the ensemble says of them."""
        about = (self.logits_MNK, self.votes_M, self.distances, gda, self.kinds_M, scales)
        return ensemble_output(*about)


def out_of_signer_of(
    prepared: Prepared, reference: ReferenceSet, votes: Mapping[int, int]
) -> OutOfSigner:
    """Collect it from fine-tuned fold models where there are any, else from the trials' records
    (trial number → votes). A fine-tuned model has not read the copies: there its images' logits
    stand in.
    """
    run, task = prepared.run, prepared.task
    gda = prepared.config.ensemble.gda == "auto"
    predicted, copies = read_out_of_fold(run), copies_to_calibrate(prepared)
    distances = concatenate_distances(
        distances_to_other_signers(prepared, reference, gda and predicted is None, copies)
    )
    of_kind: dict[Kind, list[int]] = {kind: [] for kind in task.kinds}
    for record in read_records(run):
        if record.number in votes:
            of_kind[record.kind].append(record.number)
    order = {number: i for i, number in enumerate(votes)}
    rows_N = np.concatenate([*copies.values()])
    parts: list[NDArray[np.float32]] = []
    votes_M: list[float] = []
    kinds_M: list[Kind] = []
    if predicted:
        parts.append(predicted.logits_MNK[:, rows_N])
        each = sum(votes[n] for n in of_kind["pixels"]) / len(predicted.logits_MNK)
        votes_M += [each] * len(predicted.logits_MNK)  # together as much as the pixel members
        kinds_M += ["pixels"] * len(predicted.logits_MNK)
        distances = replace(distances, to_labels_MNK=predicted.to_labels_MNK[:, rows_N])
        of_kind["pixels"] = []
    for kind, numbers in of_kind.items():
        for number in sorted(numbers, key=order.__getitem__):
            logits = [out_of_fold(run, task, number, copy)[rows] for copy, rows in copies.items()]
            logits_NK = np.concatenate(logits)
            if kind == "landmarks" and distances.kinds:
                logits_NK[distances.kinds.hands_N == 0] = 0
            parts.append(logits_NK[None])
            votes_M.append(float(votes[number]))
            kinds_M.append(kind)
    single = 0 if predicted else best_trial(votes, run)
    return OutOfSigner(
        copies, np.concatenate(parts), np.array(votes_M), tuple(kinds_M), single, distances,
        predicted is not None,
    )  # fmt: skip


def build_rule(prepared: Prepared) -> None:
    """Fit the score models, calibrate the rule, and write both."""
    config, run, task = prepared.config, prepared.run, prepared.task
    settings = config.rejection
    index = read_json(run.index)["members"]
    votes = {entry["trial"]: entry["votes"] for entry in index}
    rows_B = reference_rows(prepared)
    reference = reference_set_of(task, rows_B, hand_count_images(prepared))
    unseen = out_of_signer_of(prepared, reference, votes)
    labels_N, folds_N = task.labels_N[unseen.rows_N], task.folds_N[unseen.rows_N]
    weights_N = calibration_weights(folds_N, unseen.are_copies_N)
    gda, of_members = fitted_gda(prepared, unseen, rows_B, labels_N, weights_N)
    scales = None
    if unseen.distances.kinds:
        scales = fit_joint_scales(unseen.distances.kinds, unseen.distances.regional_N, labels_N)
    output = unseen.output(gda, scales)
    probs_NK, scores = output.probs_NK, all_scores(output)
    first = Support(len(task.labels_N), settings.target_coverage, settings.uncertainty_share)
    most_without = MISSED_SHARE * first.levels[0]
    rule = Rule(
        target_coverage=settings.target_coverage,
        uncertainty_share=settings.uncertainty_share,
        calibration=counts_of_one_hand(scores, unseen.are_copies_N, most_without),
        groups_C=folds_N,
        single_C=max_prob(softmax(unseen.logits_MNK[unseen.single].astype(np.float64), -1)),
        temperature=fit_temperature(probs_NK, labels_N, weights_N),
        copies_C=unseen.are_copies_N if unseen.are_copies_N.any() else None,
    )
    if settings.ood_prior:
        held_out = held_out_scores(prepared, reference, rows_B)
        rule = replace(rule, in_distribution=in_distribution_of(held_out, settings.ood_prior))
    if settings.max_error is not None:
        wrong_N = probs_NK.argmax(-1) != labels_N
        rule = with_risk_control(rule, wrong_N, settings.max_error)
    say(f"rejection rule: {rule.words()}; {rule.confidence_in_words()}")
    models = ScoreModels(
        distance_models=fit_distance_models(reference, gda is not None and not of_members),
        reference_BD=reference.fifth_BVD[:, 0],
        neighbours=settings.neighbours,
        gda=gda,
        member_gdas=tuple(of_members),
        scales=scales,
    )
    rule_file.save(rule, models, run.rule)


def counts_of_one_hand(
    scores: Mapping[str, NDArray[np.float64]], copies_C: NDArray[np.bool_], most_without: float
) -> dict[str, NDArray[np.float64]]:
    """The scores of the calibration images, each of which shows one hand.

    Where several were found in one, the networks erred, and several hands in another picture must
    speak against it all the same. Where none was found, the image is one that the veto rejects; if
    these are more than a share ``most_without`` of the images, there is no such veto.
    """
    found = dict(scores)
    if "several_hands" in found:
        found["several_hands"] = np.zeros(len(found["several_hands"]))
        if found["hand_not_found"][~copies_C].mean() > most_without:
            del found["hand_not_found"]
    return found


def fitted_gda(
    prepared: Prepared,
    unseen: OutOfSigner,
    rows_B: NDArray[np.int64],
    labels_N: NDArray[np.int64],
    weights_N: NDArray[np.float64],
) -> tuple[GdaPredictions | None, list[MemberGda]]:
    """How GDA predictions join the ensemble (None: not at all), and the GDA of each fine-tuned
    member's own features.
    """
    config = prepared.config
    if config.ensemble.gda == "none":
        return None, []
    gda = fit_gda_predictions(
        unseen.distances.to_labels_MNK,
        unseen.logits_MNK,
        unseen.votes_M,
        labels_N,
        weights_N,
        of_members=unseen.finetuned,
    )
    say(
        gda.words()
        if gda
        else "GDA predictions are not used: members alone read "
        f"{whose_signs(config.data.signers).held_out} better"
    )
    if not (gda and unseen.finetuned):
        return gda, []
    every = read_ensemble(prepared.run.members, config.data.weights).members
    members = [member for member in every if member.card.kind == "pixels"]
    return gda, member_gdas(pixel_task(prepared), members, rows_B)


def with_risk_control(rule: Rule, wrong_C: NDArray[np.bool_], max_error: float) -> Rule:
    """The rule with selective risk control, fitted to the calibration images that it accepts."""
    accepted_C = rule.accepted_calibration()
    uncertainty_C = rule.calibration[UNCERTAINTY_SCORE]
    control = learn_then_test(uncertainty_C[accepted_C], wrong_C[accepted_C], max_error)
    say(f"rejection rule: {control.words()}")
    return replace(rule, risk_control=control)

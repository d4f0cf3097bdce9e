"""Out-of-signer predictions to the rejection rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sign_ensemble.core.atomic_files import read_arrays, read_json
from sign_ensemble.core.console import say
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.task import Task
from sign_ensemble.pipeline.finetuned_members import pixel_task
from sign_ensemble.pipeline.fold_models import member_gdas, read_out_of_fold
from sign_ensemble.pipeline.hand_count_pictures import hand_count_images
from sign_ensemble.pipeline.held_out_labels import left_out_calibrations, left_out_distances
from sign_ensemble.pipeline.members import best_trial
from sign_ensemble.pipeline.out_of_signer import (
    distances_to_other_signers,
    reference_rows,
    reference_set_of,
)
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection import rule_file
from sign_ensemble.rejection.candidates import NAMED_ONLY, USUAL, USUAL_FINETUNED, Candidate
from sign_ensemble.rejection.choose import (
    LEFT_OUT,
    SURE,
    Calibration,
    choose,
    statistics,
    strangers,
)
from sign_ensemble.rejection.ensemble import EnsembleOutput, load_ensemble
from sign_ensemble.rejection.gda_predictions import (
    GdaPredictions,
    ensemble_output,
    fit_gda_predictions,
)
from sign_ensemble.rejection.member_gda import MemberGda
from sign_ensemble.rejection.p_in_distribution import InDistribution, fit_in_distribution
from sign_ensemble.rejection.reference_set import Distances, ReferenceSet, fit_distance_models
from sign_ensemble.rejection.risk_control import learn_then_test
from sign_ensemble.rejection.rule import UNSURE, Rule, signer_weights
from sign_ensemble.rejection.scores import DISTANCES, all_scores, max_prob
from sign_ensemble.rejection.temperature import fit_temperature
from sign_ensemble.search.records import out_of_fold, read_records

BY_LABELS = "signs of left-out labels"
ALONE = "clouds do not read: on unseen signers the members are better without them"
BY_IMAGES = "negatives joined from two hands"


@dataclass(frozen=True)
class OutOfSigner:
    """What networks said of signers whom they had not seen, and how far their images are.

    Args:
        signs_RNK: Logits of the training signers' signs.
        unlike_RGK: Of the negatives made from them.
        votes_R: Votes of each network.
        single: Which of them stands for a single model.
        at: Distances of the signs.
        made: Of the negatives.
        groups_G: The signer (fold) whose images each negative was made from.
        kinds: The kinds of negatives.
        kinds_G: The kind of each.
        judged: Whether the networks are judges of fine-tuned members.
    """

    signs_RNK: NDArray[np.float32]
    unlike_RGK: NDArray[np.float32]
    votes_R: NDArray[np.float64]
    single: int
    at: Distances
    made: Distances
    groups_G: NDArray[np.int64]
    kinds: Sequence[str]
    kinds_G: NDArray[np.str_]
    judged: bool

    def known(self, readings: GdaPredictions | None) -> EnsembleOutput:
        """What is said of the signs."""
        return ensemble_output(self.signs_RNK, self.votes_R, self.at, readings)

    def calibration(
        self, task: Task, known: EnsembleOutput, readings: GdaPredictions | None
    ) -> Calibration:
        """Every witness's scores of the signs and of the negatives."""
        unlike = ensemble_output(self.unlike_RGK, self.votes_R, self.made, readings)
        return Calibration(
            scores=all_scores(known),
            groups_C=task.folds_N,
            wrong_C=known.probs_NK.argmax(-1) != task.labels_N,
            negatives=all_scores(unlike),
            groups_G=self.groups_G,
            kinds_G=self.kinds_G,
        )


def out_of_signer_of(
    prepared: Prepared, bank: ReferenceSet, votes: Mapping[int, int]
) -> OutOfSigner:
    """Collect it from the trials' records, or from judges where members are fine-tuned.

    Args:
        prepared: The run.
        bank: The training images that distances are measured to.
        votes: Votes of each member's trial.
    """
    run, task, reads = prepared.run, prepared.task, prepared.config.ensemble.gda == "auto"
    judged = read_out_of_fold(run)
    negatives, header = read_arrays(run.negatives)
    at, made = distances_to_other_signers(prepared, bank, negatives, reads and not judged)
    if judged:
        of_signs, of_unlike = judged
        signs, unlike = of_signs.logits_RNK, of_unlike.logits_RNK
        votes_R, single = np.ones(len(signs)), 0
        at, made = of_signs.instead(at), of_unlike.instead(made)
    else:
        recorded = [out_of_fold(run, task, number) for number in votes]
        signs, unlike = (np.stack([pair[i] for pair in recorded]) for i in (0, 1))
        votes_R, single = np.array(list(votes.values()), np.float64), best_trial(votes, run)
    kinds = header["kinds"]
    return OutOfSigner(
        signs, unlike, votes_R, single, at, made, negatives["folds"], kinds,
        np.array(kinds)[negatives["kinds"]], judged is not None,
    )  # fmt: skip


def named(prepared: Prepared) -> Candidate | None:
    """The witnesses that the user names."""
    settings = prepared.config.rejection
    if settings.combination == "auto":
        return None
    return Candidate(tuple(settings.combination.split("+")), settings.joined)


def signs_of_left_out(
    prepared: Prepared,
    seen: OutOfSigner,
    bank: ReferenceSet,
    chosen: NDArray[np.int64],
    readings: GdaPredictions | None,
    votes: Mapping[int, int],
) -> list[Calibration]:
    """What stands for wrong gestures: of all witnesses, or of distances where only these decide.

    Networks without some labels are heads: they speak for heads, not for fine-tuned members.
    """
    config = prepared.config
    candidate = named(prepared) or (USUAL_FINETUNED if seen.judged else None)
    if candidate and not config.rejection.ood_prior:
        return []  # nothing is to be chosen, and confidence does not ask
    if candidate and set(candidate.witnesses) <= DISTANCES:
        return left_out_distances(prepared, bank, chosen)
    if seen.judged:
        return []
    best_number = list(votes)[seen.single]
    record = next(r for r in read_records(prepared.run) if r.number == best_number)
    recipe = recipe_of(config.member, record.params)
    return left_out_calibrations(prepared, recipe, bank, chosen, readings)


def believed(
    candidate: Candidate, left_out: Sequence[Calibration], share: float
) -> InDistribution | None:
    """How likely an image is to be a sign, from signs whose labels were left out; None where there
    are none, or where it is not asked.
    """
    among = [stranger for calibration in left_out for stranger in strangers(calibration)]
    others = [
        statistics(candidate, each.negatives[LEFT_OUT])
        for each in among
        if LEFT_OUT in each.negatives
    ]
    if not (others and share):
        return None
    return fit_in_distribution([statistics(candidate, each.signs) for each in among], others, share)


def chosen_candidate(
    prepared: Prepared, calibration: Calibration, left_out: Sequence[Calibration], judged: bool
) -> tuple[Candidate, dict[str, Any]]:
    """The witnesses that decide, and how they were chosen."""
    usual = (USUAL_FINETUNED if judged else USUAL).among(calibration.scores)
    gestures = BY_LABELS if left_out else BY_IMAGES
    among = tuple(name for name in calibration.scores if name not in NAMED_ONLY)
    best, table = choose([calibration, *left_out], among, usual)
    why = f"the usual {usual.name}, unless another is better by {SURE:g} standard errors and "
    why += f"accepts no more {gestures}"
    if judged:  # joined hands alone do not tell candidates apart: their seams betray them
        best, why = usual, f"the usual {usual.name} of fine-tuned members"
    best = named(prepared) or best
    second = prepared.config.rejection.uncertainty_share and UNSURE not in best.witnesses
    return best, {
        "chosen": best.name + (f", and {UNSURE} by itself" if second else ""),
        "by": f"{why}; better: AUGRC, signer by signer, of misread signs and {gestures}, plus the "
        "share accepted of the worst kind without a hand",
        "candidates": table,
    }


def build_rule(prepared: Prepared) -> None:
    """Calibrate and choose the rejection rule from out-of-signer predictions, and write it."""
    config, run, task = prepared.config, prepared.run, prepared.task
    settings, weights_N = config.rejection, signer_weights(task.folds_N)
    index = read_json(run.members / "index.json")["members"]
    votes = {entry["trial"]: entry["votes"] for entry in index}
    chosen = reference_rows(prepared)
    bank = reference_set_of(task, chosen, hand_count_images(prepared))
    seen = out_of_signer_of(prepared, bank, votes)
    readings = None
    if config.ensemble.gda == "auto":
        to_labels, logits = seen.at.to_labels_RNK, seen.signs_RNK
        readings = fit_gda_predictions(
            to_labels, logits, seen.votes_R, task.labels_N, weights_N, seen.judged
        )
        say(readings.words() if readings else ALONE)
    own: list[MemberGda] = []
    if seen.judged:
        members = load_ensemble(run.members, config.data.weights).members
        own = member_gdas(pixel_task(prepared), members, chosen)
    known = seen.known(readings)
    calibration = seen.calibration(task, known, readings)
    left_out = signs_of_left_out(prepared, seen, bank, chosen, readings, votes)
    speak = [each for each in left_out if set(calibration.scores) <= set(each.scores)]
    best, choice = chosen_candidate(prepared, calibration, speak, seen.judged)
    atlas = fit_distance_models(bank, readings is not None and not own)
    rule = Rule(
        witnesses=best.witnesses,
        joined=best.joined,
        target_coverage=settings.target_coverage,
        unsure=0.0 if UNSURE in best.witnesses else settings.uncertainty_share,
        calibration=dict(calibration.scores),
        groups_C=task.folds_N,
        single_C=max_prob(softmax(seen.signs_RNK[seen.single].astype(np.float64), -1)),
        neighbours=settings.neighbours,
        bank=bank.fifth_BVD[:, 0],
        clouds=atlas.third,
        parts=atlas.parts,
        hands=atlas.hands,
        choice={**choice, "negatives": [*seen.kinds, *([LEFT_OUT] if speak else [])]},
        temperature=fit_temperature(known.probs_NK, task.labels_N, weights_N),
        fifth=atlas.fifth,
        readings=readings,
        own=tuple(own),
        belief=believed(best, left_out, settings.ood_prior),
    )
    say(f"rejection: {rule.choice['chosen']}")
    if settings.max_error is not None:
        rule = with_risk_control(rule, calibration, settings.max_error)
    rule_file.save(rule, run.rule)


def with_risk_control(rule: Rule, calibration: Calibration, max_error: float) -> Rule:
    """The rule with what can be promised of errors among the answered."""
    kept_N = rule.answers_own()
    unsure_N = calibration.scores["total_uncertainty"][kept_N]
    promise = learn_then_test(unsure_N, calibration.wrong_C[kept_N], max_error)
    say(f"rejection: {promise.words()}")
    return replace(rule, promise=promise)

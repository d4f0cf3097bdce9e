"""Out-of-signer predictions to the rejection rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sign_ensemble.console import say
from sign_ensemble.data.backbone import D, Features
from sign_ensemble.data.features import Cached
from sign_ensemble.learning.folds import Task, recipe_of
from sign_ensemble.run import read_arrays, read_json
from sign_ensemble.search.records import out_of_fold, read_records
from sign_ensemble.stages.finetune import pixel_task
from sign_ensemble.stages.judges import bank_rows, own_clouds, unseen
from sign_ensemble.stages.left_out import left_out_calibrations
from sign_ensemble.stages.members import best_trial
from sign_ensemble.stages.prepare import Prepared
from sign_ensemble.uncertainty import rejection
from sign_ensemble.uncertainty.choose import (
    LEFT_OUT,
    SURE,
    USUAL,
    USUAL_FINETUNED,
    Calibration,
    Candidate,
    choose,
)
from sign_ensemble.uncertainty.ensemble import load_ensemble
from sign_ensemble.uncertainty.own import OwnClouds
from sign_ensemble.uncertainty.promise import learn_then_test
from sign_ensemble.uncertainty.readings import (
    Bank,
    Measured,
    Rows,
    atlases_of_others,
    evidence_of,
    fit_atlas,
    fit_readings,
    measured,
)
from sign_ensemble.uncertainty.scores import all_scores, max_prob
from sign_ensemble.uncertainty.temperature import fit_temperature

BY_LABELS = "signs of left-out labels"
ALONE = "clouds do not read: on unseen signers the members are better without them"
BY_IMAGES = "negatives joined from two hands"


def bank_of(task: Task, chosen: NDArray[np.int64]) -> Bank:
    """The training images of these rows, with their views."""
    slots_B = task.features.slots_N[chosen]
    both_BVE = task.features.open()[slots_B]
    deep_BVD, middle_BC = both_BVE[:, :, :D], both_BVE[:, 0, D:]
    return Bank(deep_BVD, middle_BC, task.labels_N[chosen], task.folds_N[chosen])


def build_rule(prepared: Prepared) -> None:
    """Calibrate and choose the rejection rule from out-of-signer predictions, and write it."""
    config, run, task = prepared.config, prepared.run, prepared.task
    settings = config.rejection
    index = read_json(run.members / "index.json")["members"]
    votes = {entry["trial"]: entry["votes"] for entry in index}
    best_place = best_trial(votes, run)
    recorded = [out_of_fold(run, task, number) for number in votes]
    signs, unlike = (np.stack([pair[i] for pair in recorded]) for i in (0, 1))
    votes_M, single = np.array(list(votes.values()), np.float64), best_place
    negatives, header = read_arrays(run.negatives)
    chosen = bank_rows(prepared)
    bank = bank_of(task, chosen)
    reads = config.ensemble.clouds == "auto"
    judged, labels = unseen(run), len(task.labels)
    others = atlases_of_others(bank, task.folds_N, reads and not judged)
    best_record = next(r for r in read_records(run) if r.number == list(votes)[best_place])

    def asked(of: Rows, groups: NDArray[np.int64]) -> Measured:
        return measured(of, groups, bank, others, settings.neighbours, labels)

    at = asked(Cached(task.features), task.folds_N)
    made = asked(Features(negatives["features"]), negatives["folds"])
    own: list[OwnClouds] = []
    if judged:
        of_signs, of_unlike = judged
        signs, unlike, single = of_signs.logits_RNK, of_unlike.logits_RNK, 0
        votes_M = np.ones(len(signs))
        at, made = of_signs.instead(at), of_unlike.instead(made)
    readings, weights_N = None, rejection.signer_weights(task.folds_N)
    if reads:
        readings = fit_readings(
            at.to_labels_RNK, signs, votes_M, task.labels_N, weights_N, bool(judged)
        )
        say(readings.words() if readings else ALONE)
    if judged and readings:
        members = load_ensemble(run.members, config.data.weights).members
        own = own_clouds(pixel_task(prepared), members, chosen)
    known = evidence_of(signs, votes_M, at, readings)
    calibration = Calibration(
        scores=all_scores(known),
        groups_C=task.folds_N,
        wrong_C=known.probs_NK.argmax(-1) != task.labels_N,
        negatives=all_scores(evidence_of(unlike, votes_M, made, readings)),
        groups_G=negatives["folds"],
        kinds_G=np.array(header["kinds"])[negatives["kinds"]],
    )
    left_out: Sequence[Calibration] = ()
    if settings.combination == "auto" and not judged:
        recipe = recipe_of(config.member, best_record.params)
        left_out = left_out_calibrations(prepared, recipe, bank, chosen, readings)
    usual, named = USUAL_FINETUNED if judged else USUAL, BY_LABELS if left_out else BY_IMAGES
    best, table = choose([calibration, *left_out], tuple(calibration.scores), usual)
    why = f"the usual {usual.name}, unless another is better by {SURE:g} standard errors and "
    why += f"accepts no more {named}"
    if judged:  # joined hands alone do not tell candidates apart: their seams betray them
        best, why = usual, f"the usual {usual.name} of fine-tuned members"
    if settings.combination != "auto":
        best = Candidate(tuple(settings.combination.split("+")), settings.joined)
    say(f"rejection: {best.name}")
    atlas = fit_atlas(bank, readings is not None and not own)
    rule = rejection.Rule(
        witnesses=best.witnesses,
        joined=best.joined,
        keep=settings.keep,
        calibration=dict(calibration.scores),
        groups_C=task.folds_N,
        single_C=max_prob(softmax(signs[single].astype(np.float64), -1)),
        neighbours=settings.neighbours,
        bank=bank.deep_BVD[:, 0],
        clouds=atlas.third,
        choice={
            "chosen": best.name,
            "by": f"{why}; better: AUGRC, signer by signer, of misread signs and {named}, plus the "
            "share accepted of the worst kind without a hand",
            "negatives": [*header["kinds"], *([LEFT_OUT] if left_out else [])],
            "candidates": table,
        },
        temperature=fit_temperature(known.probs_NK, task.labels_N, weights_N),
        fifth=atlas.fifth,
        readings=readings,
        own=tuple(own),
    )
    if settings.max_error is not None:
        kept_N = rule.answers_own()
        unsure_N = calibration.scores["total_uncertainty"][kept_N]
        promise = learn_then_test(unsure_N, calibration.wrong_C[kept_N], settings.max_error)
        say(f"rejection: {promise.words()}")
        rule = replace(rule, promise=promise)
    rejection.save(rule, run.rule)

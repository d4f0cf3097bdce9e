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
from sign_ensemble.stages.finetune import unseen
from sign_ensemble.stages.left_out import left_out_calibrations
from sign_ensemble.stages.members import best_trial
from sign_ensemble.stages.prepare import Prepared
from sign_ensemble.uncertainty import rejection
from sign_ensemble.uncertainty.choose import (
    LEFT_OUT,
    SURE,
    USUAL,
    Calibration,
    Candidate,
    choose,
)
from sign_ensemble.uncertainty.neighbours import draw_bank
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
    if judged := unseen(run):
        (signs, unlike), single = judged, 0
        votes_M = np.ones(len(signs))
    else:
        recorded = [out_of_fold(run, task, number) for number in votes]
        signs, unlike = ([pair[i] for pair in recorded] for i in (0, 1))
        votes_M, single = np.array(list(votes.values()), np.float64), best_place
    negatives, header = read_arrays(run.negatives)
    most = max(settings.bank, len(task.labels) * task.folds)  # so that no label lacks a cloud
    chosen = draw_bank(task.labels_N, task.folds_N, most, task.seed)
    bank = bank_of(task, chosen)
    reads = config.ensemble.clouds == "auto"
    others, labels = atlases_of_others(bank, task.folds_N, reads), len(task.labels)
    best_record = next(r for r in read_records(run) if r.number == list(votes)[best_place])

    def asked(of: Rows, groups: NDArray[np.int64]) -> Measured:
        return measured(of, groups, bank, others, settings.neighbours, labels)

    at, logits_MNK = asked(Cached(task.features), task.folds_N), np.stack(signs)
    weights_N = rejection.signer_weights(task.folds_N)
    readings = None
    if reads:
        readings = fit_readings(at.to_labels_RNK, logits_MNK, votes_M, task.labels_N, weights_N)
        say(readings.words() if readings else ALONE)
    known = evidence_of(logits_MNK, votes_M, at, readings)
    made = asked(Features(negatives["features"]), negatives["folds"])
    calibration = Calibration(
        scores=all_scores(known),
        groups_C=task.folds_N,
        wrong_C=known.probs_NK.argmax(-1) != task.labels_N,
        negatives=all_scores(evidence_of(np.stack(unlike), votes_M, made, readings)),
        groups_G=negatives["folds"],
        kinds_G=np.array(header["kinds"])[negatives["kinds"]],
    )
    left_out: Sequence[Calibration] = ()
    if settings.combination == "auto":
        recipe = recipe_of(config.member, best_record.params)
        left_out = left_out_calibrations(prepared, recipe, bank, chosen, readings)
    best, table = choose([calibration, *left_out], tuple(calibration.scores))
    if settings.combination != "auto":
        best = Candidate(tuple(settings.combination.split("+")), settings.joined)
    say(f"rejection: {best.name}")
    named = BY_LABELS if left_out else BY_IMAGES
    atlas = fit_atlas(bank, readings is not None)
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
            "by": f"the usual {USUAL.name}, unless another is better by {SURE:g} standard errors "
            f"and accepts no more {named}; better: AUGRC, signer by signer, of misread signs and "
            f"{named}, plus the share accepted of the worst kind without a hand",
            "negatives": [*header["kinds"], *([LEFT_OUT] if left_out else [])],
            "candidates": table,
        },
        temperature=fit_temperature(known.probs_NK, task.labels_N, weights_N),
        fifth=atlas.fifth,
        readings=readings,
    )
    if settings.max_error is not None:
        kept_N = rule.answers_own()
        unsure_N = calibration.scores["total_uncertainty"][kept_N]
        promise = learn_then_test(unsure_N, calibration.wrong_C[kept_N], settings.max_error)
        say(f"rejection: {promise.words()}")
        rule = replace(rule, promise=promise)
    rejection.save(rule, run.rule)

"""Out-of-signer predictions to the rejection rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sign_ensemble.console import say
from sign_ensemble.run import read_arrays, read_json
from sign_ensemble.search.records import out_of_fold
from sign_ensemble.stages.members import best_trial
from sign_ensemble.stages.prepare import Prepared
from sign_ensemble.uncertainty import rejection
from sign_ensemble.uncertainty.choose import Calibration, Candidate, choose
from sign_ensemble.uncertainty.ensemble import Evidence
from sign_ensemble.uncertainty.neighbours import draw_bank, neighbour_distance
from sign_ensemble.uncertainty.scores import all_scores, max_prob


def build_rule(prepared: Prepared) -> None:
    """Calibrate and choose the rejection rule from out-of-signer predictions, and write it."""
    config, run, task = prepared.config, prepared.run, prepared.task
    settings = config.rejection
    index = read_json(run.members / "index.json")["members"]
    votes = {entry["trial"]: entry["votes"] for entry in index}
    votes_M = np.array(list(votes.values()), np.float64)
    signs, unlike = zip(*(out_of_fold(run, task, number) for number in votes), strict=True)
    negatives, header = read_arrays(run.negatives)
    chosen = draw_bank(task.labels_N, task.folds_N, settings.bank, task.seed)
    plain = task.features.plain()
    bank, groups = plain[chosen], task.folds_N[chosen]

    def evidence(
        logits: tuple[Any, ...], features: NDArray[np.float16], of: NDArray[np.int64]
    ) -> Evidence:
        near = neighbour_distance(features, bank, settings.neighbours, of, groups)
        return Evidence(np.stack(logits), votes_M, near)

    calibration = Calibration(
        scores=all_scores(evidence(signs, plain, task.folds_N)),
        groups_C=task.folds_N,
        negatives=all_scores(evidence(unlike, negatives["features"], negatives["folds"])),
        groups_G=negatives["folds"],
        kinds_G=np.array(header["kinds"])[negatives["kinds"]],
    )
    best, table = choose(calibration, tuple(calibration.scores))
    if settings.combination != "auto":
        best = Candidate(tuple(settings.combination.split("+")), settings.joined)
    say(f"rejection: {best.name}")
    rule = rejection.Rule(
        witnesses=best.witnesses,
        joined=best.joined,
        keep=settings.keep,
        calibration=dict(calibration.scores),
        groups_C=task.folds_N,
        single_C=max_prob(softmax(signs[best_trial(votes, run)].astype(np.float64), -1)),
        neighbours=settings.neighbours,
        bank=bank,
        choice={
            "chosen": best.name,
            "by": "accepted self-made negatives at 95 % of signs kept, signer by signer; "
            "mean over kinds plus the worst kind",
            "negatives": header["kinds"],
            "candidates": table,
        },
    )
    rejection.save(rule, run.rule)

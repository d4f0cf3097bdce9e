"""Judged trials to the ensemble's members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import softmax

from sign_ensemble.config import MemberConfig
from sign_ensemble.console import progress, say
from sign_ensemble.data import backbone
from sign_ensemble.learning.folds import recipe_of, seed_of
from sign_ensemble.learning.member import Card
from sign_ensemble.run import RunFolder, write_json
from sign_ensemble.search.records import TrialRecord, out_of_fold, read_records
from sign_ensemble.search.select import greedy, ranked, top_k
from sign_ensemble.stages.prepare import Prepared


def select(prepared: Prepared, records: Sequence[TrialRecord]) -> dict[int, int]:
    """Trial number → votes."""
    config, task = prepared.config, prepared.task
    if config.ensemble.method == "top_k":
        return top_k(records, config.ensemble.size)
    probs = {
        record.number: softmax(
            out_of_fold(prepared.run, task, record.number)[0].astype(np.float64), -1
        )
        for record in ranked(records)
    }
    return greedy(probs, task.labels_N, task.folds_N, config.ensemble.size)


def member_recipe(default: MemberConfig, record: TrialRecord, fold: int) -> MemberConfig:
    """The recipe a member is trained by.

    A fold's own model is trained as its trial was. A refitted one keeps no image back: it trains
    for as many epochs as were best, on average, in the trial's folds.
    """
    recipe = recipe_of(default, record.params)
    if fold >= 0 or not recipe.stop_share:
        return recipe
    return replace(recipe, epochs=max(1, round(record.mean("best_epoch"))), stop_share=0.0)


def build_members(prepared: Prepared, records: Sequence[TrialRecord]) -> None:
    """Select trials, train the members, write them and then their index."""
    from sign_ensemble.learning.distributed import Job, fit_members

    config, run, task = prepared.config, prepared.run, prepared.task
    votes = select(prepared, records)
    if len(votes) < config.ensemble.size and config.ensemble.method == "top_k":
        say(f"only {len(votes)} trials were completed: the ensemble has as many members")
    by_number = {record.number: record for record in records}
    folds = [-1] if config.ensemble.members == "refit" else list(range(task.folds))
    preprocessing = {
        "size": config.data.size,
        "fit": config.data.fit,
        "weights": backbone.load(config.data.weights).sha256,
    }
    jobs: list[Job] = []
    for number, weight in votes.items():
        for fold in folds:
            card = Card(
                labels=task.labels,
                recipe=member_recipe(config.member, by_number[number], fold),
                seed=seed_of(task.seed, number, task.folds if fold < 0 else fold),
                trial=number,
                fold=fold,
                weight=weight,
                nll=by_number[number].nll,
                preprocessing=preprocessing,
                manifest=prepared.manifest.sha256,
            )
            jobs.append(Job(card, str(run.members / f"member-{len(jobs):02d}.safetensors")))
    with progress("members trained") as step:
        hashes = fit_members(
            jobs, task, config.search.cpus_per_trial, config.search.gpus_per_trial, step
        )
    entries = [
        {"file": Path(job.path).name, "sha256": sha256, "trial": job.card.trial,
         "fold": job.card.fold, "votes": job.card.weight}
        for job, sha256 in zip(jobs, hashes, strict=True)
    ]  # fmt: skip
    index = {"method": config.ensemble.method, "of": config.ensemble.members, "members": entries}
    write_json(run.members / "index.json", index)


def best_trial(votes: dict[int, int], run: RunFolder) -> int:
    """Place, among the selected trials, of the one with the lowest loss on unseen signers."""
    order = [record.number for record in ranked(read_records(run)) if record.number in votes]
    return list(votes).index(order[0])

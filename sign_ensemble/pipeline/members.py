"""Ended trials to the ensemble's members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scipy.special import softmax

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath, storage_path
from sign_ensemble.data import backbone
from sign_ensemble.data.feature_cache import preprocessing_of
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.member import Card
from sign_ensemble.learning.task import seed_of
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.search.records import TrialRecord, out_of_fold, read_records
from sign_ensemble.search.selection import fold_mean_nll, greedy, ranked, top_k
from sign_ensemble.search.space import first_recipe

ALL_FOLDS = -1  # the fold of a member that was trained on every fold


def select(prepared: Prepared, records: Sequence[TrialRecord]) -> dict[int, int]:
    """Trial number → votes; the user is told where there are fewer members than asked for."""
    config, task = prepared.config, prepared.task
    if config.ensemble.method == "top_k":
        votes = top_k(records, config.ensemble.size)
        if len(votes) < config.ensemble.size * len(task.kinds):
            say(f"only {len(votes)} trials were completed: the ensemble has as many members")
        return votes
    probs = {
        record.number: softmax(out_of_fold(prepared.run, task, record.number).astype(float), -1)
        for record in ranked(records)
    }
    return greedy(
        probs,
        lambda probs_NK: fold_mean_nll(probs_NK, task.labels_N, task.folds_N),
        config.ensemble.size,
    )


def member_recipe(default: MemberConfig, record: TrialRecord, fold: int) -> MemberConfig:
    """The recipe a member is trained by.

    A fold model is trained as in its trial. A model of all folds keeps no validation images: it
    trains for the mean of the best epochs of the trial's folds.
    """
    recipe = recipe_of(default, record.params)
    if fold != ALL_FOLDS or not recipe.validation_share:
        return recipe
    epochs = max(1, round(record.mean("best_epoch")))
    return replace(recipe, epochs=epochs, validation_share=0.0)


def card_of(prepared: Prepared, record: TrialRecord, fold: int, votes: int) -> Card:
    """The card of a head of this trial that has not seen the fold, or of one of ALL_FOLDS."""
    config, task = prepared.config, prepared.task
    return Card(
        labels=task.labels,
        recipe=member_recipe(first_recipe(record.kind, config.member), record, fold),
        seed=seed_of(task.seed, record.number, task.folds if fold == ALL_FOLDS else fold),
        trial=record.number,
        fold=fold,
        weight=votes,
        nll=record.nll,
        preprocessing=preprocessing_of(config.data, backbone.load(config.data.weights).sha256),
        manifest=prepared.manifest.sha256,
        kind=record.kind,
    )


def train_heads(
    prepared: Prepared, cards: Sequence[Card], folder: StoragePath, first: int = 0
) -> list[tuple[StoragePath, str]]:
    """Train a head per card over the cluster; their files, numbered from ``first``, and sha256."""
    from sign_ensemble.learning.parallel_heads import fit_members
    from sign_ensemble.learning.train_worker import Job

    search, name = prepared.config.search, folder.name.removesuffix("s")
    jobs = [
        Job(card, str(folder / f"{name}-{i:02d}.safetensors"))
        for i, card in enumerate(cards, first)
    ]
    if not jobs:
        return []
    with progress(f"{folder.name} trained") as step:
        hashes = fit_members(
            jobs, prepared.task, search.cpus_per_trial, search.gpus_per_trial, step
        )
    return [(storage_path(job.path), sha256) for job, sha256 in zip(jobs, hashes, strict=True)]


def write_index(
    prepared: Prepared,
    cards: Sequence[Card],
    files: Sequence[tuple[StoragePath, str]],
    **more: Any,
) -> None:
    """Write index.json, which says that the members are there."""
    config = prepared.config
    entries = [
        {"file": path.name, "sha256": sha256, "trial": card.trial, "kind": card.kind,
         "fold": card.fold, "votes": card.weight}
        for card, (path, sha256) in zip(cards, files, strict=True)
    ]  # fmt: skip
    index = {"method": config.ensemble.method, "of": config.ensemble.members, "members": entries}
    write_json(prepared.run.index, {**index, **more})


def build_members(prepared: Prepared, records: Sequence[TrialRecord]) -> None:
    """Select trials, train the members, write them and then their index."""
    votes = select(prepared, records)
    by_number = {record.number: record for record in records}
    refit = prepared.config.ensemble.members == "refit"
    folds = [ALL_FOLDS] if refit else list(range(prepared.task.folds))
    cards = [
        card_of(prepared, by_number[number], fold, count)
        for number, count in votes.items()
        for fold in folds
    ]
    write_index(prepared, cards, train_heads(prepared, cards, prepared.run.members))


def best_trial(votes: Mapping[int, int], run: RunFolder) -> int:
    """Index, among the selected trials that read pixels (which come first), of the one with the
    lowest loss on unseen signers; 0 if none of them does.
    """
    records = [record for record in ranked(read_records(run)) if record.kind == "pixels"]
    order = [record.number for record in records if record.number in votes]
    of_pixels = [number for number in votes if number in order]
    return of_pixels.index(order[0]) if order else 0

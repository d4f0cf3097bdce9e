"""Judged trials to the ensemble's members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sign_ensemble.core.atomic_files import read_arrays, write_json
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import StoragePath, storage_path
from sign_ensemble.data import backbone
from sign_ensemble.data.feature_cache import preprocessing_of
from sign_ensemble.learning.head_training import recipe_of
from sign_ensemble.learning.member import Card
from sign_ensemble.learning.task import seed_of
from sign_ensemble.pipeline.hand_count_pictures import hand_count_images
from sign_ensemble.pipeline.out_of_signer import (
    distances_to_other_signers,
    reference_rows,
    reference_set_of,
)
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.rejection.candidates import USUAL
from sign_ensemble.rejection.choose import Calibration, judged, strangers
from sign_ensemble.rejection.reference_set import Distances
from sign_ensemble.rejection.rule import UNSURE
from sign_ensemble.rejection.scores import Scores, distance_scores, entropy
from sign_ensemble.search.records import TrialRecord, out_of_fold, read_records
from sign_ensemble.search.selection import fold_mean_nll, greedy, ranked, top_k

Loss = Callable[[NDArray[np.float64]], float]


def select(prepared: Prepared, records: Sequence[TrialRecord]) -> dict[int, int]:
    """Trial number → votes."""
    config, task = prepared.config, prepared.task
    if config.ensemble.method == "top_k":
        return top_k(records, config.ensemble.size, config.search.objectives)
    probs = {}
    for record in ranked(records):  # signs, and after them negatives
        said = np.concatenate(out_of_fold(prepared.run, task, record.number))
        probs[record.number] = softmax(said.astype(np.float64), -1)
    loss = rule_risk(prepared) if config.ensemble.lowers == "augrc" else loss_of_signs(prepared)
    return greedy(probs, loss, config.ensemble.size)


def loss_of_signs(prepared: Prepared) -> Loss:
    """:func:`fold_mean_nll` of the signs."""
    labels_N, folds_N = prepared.task.labels_N, prepared.task.folds_N
    return lambda probs: fold_mean_nll(probs[: len(labels_N)], labels_N, folds_N)


def rule_risk(prepared: Prepared) -> Loss:
    """The mean over training signers, each a stranger to the others, of the chance that the usual
    rule of heads answers a misread sign or hands joined from two; see ``choose.py``.

    Clouds do not read here: what they count is not known before there are members.
    """
    task = prepared.task
    bank = reference_set_of(task, reference_rows(prepared), hand_count_images(prepared))
    negatives, header = read_arrays(prepared.run.negatives)
    at, made = distances_to_other_signers(prepared, bank, negatives, reads=False)
    kinds_G = np.array(header["kinds"])[negatives["kinds"]]
    usual = USUAL.among(distance_scores(at))

    def scores(probs_NK: NDArray[np.float64], away: Distances) -> dict[str, Scores]:
        every = {UNSURE: entropy(probs_NK), **distance_scores(away)}
        return {name: every[name] for name in usual.witnesses}

    def risk_of(probs: NDArray[np.float64]) -> float:
        known_NK, unlike_GK = np.split(probs, [len(task.labels_N)])
        calibration = Calibration(
            scores=scores(known_NK, at),
            groups_C=task.folds_N,
            wrong_C=known_NK.argmax(-1) != task.labels_N,
            negatives=scores(unlike_GK, made),
            groups_G=negatives["folds"],
            kinds_G=kinds_G,
        )
        return judged(usual, strangers(calibration)).risk

    return risk_of


def member_recipe(default: MemberConfig, record: TrialRecord, fold: int) -> MemberConfig:
    """The recipe a member is trained by.

    A fold's own model is trained as its trial was. A refitted one keeps no image back: it trains
    for as many epochs as were best, on average, in the trial's folds.
    """
    recipe = recipe_of(default, record.params)
    if fold >= 0 or not recipe.validation_share:
        return recipe
    return replace(recipe, epochs=max(1, round(record.mean("best_epoch"))), validation_share=0.0)


def card_of(prepared: Prepared, record: TrialRecord, fold: int, weight: int) -> Card:
    """The card of a head of this trial that has not seen the fold; -1 has seen all."""
    config, task = prepared.config, prepared.task
    return Card(
        labels=task.labels,
        recipe=member_recipe(config.member, record, fold),
        seed=seed_of(task.seed, record.number, task.folds if fold < 0 else fold),
        trial=record.number,
        fold=fold,
        weight=weight,
        nll=record.nll,
        preprocessing=preprocessing_of(config.data, backbone.load(config.data.weights).sha256),
        manifest=prepared.manifest.sha256,
    )


def train_heads(
    prepared: Prepared, cards: Sequence[Card], folder: StoragePath
) -> list[tuple[StoragePath, str]]:
    """Train a head per card over the cluster; their files and sha256."""
    from sign_ensemble.learning.parallel_heads import fit_members
    from sign_ensemble.learning.train_worker import Job

    search = prepared.config.search
    name = folder.name.removesuffix("s")
    jobs = [Job(card, str(folder / f"{name}-{i:02d}.safetensors")) for i, card in enumerate(cards)]
    with progress(f"{folder.name} trained") as step:
        hashes = fit_members(
            jobs, prepared.task, search.cpus_per_trial, search.gpus_per_trial, step
        )
    return [(storage_path(job.path), sha256) for job, sha256 in zip(jobs, hashes, strict=True)]


def write_index(
    prepared: Prepared, cards: Sequence[Card], files: Sequence[tuple[StoragePath, str]], **more: Any
) -> None:
    """Write index.json, which says that the members are there."""
    config = prepared.config
    entries = [
        {"file": path.name, "sha256": sha256, "trial": card.trial,
         "fold": card.fold, "votes": card.weight}
        for card, (path, sha256) in zip(cards, files, strict=True)
    ]  # fmt: skip
    index = {"method": config.ensemble.method, "of": config.ensemble.members, "members": entries}
    write_json(prepared.run.members / "index.json", {**index, **more})


def selected(prepared: Prepared, records: Sequence[TrialRecord]) -> dict[int, int]:
    """:func:`select`, and a word where there are fewer than asked for."""
    config = prepared.config
    votes = select(prepared, records)
    if len(votes) < config.ensemble.size and config.ensemble.method == "top_k":
        say(f"only {len(votes)} trials were completed: the ensemble has as many members")
    return votes


def build_members(prepared: Prepared, records: Sequence[TrialRecord]) -> None:
    """Select trials, train the members, write them and then their index."""
    votes = selected(prepared, records)
    by_number = {record.number: record for record in records}
    refit = prepared.config.ensemble.members == "refit"
    folds = [-1] if refit else list(range(prepared.task.folds))
    cards = [
        card_of(prepared, by_number[number], fold, weight)
        for number, weight in votes.items()
        for fold in folds
    ]
    files = train_heads(prepared, cards, prepared.run.members)
    write_index(prepared, cards, files)


def best_trial(votes: Mapping[int, int], run: RunFolder) -> int:
    """Place, among the selected trials, of the one with the lowest loss on unseen signers."""
    order = [record.number for record in ranked(read_records(run)) if record.number in votes]
    return list(votes).index(order[0])

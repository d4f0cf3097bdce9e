"""Ended trials to fine-tuned members, and fold models that predict the fold they have not seen.

The best trials' heads are trained once more, and from there the convolutions are fine-tuned too.
For each fold there is a fold model that was not trained on it; the rule is calibrated on what fold
models predict. With ensemble.members ``folds`` the fold models are the members; with ``refit`` the
members are trained on every training signer.

Letters: N training images, M fold models that predict the same image, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import softmax

from sign_ensemble import metrics
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.run_folder import cache_of
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.core.whose_signs import whose_signs
from sign_ensemble.data.feature_cache import hands_of_rows
from sign_ensemble.data.handedness import mirrored_rows
from sign_ensemble.data.image_cache import pixels_of_rows
from sign_ensemble.data.row_cache import HandWork
from sign_ensemble.learning.member import HEAD_ALONE, Card
from sign_ensemble.learning.task import NO_FOLD, EndToEnd, PixelTask, finetune_settings
from sign_ensemble.pipeline.members import (
    ALL_FOLDS,
    card_of,
    select,
    train_heads,
    write_index,
)
from sign_ensemble.pipeline.out_of_fold import predict_folds
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.search.records import TrialRecord, out_of_fold


def fold_model_seats(votes: Mapping[int, int], folds: int, rounds: int) -> list[tuple[int, int]]:
    """Trial and fold of each fold model: every fold has ``rounds`` of them, and the trials take
    turns, as often as ``votes`` (trial number → votes, best first) says.
    """
    turns = [number for number, count in votes.items() for _ in range(count)]
    return [(turns[i % len(turns)], i % folds) for i in range(rounds * folds)]


def pixel_task(prepared: Prepared) -> PixelTask:
    """The training images, decoded once, and those of extra signers."""
    config, task = prepared.config, prepared.task
    extra = prepared.manifest.rows("extra")
    rows = pa.concat_tables([prepared.rows, extra])
    cache, about = cache_of(config), (rows, prepared.manifest.root, config.data)
    work: HandWork | None = None
    if config.data.crop == "hand":
        hands = hands_of_rows(*about, cache)
        signers = rows.column("signer").to_pylist()
        work = HandWork(hands.values_ND, mirrored_rows(hands, signers, config.data))
    with progress("images decoded") as step:
        pixels = pixels_of_rows(*about, cache, step, work)
    labels = [task.labels.index(label) for label in extra.column("label").to_pylist()]
    return PixelTask(
        pixels,
        tuple(rows.column("sha256").to_pylist()),
        np.concatenate([task.labels_N, np.array(labels, np.int64)]),
        np.concatenate([task.folds_N, np.full(len(labels), NO_FOLD)]),
        config.data.mirror,
        config.data.weights,
    )


def end_to_end_of(prepared: Prepared) -> EndToEnd:
    """What end-to-end trials need."""
    from sign_ensemble.learning.cluster_resources import trial_resources

    config = prepared.config
    return EndToEnd(
        pixel_task(prepared),
        config.finetune,
        config.scale,
        trial_resources(config.search, config.scale),
        str(prepared.run.checkpoints),
    )


def build_finetuned(prepared: Prepared, records: Sequence[TrialRecord]) -> None:
    """Select trials, fine-tune members (and fold models, unless the trials were end-to-end and have
    made predictions for their folds), and write the members' index.
    """
    config, run, folds = prepared.config, prepared.run, prepared.task.folds
    every, by_number = select(prepared, records), {record.number: record for record in records}
    votes = {n: count for n, count in every.items() if by_number[n].kind == "pixels"}
    refit, end_to_end = config.ensemble.members == "refit", config.search.trial == "end-to-end"
    if end_to_end:
        seats = [(n, fold, votes[n]) for n in votes for fold in range(0 if refit else folds)]
    else:
        rounds = 1 if refit else max(1, config.ensemble.size // folds)
        seats = [(number, fold, 1) for number, fold in fold_model_seats(votes, folds, rounds)]
    fold_models = [card_of(prepared, by_number[n], fold, count) for n, fold, count in seats]
    members = [card_of(prepared, by_number[n], ALL_FOLDS, votes[n]) for n in votes]
    folder, name = (run.fold_models, "fold-model") if refit else (run.members, "member")
    paths = [folder / f"{name}-{i:02d}.safetensors" for i in range(len(fold_models))]
    cards = fold_models
    if refit:
        paths += [run.members / f"member-{i:02d}.safetensors" for i in range(len(members))]
        cards = [*fold_models, *members]
    cards = [
        replace(card, finetune=finetune_settings(config.finetune, by_number[card.trial].params))
        for card in cards
    ]
    task = pixel_task(prepared)
    files = finetuned(prepared, task, cards, paths)
    more: dict[str, Any] = {"finetuned": config.finetune.layers}
    if not end_to_end:
        of_folds = len(fold_models)
        predicted = predict_folds(prepared, task, cards[:of_folds], paths[:of_folds])
        heads_MNK = heads_logits(prepared, [(number, fold) for number, fold, _ in seats])
        more["gains"] = say_gains(prepared, {"heads": heads_MNK, "finetuned": predicted.logits_MNK})
    first = len(fold_models) if refit else 0
    cards, files = cards[first:], files[first:]
    landmark_cards = [
        card_of(prepared, by_number[n], fold, count)
        for n, count in every.items()
        if n not in votes
        for fold in ([ALL_FOLDS] if refit else range(folds))
    ]
    heads = train_heads(prepared, landmark_cards, run.members, len(cards))
    write_index(prepared, [*cards, *landmark_cards], [*files, *heads], **more)


def say_gains(prepared: Prepared, stages: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Figures of each stage's logits (M, N, K), also shown to the user."""
    gains = {stage: gain_of(prepared, logits_MNK) for stage, logits_MNK in stages.items()}
    whose = whose_signs(prepared.config.data.signers)
    for stage, gain in gains.items():
        say(
            f"{stage} on {whose.held_out}: nll {gain['nll']:.4f}, accuracy {gain['accuracy']:.3f}, "
            f"{whose.worst} {gain['worst']:.3f}"
        )
    return gains


def finetuned(
    prepared: Prepared, task: PixelTask, cards: Sequence[Card], paths: Sequence[StoragePath]
) -> list[tuple[StoragePath, str]]:
    """Train the heads of these cards and fine-tune them; each one's file and sha256."""
    from sign_ensemble.learning.cluster_resources import gpus
    from sign_ensemble.learning.train_runs import finetune_members
    from sign_ensemble.learning.train_worker import Job

    config, run = prepared.config, prepared.run
    plain = [replace(card, finetune=HEAD_ALONE) for card in cards]
    heads = train_heads(prepared, plain, run.heads)
    jobs = [
        Job(card, str(path), str(head))
        for card, path, (head, _) in zip(cards, paths, heads, strict=True)
    ]
    slow = "; without a GPU that takes a while, and --finetune.layers none does without it"
    say(
        f"fine-tuning: {len(jobs)} networks, {config.finetune.epochs} passes over "
        f"{len(task.keys)} images each{'' if gpus() else slow}"
    )
    with progress("passes of fine-tuning") as step:
        hashes = finetune_members(jobs, task, run.checkpoints, config.scale, step)
    return list(zip(paths, hashes, strict=True))


def heads_logits(prepared: Prepared, seats: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Out-of-fold logits (M, N, K) of the fold models' heads before fine-tuning.

    They are the models of the trials' own folds, trained again, so the trials have recorded them.
    """
    run, task = prepared.run, prepared.task
    recorded = {number: out_of_fold(run, task, number) for number, _ in seats}
    rounds = len(seats) // task.folds
    logits_MNK = np.zeros((rounds, len(task.labels_N), len(task.labels)), np.float32)
    for i, (number, fold) in enumerate(seats):
        in_fold_N = task.folds_N == fold
        logits_MNK[i // task.folds, in_fold_N] = recorded[number][in_fold_N]
    return logits_MNK


def gain_of(prepared: Prepared, logits_MNK: NDArray[np.float32]) -> dict[str, float]:
    """Figures of the mean of probabilities over the fold models of each image, each fold counting
    once: nll (nats), accuracy, and the worst fold's accuracy.
    """
    task = prepared.task
    probs_NK = softmax(logits_MNK.astype(np.float64), -1).mean(0)
    folds = [task.folds_N == fold for fold in range(task.folds)]
    nll = [float(metrics.nll(probs_NK[fold_N], task.labels_N[fold_N])) for fold_N in folds]
    right = [float(metrics.accuracy(probs_NK[fold_N], task.labels_N[fold_N])) for fold_N in folds]
    return {"nll": float(np.mean(nll)), "accuracy": float(np.mean(right)), "worst": min(right)}

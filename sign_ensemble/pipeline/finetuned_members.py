"""Judged trials to fine-tuned members, and what these say of people they never saw.

The best trials' heads are trained once more, and from there the convolutions learn too. For each
fold there is a network that has not seen it, its judge, which is asked about it; the rule is
calibrated on what judges say. With ensemble.members ``folds`` the judges are the members
themselves; with ``refit`` the members are networks that have seen every training signer.

Letters: R networks per fold, N training images, G negatives, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import softmax

from sign_ensemble import metrics
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.run_folder import cache_of
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.image_cache import pixels_of_rows
from sign_ensemble.learning.member import HEAD_ALONE, Card
from sign_ensemble.learning.task import NO_FOLD, EndToEnd, PixelTask, finetune_settings
from sign_ensemble.pipeline.fold_models import predict_folds
from sign_ensemble.pipeline.members import card_of, selected, train_heads, write_index
from sign_ensemble.pipeline.preparation import Prepared
from sign_ensemble.search.records import TrialRecord, out_of_fold


@dataclass(frozen=True)
class Gain:
    """How networks did on signers they had not seen, each fold counting once; nll in nats."""

    nll: float
    accuracy: float
    worst: float


def fold_model_seats(votes: Mapping[int, int], folds: int, rounds: int) -> list[tuple[int, int]]:
    """Trial and fold of each judge: every fold has as many as there are rounds, and the trials
    take turns, the best first.

    Args:
        votes: Trial number → votes, best first.
        folds: How many folds there are.
        rounds: Judges of each fold.
    """
    turns = [number for number, weight in votes.items() for _ in range(weight)]
    return [(turns[i % len(turns)], i % folds) for i in range(rounds * folds)]


def pixel_task(prepared: Prepared) -> PixelTask:
    """Decode the images to learn from once, and say where they lie."""
    config, task = prepared.config, prepared.task
    further = prepared.manifest.rows("further")
    rows = pa.concat_tables([prepared.rows, further])
    cache = cache_of(config)
    with progress("images decoded") as step:
        pixels = pixels_of_rows(rows, prepared.manifest.root, config.data, cache, step)
    keys = tuple(rows.column("sha256").to_pylist())
    extra = [task.labels.index(label) for label in further.column("label").to_pylist()]
    return PixelTask(
        pixels,
        keys,
        np.concatenate([task.labels_N, np.array(extra, np.int64)]),
        np.concatenate([task.folds_N, np.full(len(extra), NO_FOLD)]),
        config.data.mirror,
        config.data.weights,
    )


def end_to_end_of(prepared: Prepared) -> EndToEnd:
    """What trials need whose convolutions learn too."""
    from sign_ensemble.learning.cluster_resources import trial_resources

    config = prepared.config
    return EndToEnd(
        pixel_task(prepared),
        config.finetune,
        config.scale,
        trial_resources(config.search, config.scale),
        config.rejection.negatives,
        str(prepared.run.checkpoints),
    )


def build_finetuned(prepared: Prepared, records: Sequence[TrialRecord]) -> None:
    """Select trials, fine-tune their networks and write the members' index.

    Where trials were of heads, judges are fine-tuned too and asked about the folds they have not
    seen. Where the search has fine-tuned, its trials have said that.
    """
    config, run, folds = prepared.config, prepared.run, prepared.task.folds
    votes = selected(prepared, records)
    refit, asked = config.ensemble.members == "refit", config.search.trial == "finetune"
    if not asked:
        rounds = 1 if refit else max(1, config.ensemble.size // folds)
        seated = [(number, fold, 1) for number, fold in fold_model_seats(votes, folds, rounds)]
    else:
        seated = [(n, fold, votes[n]) for n in votes for fold in range(0 if refit else folds)]
    by_number = {record.number: record for record in records}
    judges = [card_of(prepared, by_number[n], fold, weight) for n, fold, weight in seated]
    others = [card_of(prepared, by_number[n], -1, votes[n]) for n in votes] if refit else []
    folder, name = (run.judges, "judge") if refit else (run.members, "member")
    paths = [folder / f"{name}-{i:02d}.safetensors" for i in range(len(judges))]
    paths += [run.members / f"member-{i:02d}.safetensors" for i in range(len(others))]
    task = pixel_task(prepared)
    cards = [
        replace(card, finetune=finetune_settings(config.finetune, by_number[card.trial].params))
        for card in [*judges, *others]
    ]
    files = finetuned(prepared, task, cards, paths)
    more: dict[str, Any] = {"finetuned": config.finetune.layers}
    if not asked:
        signs_RNK = predict_folds(prepared, task, judges, paths[: len(judges)]).logits_RNK
        heads = heads_logits(prepared, [(number, fold) for number, fold, _ in seated])
        more["gains"] = say_gains(prepared, {"heads": heads, "finetuned": signs_RNK})
    first = len(judges) if refit else 0
    write_index(prepared, cards[first:], files[first:], **more)


def say_gains(prepared: Prepared, stages: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """The figures of each stage's logits (R, N, K), said to the user too."""
    gains = {stage: gain_of(prepared, logits_RNK) for stage, logits_RNK in stages.items()}
    for stage, gain in gains.items():
        say(
            f"{stage} on signers they never saw: nll {gain.nll:.4f}, accuracy "
            f"{gain.accuracy:.3f}, worst signer {gain.worst:.3f}"
        )
    return {stage: vars(gain) for stage, gain in gains.items()}


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
    say(work_ahead(len(jobs), config.finetune.epochs, len(task.keys), gpus()))
    with progress("passes of fine-tuning") as step:
        hashes = finetune_members(jobs, task, run.checkpoints, config.scale, step)
    return list(zip(paths, hashes, strict=True))


def work_ahead(networks: int, passes: int, images: int, gpus: float) -> str:
    """What is ahead, and what spares it where that is slow."""
    work = f"fine-tuning: {networks} networks, {passes} passes over {images} images each"
    slow = "; without a GPU that takes a while, and --finetune.layers none does without it"
    return work + ("" if gpus else slow)


def heads_logits(prepared: Prepared, seated: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """What the judges' heads said of their folds before they were fine-tuned: logits (R, N, K).

    They are the networks of the trials' own folds, trained again, so the trials have recorded it.
    """
    run, task = prepared.run, prepared.task
    recorded = {number: out_of_fold(run, task, number)[0] for number, _ in seated}
    rounds = len(seated) // task.folds
    logits_RNK = np.zeros((rounds, len(task.labels_N), len(task.labels)), np.float32)
    for i, (number, fold) in enumerate(seated):
        mine = task.folds_N == fold
        logits_RNK[i // task.folds, mine] = recorded[number][mine]
    return logits_RNK


def gain_of(prepared: Prepared, logits_RNK: NDArray[np.float32]) -> Gain:
    """Figures of the mean of probabilities over the networks that had not seen the signer."""
    task = prepared.task
    probs_NK = softmax(logits_RNK.astype(np.float64), -1).mean(0)
    folds = [task.folds_N == fold for fold in range(task.folds)]
    nll = [float(metrics.nll(probs_NK[mine], task.labels_N[mine])) for mine in folds]
    hit = [float(metrics.accuracy(probs_NK[mine], task.labels_N[mine])) for mine in folds]
    return Gain(float(np.mean(nll)), float(np.mean(hit)), min(hit))

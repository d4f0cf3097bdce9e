"""Answers to one set of images as rows of answers.parquet, with pictures of some."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sign_ensemble.rejection.answers_table import (
    ACCEPTED_OOD,
    KNOWN,
    MISTAKES,
    REJECTED_OOD,
    REJECTED_SIGNS,
    Row,
    table_of,
)
from sign_ensemble.rejection.predictor import Answers

SHOWN = 12  # pictures of one gallery from one set
CONFIDENT = 0.9  # as in metrics.json
SIDE = 112  # pixels of a picture in the report
QUALITY = 85


def galleries(
    answers: Answers, single_N: NDArray[np.float64], labels_N: NDArray[np.int64] | None
) -> dict[str, list[int]]:
    """Images worth looking at, most confident first.

    ``single_N`` is the best member's highest probability; ``labels_N`` None for an OOD set.
    """
    if labels_N is None:
        wanted = {
            ACCEPTED_OOD: (answers.accepted_N, answers.confidence_N),
            REJECTED_OOD: (~answers.accepted_N & (single_N >= CONFIDENT), single_N),
        }
    else:
        wrong = answers.labels_N != labels_N
        wanted = {
            MISTAKES: (answers.accepted_N & wrong, answers.confidence_N),
            REJECTED_SIGNS: (~answers.accepted_N, answers.confidence_N),
        }
    found = {}
    for name, (chosen, confidence) in wanted.items():
        order = np.argsort(-confidence, kind="stable")
        found[name] = [int(i) for i in order if chosen[i]][:SHOWN]
    return found


def jpeg(image_HW3: NDArray[np.uint8]) -> bytes:
    """The image, at most 112 pixels wide."""
    made = Image.fromarray(image_HW3)
    made.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    with io.BytesIO() as buffer:
        made.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()


def rows_of(
    name: str,
    kind: str,
    answers: Answers,
    images: Sequence[str],
    labels: tuple[str, ...],
    best: int,
    pictures: Callable[[list[int]], NDArray[np.uint8]],
    known: tuple[Sequence[str], NDArray[np.int64]] | None = None,
) -> pa.Table:
    """One set's part of answers.parquet.

    ``images`` are their names, ``labels`` those of the outputs, ``best`` is the member that stands
    for a single model; ``pictures`` gives the images of some indices, and ``known``, of held-out
    signs, who signed each and its true label.
    """
    probs_NK = np.exp(answers.output.log_probs_MNK[best])
    single_N, single_labels_N = probs_NK.max(-1), probs_NK.argmax(-1)
    signers, labels_N = known or ([""] * len(images), None)
    chosen = galleries(answers, single_N, labels_N)
    shown = {i: gallery for gallery, indices in chosen.items() for i in indices}
    indices = sorted(shown)
    thumbnails = dict(zip(indices, map(jpeg, pictures(indices)), strict=True)) if indices else {}
    rows = [
        Row(
            set=name,
            kind=kind,
            image=images[i],
            signer=signers[i],
            label="" if labels_N is None else labels[labels_N[i]],
            answer=labels[answers.labels_N[i]],
            confidence=float(answers.confidence_N[i]),
            probability=float(answers.probability_N[i]),
            p_value=float(answers.p_values_N[i]),
            accepted=bool(answers.accepted_N[i]),
            deciding_score=str(answers.deciding_score_N[i]),
            votes=answers.votes(i, labels),
            reason=answers.reason(i, labels),
            single_answer=labels[single_labels_N[i]],
            single_confidence=float(single_N[i]),
            gallery=shown.get(i, ""),
            picture=thumbnails.get(i, b""),
        )
        for i in range(len(images))
    ]
    return table_of(rows, answers.scores)


def in_one_table(parts: Sequence[pa.Table]) -> pa.Table:
    """All sets in one table, held-out signs first."""
    return pa.concat_tables(sorted(parts, key=lambda part: part["kind"][0].as_py() != KNOWN))

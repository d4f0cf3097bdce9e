"""Predictions as rows of a table: the one list of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sign_ensemble.core.printable_text import storable
from sign_ensemble.serving.predictions import Prediction

FIGURES = ("confidence", "probability", "disagreement", "p_value")
SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # bytes that are not UTF-8 escaped
        ("frame", pa.int64()),  # index of a video's frame; null for a picture
        ("accepted", pa.bool_()),
        ("label", pa.string()),  # null if the image is rejected
        ("reason", pa.string()),  # why it is rejected, in words; empty if it is accepted
        ("rejected_by", pa.string()),  # the score that decided; null if it is accepted
        ("likeliest", pa.string()),  # the most probable label, also of a rejected image
        *((name, pa.float64()) for name in FIGURES),  # null where the image cannot be read
        ("votes", pa.string()),  # how many members say what, in words
        ("error", pa.string()),  # why the image cannot be read; null if it can
    ]
)
COLUMNS = tuple(SCHEMA.names)


@dataclass(frozen=True)
class InputName:
    """Which image a row is about."""

    path: str
    frame: int | None = None


def row_of(name: InputName, found: Prediction) -> dict[str, Any]:
    """A row of COLUMNS."""
    return {
        "path": storable(name.path),
        "frame": name.frame,
        "accepted": found.accepted,
        "label": found.label,
        "reason": found.reason,
        "rejected_by": found.rejected_by,
        "likeliest": found.likeliest,
        "confidence": found.confidence,
        "probability": found.probability,
        "disagreement": found.disagreement.total if found.disagreement else None,
        "p_value": found.p_value,
        "votes": found.votes_in_words,
        "error": found.error,
    }


def table_of_rows(names: Sequence[InputName], found: Sequence[Prediction]) -> pa.Table:
    """A table of SCHEMA, a row per image."""
    rows = [row_of(*each) for each in zip(names, found, strict=True)]
    return pa.Table.from_pylist(rows, SCHEMA)

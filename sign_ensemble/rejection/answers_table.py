"""answers.parquet: one row per evaluated image, so that reports never read a test image again.

Columns: those of :class:`Row`, and ``score.<name>`` for every score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import atomic_write, local_copy_of
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath

KNOWN = "known"  # the set, and the kind, of test signs
SCORE = "score."
MISTAKES = "most confident mistakes"
REJECTED_SIGNS = "rejected real signs"
ACCEPTED_OOD = "accepted OOD images"
REJECTED_OOD = "rejected, though one model was confident"
GALLERIES = (MISTAKES, REJECTED_SIGNS, ACCEPTED_OOD, REJECTED_OOD)  # in the order of the report


@dataclass(frozen=True)
class Row:
    """The answer to one image."""

    set: str  # "known", or the OOD set's name
    kind: str  # known, near or far
    image: str  # its path in the manifest or the file; in built-in sets its number
    signer: str  # empty where it is not known
    label: str  # the true one; empty on OOD images
    answer: str  # the ensemble's likeliest label, also where the image is rejected
    confidence: float  # probability that the answer is right
    probability: float  # the ensemble's, of the answer, given that the image is a sign
    p_value: float  # combined p-value of the rule's tests
    accepted: bool
    deciding_score: str  # the score that speaks most against the image
    votes: str  # "3 say U, 2 say V"
    reason: str  # why it is rejected; empty where it is accepted
    single_answer: str  # the best member's label
    single_confidence: float  # the best member's probability of it
    gallery: str  # the report's gallery that shows it; empty for most images
    picture: bytes  # JPEG of it as the members see it; empty outside the galleries


TYPES = {"str": pa.string(), "float": pa.float64(), "bool": pa.bool_(), "bytes": pa.binary()}
SCHEMA = pa.schema([(name, TYPES[str(kind)]) for name, kind in Row.__annotations__.items()])


def table_of(rows: Sequence[Row], scores: Mapping[str, NDArray]) -> pa.Table:
    """The rows, followed by their scores (N,) by name."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    for name, scores_N in scores.items():
        table = table.append_column(f"{SCORE}{name}", pa.array(scores_N, pa.float64()))
    return table


def write(table: pa.Table, path: StoragePath) -> None:
    """Write the Parquet file atomically."""
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)


def read(path: StoragePath) -> pa.Table:
    """Read what :func:`write` wrote.

    Raises:
        UserError: missing, unreadable or of another version.
    """
    try:
        with local_copy_of(path) as file:
            table = pq.read_table(file, partitioning=None)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: evaluate the run (again, with --evaluate.again true, if an "
            "earlier version did)"
        ) from None
    except (OSError, pa.ArrowException) as fault:
        raise UserError(f"{path} cannot be read: {' '.join(str(fault).split())}") from None
    if not table.select(table.column_names[: len(SCHEMA)]).schema.equals(SCHEMA):
        raise UserError(f"{path} is not of this version: its columns differ")
    return table

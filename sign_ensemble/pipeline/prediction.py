"""Images → predictions: a table, written piece by piece, or lines."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import sign_ensemble
from sign_ensemble.core.atomic_files import file_sha256
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.ray_cluster import connected_ray
from sign_ensemble.core.storage import StoragePath, absolute_path
from sign_ensemble.data.named_inputs import NamedInputs, named_inputs
from sign_ensemble.pipeline.folder_labels import FolderTally
from sign_ensemble.pipeline.prediction_parts import Key, Parts, parts_of
from sign_ensemble.pipeline.table_writers import write_tables
from sign_ensemble.rejection.p_in_distribution import EVERY_IMAGE_A_SIGN
from sign_ensemble.serving.load_ensemble import load_ensemble
from sign_ensemble.serving.loaded_ensemble import LoadedEnsemble
from sign_ensemble.serving.prediction_pieces import FRAMES, IMAGES, Piece, pieces_of
from sign_ensemble.serving.prediction_rows import COLUMNS
from sign_ensemble.serving.predictions_here import answers_here

# Of a run or an exported ensemble: what decides its answers. The index has the members' sha256.
DECIDING = (
    "config.yaml", "rule.json", "rule.safetensors", "members/index.json", "labels.json",
    "model.onnx",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """An ensemble and the images to answer."""

    where: str  # absolute, or a URI
    ensemble: LoadedEnsemble
    inputs: NamedInputs
    pieces: list[Piece]
    engine: str

    @property
    def images(self) -> int:
        """How many rows there will be."""
        return sum(piece.rows for piece in self.pieces)

    def key(self) -> Key:
        """What the rows depend on."""
        path = absolute_path(self.where)
        deciding = [path / name for name in DECIDING if (path / name).is_file()]
        return {
            "the images": self.inputs.sha256(),
            "the ensemble": " ".join(map(file_sha256, deciding)),
            "the version": f"{sign_ensemble.__version__}, {IMAGES} and {FRAMES} a part, "
            + " ".join(COLUMNS),
        }

    def answers(self, numbers: Sequence[int]) -> Generator[pa.Table, None, None]:
        """The table of each of these pieces, in order."""
        pieces = [self.pieces[number] for number in numbers]
        if not pieces:
            return
        if self.engine == "local":
            with closing(answers_here(self.ensemble, pieces)) as found:
                yield from found
            return
        # imported here, since Ray takes a second to load
        from sign_ensemble.serving.predictions_on_cluster import answers_on_cluster

        with connected_ray():
            yield from answers_on_cluster(self.where, pieces)


def job_of(where: str, given: Sequence[str], engine: str = "local") -> Job:
    """Load an ensemble and find the images.

    Raises:
        UserError: the ensemble or an image's name cannot be used.
    """
    ensemble, inputs = load_ensemble(where), named_inputs(given)
    for line in inputs.left_out:
        say(line)
    if ensemble.rule.ood_prior is None:
        say(EVERY_IMAGE_A_SIGN)
    pieces = pieces_of(inputs.files)
    return Job(str(absolute_path(where, "--run")), ensemble, inputs, pieces, engine)


def predictions(job: Job, show: Callable[[list[dict[str, Any]]], None], by_folder: bool) -> None:
    """Answer all images and show the rows, piece by piece."""
    tally = FolderTally(frozenset(job.ensemble.labels)) if by_folder else None
    with progress("images read") as step, closing(job.answers(range(len(job.pieces)))) as tables:
        done = 0
        for table in tables:
            show(table.to_pylist())
            done += len(table)
            step(done, job.images)
            if tally:
                tally.add(table)
    for line in tally.words() if tally else ():
        say(line)


def write_predictions(job: Job, out: StoragePath, by_folder: bool) -> None:
    """Answer all images into a table; what an interrupted command has answered is kept.

    Raises:
        UserError: another command writes this table, or a part of it is damaged.
        StorageError: it cannot be written.
    """
    tally = FolderTally(frozenset(job.ensemble.labels)) if by_folder else None
    with parts_of(out) as parts:
        parts.begin(job.key())
        answer_into(parts, job)

        def tables() -> Iterator[pa.Table]:
            for number in range(len(job.pieces)):
                table = parts.read(number)
                if tally:
                    tally.add(table)
                yield table

        write_tables(tables(), out)
        parts.clear()
    say(f"{job.images} answers: {out}")
    for line in tally.words() if tally else ():
        say(line)


def answer_into(parts: Parts, job: Job) -> None:
    """Write the parts that are not there."""
    kept = parts.done(piece.rows for piece in job.pieces)
    done = sum(job.pieces[number].rows for number in kept)
    if kept:
        say(f"{done} of {job.images} answers are kept from before")
    numbers = [number for number in range(len(job.pieces)) if number not in kept]
    with progress("images read") as step, closing(job.answers(numbers)) as tables:
        for number, table in zip(numbers, tables, strict=True):
            parts.write(number, table)
            done += len(table)
            step(done, job.images)

"""Pieces answered over a Ray cluster, with Ray Data: an actor per CPU or GPU loads the ensemble
once. Images and the ensemble must be readable on every node.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from sign_ensemble.core.device import compute_with
from sign_ensemble.core.storage import RemotePath
from sign_ensemble.serving.load_ensemble import load_ensemble
from sign_ensemble.serving.prediction_pieces import Piece, answer_piece

NUMBER, ROWS = "number", "rows"
MOST_BLOCKS = 1000


class Answerer:
    """A Ray Data actor that turns pieces into rows."""

    def __init__(self, where: str, folder: str) -> None:
        compute_with(1)
        with suppress(OSError):  # no such folder here; then no relative path can be read
            os.chdir(folder)  # paths are relative to where the command was given
        self.ensemble = load_ensemble(where)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The rows of a batch of one piece, as Arrow's bytes."""
        item = {name: values[0] for name, values in batch.items()}
        table = answer_piece(self.ensemble, piece_of(item))
        return {NUMBER: batch[NUMBER], ROWS: [bytes_of(table)]}


def answers_on_cluster(where: str, pieces: Sequence[Piece]) -> Iterator[pa.Table]:
    """The table of each piece, in order, as ``answers_here`` gives them.

    Args:
        where: Folder or URI of the ensemble.
        pieces: At least one.
    """
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    quieten()
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = gpus or max(1, int(resources.get("CPU", 1)) - 1)
    items = [item_of(number, piece) for number, piece in enumerate(pieces)]
    rows = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS))
    done = rows.map_batches(
        Answerer,
        fn_constructor_args=(where, os.getcwd()),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(items))),
        num_cpus=None if gpus else 1,
        num_gpus=1 if gpus else None,
    )
    for expected, batch in enumerate(done.iter_batches(batch_size=1, batch_format="numpy")):
        if int(batch[NUMBER][0]) != expected:
            raise RuntimeError("Ray Data returned pieces in another order")
        yield table_of(batch[ROWS][0])


def quieten() -> None:
    """Let Ray Data print errors only; its plans stay in its log file."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # the console's
            handler.setLevel(logging.ERROR)


def item_of(number: int, piece: Piece) -> dict[str, Any]:
    """A piece as Ray Data's columns: of a local file the root is empty."""
    parts = [
        (path.root, path.path, path.query) if isinstance(path, RemotePath) else ("", str(path), "")
        for path in piece.paths
    ]
    roots, paths, queries = map(list, zip(*parts, strict=True))
    names = {"roots": roots, "paths": [os.fsencode(path) for path in paths], "queries": queries}
    about = {"first": piece.first, "frames": piece.frames, "error": piece.error}
    return {NUMBER: number, **names, **about}


def piece_of(item: dict[str, Any]) -> Piece:
    """Undo :func:`item_of`."""
    parts = zip(item["roots"], map(os.fsdecode, item["paths"]), item["queries"], strict=True)
    paths = tuple(
        RemotePath(str(root), path, str(query)) if root else Path(path)
        for root, path, query in parts
    )
    return Piece(paths, int(item["first"]), int(item["frames"]), str(item["error"]))


def bytes_of(table: pa.Table) -> bytes:
    """A table in Arrow's stream format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def table_of(content: bytes) -> pa.Table:
    """Undo :func:`bytes_of`."""
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()

"""Work in pieces: which images make one, and what an ensemble answers of it.

A piece gives the same rows wherever it is computed: products round by their sizes and by the number
of threads, so a piece is always the same images, on one thread. As many are computed at once as
there are cores.

Letters: H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from threading import Lock

import pyarrow as pa

from sign_ensemble.core.atomic_files import local_copy_of
from sign_ensemble.core.storage import RemotePath, StorageError, StoragePath
from sign_ensemble.data.images import SetAside
from sign_ensemble.data.square_pictures import Pixels
from sign_ensemble.data.video_frames import count_frames, frames_of, is_video
from sign_ensemble.serving.given_images import GivenImage
from sign_ensemble.serving.loaded_ensemble import LoadedEnsemble
from sign_ensemble.serving.prediction_rows import SCHEMA, InputName, table_of_rows
from sign_ensemble.serving.predictions import unreadable

IMAGES = 64  # of a piece, and in memory at once: a pass of the convolutions
FRAMES = 1024  # of a piece of a video: each decodes the frames before it anew


@dataclass(frozen=True)
class Piece:
    """Consecutive pictures, or consecutive frames of one video."""

    paths: tuple[StoragePath, ...]
    first: int = 0  # frame
    frames: int = 0  # 0: pictures
    error: str = ""  # why a video cannot be read; it is a row then

    @property
    def rows(self) -> int:
        """How many rows it gives."""
        return self.frames or len(self.paths)


def pieces_of(files: Sequence[StoragePath]) -> list[Piece]:
    """The pieces of all files, in order; of each video the frames are counted."""
    pieces: list[Piece] = []
    for videos, some in groupby(files, is_a_video):
        if videos:
            with ThreadPoolExecutor() as pool:
                for of_one in pool.map(pieces_of_video, some):
                    pieces += of_one
        else:
            while paths := tuple(islice(some, IMAGES)):
                pieces.append(Piece(paths))
    return pieces


def is_a_video(path: StoragePath) -> bool:
    """Whether a file is a video by its ending."""
    return is_video(Path(path.name))


def pieces_of_video(path: StoragePath) -> list[Piece]:
    """The pieces of one video; one that cannot be read is a piece of one row."""
    try:
        with local_copy_of(path) as file:
            count = count_frames(file)
    except (SetAside, StorageError, FileNotFoundError) as reason:
        return [Piece((path,), error=str(reason) or "cannot be read: no such file")]
    starts = range(0, count, FRAMES)
    return [Piece((path,), first, min(FRAMES, count - first)) for first in starts]


def answer_piece(ensemble: LoadedEnsemble, piece: Piece) -> pa.Table:
    """The rows of a piece, a table of SCHEMA; no more than IMAGES images are in memory at once.

    The caller's thread must be one whose torch has one thread.
    """
    if piece.error:
        name = InputName(str(piece.paths[0]))
        return table_of_rows([name], [unreadable(piece.error)])
    if not piece.frames:
        return answer_pictures(ensemble, piece.paths)
    [path] = piece.paths
    tables, shown = [], str(path)
    with local_copy_of(path) as file:
        frames = frames_of(file, piece.first, piece.frames)
        for start in range(piece.first, piece.first + piece.frames, IMAGES):
            some: list[Pixels] = list(islice(frames, IMAGES))
            names = [InputName(shown, start + i) for i in range(len(some))]
            tables.append(table_of_rows(names, ensemble.predict(some)))
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def answer_pictures(ensemble: LoadedEnsemble, paths: Sequence[StoragePath]) -> pa.Table:
    """The rows of pictures."""
    with ThreadPoolExecutor() as pool:
        given = list(pool.map(image_of, paths))
    found = iter(ensemble.predict([each for each in given if not isinstance(each, SetAside)]))
    predictions = [
        unreadable(str(each)) if isinstance(each, SetAside) else next(found) for each in given
    ]
    return table_of_rows([InputName(str(path)) for path in paths], predictions)


def image_of(path: StoragePath) -> GivenImage | SetAside:
    """A file as the ensemble takes it: an object of a store as its bytes, or why it is not read."""
    if not isinstance(path, RemotePath):
        return path
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return SetAside("cannot be read: no such object")
    except StorageError as fault:
        return SetAside(f"cannot be read: {fault.reason}")


def own_turns(ensemble: LoadedEnsemble, count: int) -> Iterator[LoadedEnsemble]:
    """So many copies of an ensemble that share what it has read, each answering on its own."""
    return (replace(ensemble, _turn=Lock()) for _ in range(count))

"""An unfinished table of predictions: its parts, in a hidden folder next to the table.

    .NAME.parts/  key.json          what the parts are made of
                  0000000.parquet   the rows of a piece
                  .lock             the command that works on it

A part is written whole or not at all, so that the command can end at any moment and go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sign_ensemble.core.atomic_files import atomic_write, local_copy_of, read_json, write_json
from sign_ensemble.core.console import say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.run_lock import locked
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.serving.prediction_rows import SCHEMA

KEY, LOCK, ENDING = "key.json", ".lock", ".parquet"
Key = dict[str, str]  # a few words: what a hash is of → the hash


@dataclass(frozen=True)
class Parts:
    """The parts of one table."""

    folder: StoragePath

    def file(self, number: int) -> StoragePath:
        """Where the rows of this piece lie."""
        return self.folder / f"{number:07d}{ENDING}"

    def done(self, rows: Iterable[int]) -> set[int]:
        """The numbers of the pieces whose parts are there and whole, given how many rows each has;
        a part that is not is computed again.
        """
        there = {file.name for file in self.folder.glob(f"*{ENDING}")}
        named = ((number, count) for number, count in enumerate(rows))
        return {
            number
            for number, count in named
            if self.file(number).name in there and self._is_whole(number, count)
        }

    def _is_whole(self, number: int, rows: int) -> bool:
        file = self.file(number)
        if not isinstance(file, Path):
            return True  # a store has an object completely or not at all
        try:
            metadata = pq.read_metadata(file)
        except (OSError, pa.ArrowException):
            say(f"{file}: damaged, it is made again")
            return False
        return metadata.num_rows == rows

    def write(self, number: int, table: pa.Table) -> None:
        """Write the rows of a piece."""
        with atomic_write(self.file(number)) as temporary:
            pq.write_table(table, temporary)

    def read(self, number: int) -> pa.Table:
        """The rows of a piece.

        Raises:
            UserError: the part is damaged.
        """
        file = self.file(number)
        try:
            with local_copy_of(file) as here:
                table = pq.read_table(here, partitioning=None)
        except (OSError, pa.ArrowException) as fault:
            reason = " ".join(str(fault).split())[:200]
            raise UserError(
                f"{file}: damaged ({reason}); delete it, then the same command makes it again"
            ) from None
        return table.cast(SCHEMA)

    def begin(self, key: Key) -> None:
        """Keep the parts that are there if they are made of the same, else start anew and say so.

        Raises:
            StorageError: the folder cannot be written.
        """
        file = self.folder / KEY
        before: Key = {}
        with suppress(UserError):  # none, or damaged
            before = read_json(file)
        if before == key:
            return
        changed = [name for name in key if before.get(name) != key[name]]
        if any(self.folder.glob(f"*{ENDING}")):
            say(f"started anew, since {' and '.join(changed)} changed; parts were in {self.folder}")
        self.clear()
        write_json(file, key)

    def clear(self) -> None:
        """Remove all but the lock."""
        files = [file for file in self.folder.glob("*") if file.name != LOCK]
        # the key last: parts without one belong to nothing
        parts = [file for file in files if file.name != KEY]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_remove, parts))
        _remove(self.folder / KEY)


@contextmanager
def parts_of(out: StoragePath) -> Iterator[Parts]:
    """The parts of a table, which are this command's for the length of the block.

    Raises:
        UserError: another command writes this table.
        StorageError: the folder cannot be written.
    """
    folder = out.parent / f".{out.name}.parts"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(RunFolder(folder), "give another --out"):
        for left in out.parent.glob(f".{out.name}.[0-9]*"):  # of a command that was killed
            _remove(left)
        yield Parts(folder)


def _remove(file: StoragePath) -> None:
    file.unlink(missing_ok=True)

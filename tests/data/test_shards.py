"""Features on an object store: shards that are made once, and copies on every machine."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import RemotePath, StoragePath, storage_path
from sign_ensemble.data import row_cache
from sign_ensemble.data.row_cache import CachedArray, RowSchema, cached_rows

if TYPE_CHECKING:
    from tests.conftest import S3

SCHEMA = RowSchema("rows.u8", (2, 3), "uint8", {"size": 3})
KEYS = [hashlib.sha256(bytes([n])).hexdigest() for n in range(7)]


def row(key: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(key)[:6], np.uint8).reshape(2, 3)


class Maker:
    """Makes rows; remembers for which keys, and breaks when it should."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.made: list[str] = []
        self._breaks_after = breaks_after

    def __call__(self, missing: Sequence[tuple[str, int]]) -> Iterator[np.ndarray]:
        for key, _ in missing:
            if len(self.made) == self._breaks_after:
                raise KeyboardInterrupt
            self.made.append(key)
            yield row(key)


def never(missing: Sequence[tuple[str, int]]) -> Iterator[np.ndarray]:
    raise AssertionError(f"made again: {missing}")


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, machine: Any) -> StoragePath:
    """Where rows are kept."""
    if request.param == "local":
        return tmp_path / "kept"
    return storage_path(request.getfixturevalue("s3").uri) / "kept"


@pytest.fixture
def remote(s3: S3, machine: Any) -> RemotePath:
    """Where rows are kept, on the object store."""
    found = storage_path(s3.uri) / "kept"
    assert isinstance(found, RemotePath)
    return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it to be on another machine, with a disk of its own."""
    monkeypatch.setattr(row_cache, "COMMIT", 2)

    def go(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        return tmp_path / name

    go("one")
    return go


def rows_of(found: CachedArray) -> np.ndarray:
    path = found.path if found.local_copy is None else found.local_copy.file()
    return np.memmap(path, np.uint8, "r").reshape(-1, 2, 3)[found.row_N]


def expected(keys: Sequence[str]) -> np.ndarray:
    return np.stack([row(key) for key in keys])


def copies(disk: Path) -> list[Path]:
    return list(disk.glob("sign_ensemble-*/*rows.u8"))


def test_rows_are_made_once_and_answered_in_order(folder: StoragePath) -> None:
    done: list[tuple[int, int]] = []
    wanted = [KEYS[5], KEYS[0], KEYS[5]]
    found = cached_rows(folder, SCHEMA, wanted, Maker(), lambda n, of: done.append((n, of)))
    assert np.array_equal(rows_of(found), expected(wanted))
    assert done == [(1, 2), (2, 2)]
    maker = Maker()
    found = cached_rows(folder, SCHEMA, KEYS, maker)
    assert maker.made == [key for key in KEYS if key not in wanted]
    assert np.array_equal(rows_of(found), expected(KEYS))
    assert np.array_equal(
        rows_of(cached_rows(folder, SCHEMA, KEYS[::-1], never)), expected(KEYS[::-1])
    )
    assert np.array_equal(rows_of(cached_rows(folder, SCHEMA, wanted, never)), expected(wanted))


def test_an_interrupted_making_keeps_what_was_committed(folder: StoragePath) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_rows(folder, SCHEMA, KEYS, Maker(breaks_after=5))
    maker = Maker()
    found = cached_rows(folder, SCHEMA, KEYS, maker)
    assert maker.made == KEYS[4:]
    assert np.array_equal(rows_of(found), expected(KEYS))


def test_another_machine_makes_its_copy_from_the_record_alone(
    remote: RemotePath, machine: Any
) -> None:
    sent = pickle.dumps(cached_rows(remote, SCHEMA, KEYS, Maker()))
    disk = machine("two")
    found: CachedArray = pickle.loads(sent)
    assert np.array_equal(rows_of(found), expected(KEYS))
    (copy,) = copies(disk)
    assert copy.name == Path(found.path).name
    for shard in remote.glob("shards/*"):
        shard.unlink()
    assert np.array_equal(rows_of(found), expected(KEYS))  # nothing is fetched twice


def test_another_machine_fetches_what_it_lacks_and_makes_nothing(
    remote: RemotePath, machine: Any
) -> None:
    cached_rows(remote, SCHEMA, KEYS[:3], Maker())
    machine("two")
    maker = Maker()
    cached_rows(remote, SCHEMA, KEYS[2:], maker)
    assert maker.made == KEYS[3:]
    machine("three")
    assert np.array_equal(rows_of(cached_rows(remote, SCHEMA, KEYS, never)), expected(KEYS))


def test_two_machines_at_once_lose_nothing(remote: RemotePath, machine: Any) -> None:
    """Each makes what the other has not yet written."""

    def while_another_makes(missing: Sequence[tuple[str, int]]) -> Iterator[np.ndarray]:
        here = tempfile.gettempdir()
        machine("two")
        cached_rows(remote, SCHEMA, KEYS[3:], Maker())
        tempfile.tempdir = here
        return Maker()(missing)

    found = cached_rows(remote, SCHEMA, KEYS[:5], while_another_makes)
    assert np.array_equal(rows_of(found), expected(KEYS[:5]))
    machine("three")
    assert np.array_equal(rows_of(cached_rows(remote, SCHEMA, KEYS, never)), expected(KEYS))


def test_a_shard_whose_index_was_never_written_does_not_count(remote: RemotePath) -> None:
    cached_rows(remote, SCHEMA, KEYS[:2], Maker())
    (index,) = remote.glob("shards/*.parquet")
    index.unlink()
    maker = Maker()
    assert np.array_equal(rows_of(cached_rows(remote, SCHEMA, KEYS[:2], maker)), expected(KEYS[:2]))
    assert maker.made == KEYS[:2]


@pytest.mark.parametrize("ending", ["rows", "parquet"])
def test_damage_is_named(ending: str, remote: RemotePath, machine: Any) -> None:
    cached_rows(remote, SCHEMA, KEYS[:2], Maker())
    (file,) = remote.glob(f"shards/*.{ending}")
    content = bytearray(file.read_bytes())
    content[1] ^= 255
    if ending == "parquet":
        del content[-20:]
    file.write_bytes(bytes(content))
    disk = machine("two")
    with pytest.raises(UserError, match=rf"{ending}.*: damaged.*; delete its? ?\w* to compute"):
        cached_rows(remote, SCHEMA, KEYS[:2], never)
    assert copies(disk) == []


def test_rows_that_are_gone_are_never_read_as_zeros(remote: RemotePath, machine: Any) -> None:
    found = cached_rows(remote, SCHEMA, KEYS, Maker())
    next(iter(remote.glob("shards/*.parquet"))).unlink()
    disk = machine("two")
    with pytest.raises(UserError, match=r"kept.*: [12] of 7 rows are gone"):
        rows_of(found)
    assert copies(disk) == []


def test_a_lost_copy_is_made_again(remote: RemotePath, machine: Any) -> None:
    disk = machine("two")
    found = cached_rows(remote, SCHEMA, KEYS, Maker())
    shutil.rmtree(next(disk.glob("sign_ensemble-*")))
    assert np.array_equal(rows_of(found), expected(KEYS))

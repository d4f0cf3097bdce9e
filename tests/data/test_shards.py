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
from sign_ensemble.core.storage import Place, Remote, place
from sign_ensemble.data import row_cache
from sign_ensemble.data.row_cache import Kind, Slots, slots_of

if TYPE_CHECKING:
    from tests.conftest import S3

KIND = Kind("rows.u8", (2, 3), "uint8", {"size": 3})
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
def folder(request: pytest.FixtureRequest, tmp_path: Path, machine: Any) -> Place:
    """Where rows are kept."""
    if request.param == "local":
        return tmp_path / "kept"
    return place(request.getfixturevalue("s3").uri) / "kept"


@pytest.fixture
def remote(s3: S3, machine: Any) -> Remote:
    """Where rows are kept, on the object store."""
    found = place(s3.uri) / "kept"
    assert isinstance(found, Remote)
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


def rows_of(found: Slots) -> np.ndarray:
    path = found.path if found.copy is None else found.copy.file()
    return np.memmap(path, np.uint8, "r").reshape(-1, 2, 3)[found.slots_N]


def expected(keys: Sequence[str]) -> np.ndarray:
    return np.stack([row(key) for key in keys])


def copies(disk: Path) -> list[Path]:
    return list(disk.glob("sign_ensemble-*/*rows.u8"))


def test_rows_are_made_once_and_answered_in_order(folder: Place) -> None:
    done: list[tuple[int, int]] = []
    asked = [KEYS[5], KEYS[0], KEYS[5]]
    found = slots_of(folder, KIND, asked, Maker(), lambda n, of: done.append((n, of)))
    assert np.array_equal(rows_of(found), expected(asked))
    assert done == [(1, 2), (2, 2)]
    maker = Maker()
    found = slots_of(folder, KIND, KEYS, maker)
    assert maker.made == [key for key in KEYS if key not in asked]
    assert np.array_equal(rows_of(found), expected(KEYS))
    assert np.array_equal(rows_of(slots_of(folder, KIND, KEYS[::-1], never)), expected(KEYS[::-1]))
    assert np.array_equal(rows_of(slots_of(folder, KIND, asked, never)), expected(asked))


def test_an_interrupted_making_keeps_what_was_committed(folder: Place) -> None:
    with pytest.raises(KeyboardInterrupt):
        slots_of(folder, KIND, KEYS, Maker(breaks_after=5))
    maker = Maker()
    found = slots_of(folder, KIND, KEYS, maker)
    assert maker.made == KEYS[4:]
    assert np.array_equal(rows_of(found), expected(KEYS))


def test_another_machine_makes_its_copy_from_the_record_alone(remote: Remote, machine: Any) -> None:
    sent = pickle.dumps(slots_of(remote, KIND, KEYS, Maker()))
    disk = machine("two")
    found: Slots = pickle.loads(sent)
    assert np.array_equal(rows_of(found), expected(KEYS))
    (copy,) = copies(disk)
    assert copy.name == Path(found.path).name
    for shard in remote.glob("shards/*"):
        shard.unlink()
    assert np.array_equal(rows_of(found), expected(KEYS))  # nothing is fetched twice


def test_another_machine_fetches_what_it_lacks_and_makes_nothing(
    remote: Remote, machine: Any
) -> None:
    slots_of(remote, KIND, KEYS[:3], Maker())
    machine("two")
    maker = Maker()
    slots_of(remote, KIND, KEYS[2:], maker)
    assert maker.made == KEYS[3:]
    machine("three")
    assert np.array_equal(rows_of(slots_of(remote, KIND, KEYS, never)), expected(KEYS))


def test_two_machines_at_once_lose_nothing(remote: Remote, machine: Any) -> None:
    """Each makes what the other has not yet written."""

    def while_another_makes(missing: Sequence[tuple[str, int]]) -> Iterator[np.ndarray]:
        here = tempfile.gettempdir()
        machine("two")
        slots_of(remote, KIND, KEYS[3:], Maker())
        tempfile.tempdir = here
        return Maker()(missing)

    found = slots_of(remote, KIND, KEYS[:5], while_another_makes)
    assert np.array_equal(rows_of(found), expected(KEYS[:5]))
    machine("three")
    assert np.array_equal(rows_of(slots_of(remote, KIND, KEYS, never)), expected(KEYS))


def test_a_shard_whose_index_was_never_written_does_not_count(remote: Remote) -> None:
    slots_of(remote, KIND, KEYS[:2], Maker())
    (index,) = remote.glob("shards/*.parquet")
    index.unlink()
    maker = Maker()
    assert np.array_equal(rows_of(slots_of(remote, KIND, KEYS[:2], maker)), expected(KEYS[:2]))
    assert maker.made == KEYS[:2]


@pytest.mark.parametrize("ending", ["rows", "parquet"])
def test_damage_is_named(ending: str, remote: Remote, machine: Any) -> None:
    slots_of(remote, KIND, KEYS[:2], Maker())
    (file,) = remote.glob(f"shards/*.{ending}")
    content = bytearray(file.read_bytes())
    content[1] ^= 255
    if ending == "parquet":
        del content[-20:]
    file.write_bytes(bytes(content))
    disk = machine("two")
    with pytest.raises(UserError, match=rf"{ending}.*: damaged.*; delete its? ?\w* to compute"):
        slots_of(remote, KIND, KEYS[:2], never)
    assert copies(disk) == []


def test_rows_that_are_gone_are_never_read_as_zeros(remote: Remote, machine: Any) -> None:
    found = slots_of(remote, KIND, KEYS, Maker())
    next(iter(remote.glob("shards/*.parquet"))).unlink()
    disk = machine("two")
    with pytest.raises(UserError, match=r"kept.*: [12] of 7 rows are gone"):
        rows_of(found)
    assert copies(disk) == []


def test_a_lost_copy_is_made_again(remote: Remote, machine: Any) -> None:
    disk = machine("two")
    found = slots_of(remote, KIND, KEYS, Maker())
    shutil.rmtree(next(disk.glob("sign_ensemble-*")))
    assert np.array_equal(rows_of(found), expected(KEYS))

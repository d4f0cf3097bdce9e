"""A folder is complete or not there, and what killed processes left is removed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.atomic_folders import atomic_folder
from sign_ensemble.core.errors import UserError


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_it_appears_when_the_block_succeeds(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new" / "out") as folder:
        (folder / "one").write_text("1")
        assert not (tmp_path / "new" / "out").exists()
    assert listing(tmp_path) == ["new", "new/out", "new/out/one"]


@pytest.mark.parametrize("before", [[], ["old"]])
def test_what_was_there_stays_until_then(tmp_path: Path, before: list[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in before:
        (out / name).write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(out) as folder:
        _ = (folder / "half").write_text("") / 0
    assert listing(tmp_path) == ["out", *(f"out/{name}" for name in before)]
    with atomic_folder(out) as folder:
        (folder / "new").write_text("")
        assert listing(out) == before
    assert listing(tmp_path) == ["out", "out/new"]


KILLED = """
import os, signal
from pathlib import Path
from sign_ensemble.core.atomic_folders import atomic_folder

with atomic_folder(Path("out")) as folder:
    (folder / "below").mkdir()
    (folder / "below" / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment)
    assert listing(tmp_path) == [".out.partial", ".out.partial/below", ".out.partial/below/half"]
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "new").write_text("")
    assert listing(tmp_path) == ["out", "out/new"]


def test_two_do_not_write_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with atomic_folder(out) as folder:
        (folder / "first").write_text("")
        with (
            pytest.raises(UserError, match="is being written by another command"),
            atomic_folder(out),
        ):
            pass
    assert listing(tmp_path) == ["out", "out/first"]


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "new").write_text("")
    assert listing(tmp_path) == ["out", "out/new"]


def test_faults_name_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="file/out: cannot be written"),
        atomic_folder(tmp_path / "file" / "out"),
    ):
        pass
    out = tmp_path / "out"
    with pytest.raises(UserError) as raised, atomic_folder(out):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(raised.value).startswith(f"{out}: cannot be written (No space left on device; free")
    with pytest.raises(UserError) as raised, atomic_folder(out) as folder:
        write_json(folder / f"{'x' * 300}.json", 1)
    assert re.match(rf"{out}/x+.json: cannot be written \(File name too long\)", str(raised.value))
    with pytest.raises(FileNotFoundError), atomic_folder(out):
        Path("/no/such/file").read_text()
    assert listing(tmp_path) == ["file"]


def test_an_earlier_folder_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "out", os.replace
    out.mkdir()
    (out / "old").write_text("")

    def fail(source: Path, to: Path) -> None:
        if source.name == ".out.partial":
            raise OSError(errno.EIO, "Input/output error", str(source))
        replace(source, to)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="Input/output error"), atomic_folder(out) as folder:
        (folder / "new").write_text("")
    assert listing(tmp_path) == ["out", "out/old"]

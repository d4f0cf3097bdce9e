"""One command at a time works on a run; one that was killed blocks nobody."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sign_ensemble.core import run_lock
from sign_ensemble.core.config import Config, DataConfig, RunConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder, open_run
from sign_ensemble.core.run_lock import locked
from sign_ensemble.core.storage import storage_path

if TYPE_CHECKING:
    from tests.conftest import S3

IN_USE = re.compile(
    r"\S+ is in use by [\w.-]+ of \S+ on \S+, process \d+, since \d{4}-\d\d-\d\d [\d:]{8}\S+: wait "
    r"for its end, or give another run\.name"
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "one").mkdir()
    return RunFolder(tmp_path / "one")


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without locks; leases are short."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    brief(monkeypatch)


def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RENEW", 0.05), ("LOST", 1.0), ("SETTLE", 0.1)):
        monkeypatch.setattr(run_lock, f"{name}_SECONDS", seconds)


def refusal(run: RunFolder) -> str:
    with pytest.raises(UserError) as mistake, locked(run):
        pass
    assert IN_USE.fullmatch(str(mistake.value))
    return str(mistake.value)


def test_the_second_is_refused_by_the_firsts_name(run: RunFolder) -> None:
    with locked(run):
        by = run.lock.read_text()
        assert f"process {os.getpid()}, since " in by
        assert refusal(run).startswith(f"{run.path} is in use by {by}: ")
        (Path(str(run.path)) / "kept").touch()
    with locked(run):
        pass
    assert [path.name for path in run.path.glob("*")] == ["kept"]


def test_an_empty_folder_is_removed(run: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError), locked(run):
        raise ZeroDivisionError
    assert not run.path.exists()


def test_a_folder_that_cannot_be_written_needs_no_lock(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with locked(run), locked(run):
        assert list(run.path.glob("*")) == []
    assert run.path.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.run_lock import locked
with locked(RunFolder(Path(sys.argv[1]))):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_an_owner(run: RunFolder) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(run.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert IN_USE.fullmatch(str(run_lock.in_use(run.lock, run.lock.read_text())))


def test_a_killed_commands_lock_does_not_block(run: RunFolder) -> None:
    kill_an_owner(run)
    with locked(run):
        refusal(run)


def test_children_do_not_inherit_the_lock(run: RunFolder) -> None:
    """A process of Ray may outlive its command."""
    with locked(run):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        run.path.mkdir()
        with locked(run):
            pass
    finally:
        child.communicate(b"\n")


def test_without_flock_a_lease_is_held(
    run: RunFolder, no_flock: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(run):
        time.sleep(0.2)
        refusal(run)
    assert re.fullmatch(
        rf"{run.path} was in use by \S+ of .*: 1 s show whether it still is\n",
        capsys.readouterr().out,
    )
    assert not run.path.exists()


def test_a_killed_commands_lease_is_taken_over(run: RunFolder, no_flock: None) -> None:
    kill_an_owner(run)
    with locked(run):
        refusal(run)


def test_of_two_that_begin_at_once_one_has_the_lease(
    run: RunFolder, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = run_lock._write

    def other_writes_too(file: Any, text: str) -> None:
        written(file, text)
        written(file, text.replace("process ", "process 1", 1))

    monkeypatch.setattr(run_lock, "_write", other_writes_too)
    refusal(run)


def test_a_run_on_an_object_store_is_leased(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    brief(monkeypatch)
    run = RunFolder(storage_path(s3.uri) / "runs" / "one")
    with locked(run):
        refusal(run)
    with locked(run):
        pass
    assert list(run.path.glob("*")) == []


def evaluate(config: Config) -> None:
    from sign_ensemble.evaluate import main

    main(["--run", str(open_run(config).path), "--wandb.mode=disabled"])


def report(config: Config) -> None:
    from sign_ensemble.report.__main__ import main

    main(["--run", str(open_run(config).path)])


def tune(config: Config) -> None:
    from sign_ensemble.pipeline import jobs

    jobs.tune(config)


def train(config: Config) -> None:
    from sign_ensemble.pipeline import jobs

    jobs.train(config)


@pytest.mark.parametrize("command", [tune, train, evaluate, report])
def test_every_command_that_writes_into_a_run_is_refused(
    command: Callable[[Config], None], run: RunFolder
) -> None:
    root = str(run.path.parent)
    config = Config(data=DataConfig(root=root), run=RunConfig(root, "one"))
    open_run(config)
    before = run.config.read_text()
    with locked(run):
        with pytest.raises(UserError) as mistake:
            command(config)
        assert IN_USE.fullmatch(str(mistake.value))
        assert run.config.read_text() == before

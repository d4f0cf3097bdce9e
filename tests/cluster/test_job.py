"""cluster/local: a head started by head.sh, and the main job submitted to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

import sign_ensemble

SOURCE = Path(sign_ensemble.__file__).parents[1]
SLOW = 480  # seconds; all of this file takes a tenth of it on two quiet cores
TRIALS = 24  # `ray job stop` takes a second to start, in which a dozen may end


def wait_for(holds: Callable[[], Any], seconds: float) -> bool:
    """Whether the condition became true in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def free_ports(count: int) -> list[int]:
    """Unused ports of the loopback address."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def below(root: int) -> dict[int, str]:
    """Living descendants of a process: id → command."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    found = {root: ""}
    while True:
        more = {
            int(pid): args
            for pid, parent, stat, args in rows
            if int(parent) in found and int(pid) not in found and "Z" not in stat
        }
        if not more:
            return found
        found.update(more)


@dataclass(frozen=True)
class Head:
    """A Ray head of this test, and what its clients need to find it."""

    process: int
    address: str
    environment: dict[str, str]
    checkout: Path

    def job(self, *arguments: str, environment: dict[str, str] | None = None) -> Any:
        """Run `ray job ...` to its end; the output is in ``stdout``."""
        return subprocess.run(
            ["ray", "job", *arguments],
            env=environment or self.environment,
            cwd=self.checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SLOW,
            check=False,
        )

    def trials(self) -> list[str]:
        """Commands of the workers that run trials."""
        return [args for args in below(self.process).values() if args.startswith("ray::Implicit")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, signs_folder: Path) -> Path:
    """A copy of the project, with images and runs in it that must not be uploaded."""
    folder = tmp_path_factory.mktemp("checkout")
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("sign_ensemble", "configs"):
        shutil.copytree(SOURCE / name, folder / name, ignore=skip)
    for name in (".gitignore", ".rayignore", "README.md"):
        shutil.copy(SOURCE / name, folder / name)
    shutil.copytree(signs_folder, folder / "photos")
    for name in ("runs", "data", ".git"):
        (folder / name).mkdir()
        (folder / name / "large").write_text("not for the cluster")
    return folder


@pytest.fixture(scope="module")
def head(checkout: Path) -> Iterator[Head]:
    """`ray start --head` with token authentication, on unused ports."""
    home = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets' paths have a limit
    dashboard, agent, client = free_ports(3)
    address = f"http://127.0.0.1:{dashboard}"
    left_out = ("RAY_ADDRESS", "RAY_AUTH_", "PYTHONPATH")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(left_out)},
        "HOME": str(home),  # where the token is created
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_API_SERVER_ADDRESS": address,
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        str(SOURCE / "cluster/local/head.sh"), "--block", "--num-cpus=2", "--port=0",
        f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
        "--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={home}",
    ]  # fmt: skip
    with (home / "out.txt").open("w") as out:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert wait_for(lambda: status_of(address) == 401, 60), (home / "out.txt").read_text()
        yield Head(process.pid, address, environment, checkout)
    finally:
        own_processes = below(process.pid)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in own_processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def status_of(address: str) -> int:
    """HTTP status of a request without a token; 0 without an answer."""
    try:
        with urlopen(f"{address}/api/jobs/", timeout=5) as answer:
            return int(answer.status)
    except HTTPError as refused:
        return refused.code
    except (URLError, OSError):
        return 0


def main_job(home: Path, images: str) -> list[str]:
    """A small search on the drawn shapes."""
    given = {
        "data.root": images, "data.test_signers": "[dan]", "data.near_labels": "[wave]",
        "data.augmentations": 1, "data.size": 96, "data.crop": "none", "member.widths": "[16, 8]",
        "member.epochs": 2,
        "search.trials": TRIALS, "search.epochs": "[2, 3]", "search.h1": "[16, 32]",
        "search.h2": "[8, 16]", "ensemble.size": 2, "finetune.layers": "none",
        "rejection.reference_images": 100, "evaluate.images": 10,
        "evaluate.bootstrap": 20, "run.root": home, "run.name": "job", "wandb.mode": "disabled",
    }  # fmt: skip
    settings = [f"--{key}={value}" for key, value in given.items()]
    return ["--working-dir", ".", "--", "python", "-m", "sign_ensemble.tune", *settings]


def records(run: Path) -> dict[str, str]:
    """The records of ended trials, as written."""
    return {path.parent.name: path.read_text() for path in run.glob("trials/*/trial.json")}


@pytest.mark.timeout(SLOW)
def test_a_client_without_the_token_is_refused(head: Head, tmp_path: Path) -> None:
    without = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")}
    without["HOME"] = str(tmp_path)  # where a token might lie
    for environment in (without, {**head.environment, "RAY_AUTH_TOKEN": "0" * 64}):
        refused = head.job("list", environment=environment)
        assert refused.returncode != 0
        assert "AuthenticationError" in refused.stdout
    assert head.job("list").returncode == 0


@pytest.mark.timeout(SLOW)
def test_a_relative_path_is_refused(head: Head, tmp_path: Path) -> None:
    """It would be relative to the uploaded copy. Also checks what that copy contains."""
    refused = head.job("submit", *main_job(tmp_path, "photos"))
    assert refused.returncode != 0
    assert "error: data.root is photos: in a Ray job it must be a path from /" in refused.stdout
    sent = Path(head.environment["HOME"]).glob(
        "session_*/runtime_resources/working_dir_files/_ray_pkg_*/*"
    )
    assert {path.name for path in sent} == {"sign_ensemble", "configs"}


@pytest.mark.long
@pytest.mark.timeout(2 * SLOW)
def test_a_stopped_job_continues_when_submitted_again(
    head: Head, tmp_path: Path, signs_folder: Path
) -> None:
    run = tmp_path / "job"
    command = main_job(tmp_path, str(signs_folder))
    submitted = head.job("submit", "--no-wait", "--submission-id", "first", *command)
    assert submitted.returncode == 0, submitted.stdout
    assert wait_for(lambda: records(run), SLOW), head.job("logs", "first").stdout
    assert head.trials()
    assert "was stopped" in head.job("stop", "first").stdout
    kept = records(run)
    assert 1 <= len(kept) < TRIALS
    assert wait_for(lambda: not head.trials(), 20), "a trial outlives its job"
    log = head.job("logs", "first").stdout
    assert log.endswith("interrupted: finished work is kept; the same command continues\n")
    assert "Traceback" not in log and "SIGTERM" not in log

    lines = []
    with subprocess.Popen(
        ["ray", "job", "submit", *command],
        env=head.environment,
        cwd=head.checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as again:
        assert again.stdout
        for line in again.stdout:
            lines.append(line)
            if "trials are kept from before" in line:  # it streams: not all is done yet
                assert len(records(run)) < TRIALS
    assert again.returncode == 0, "".join(lines)
    assert any(f"{len(kept)} trials are kept from before" in line for line in lines)
    assert any(line.startswith(f"metrics: {run / 'metrics.json'}") for line in lines)
    assert "succeeded" in "".join(lines[-4:])
    now = records(run)
    assert len(now) == TRIALS
    assert {name: now[name] for name in kept} == kept
    assert json.loads((run / "metrics.json").read_text())["evaluations"] == 1

"""Commands of the package as processes, each with a Ray of its own, and their sudden ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sign_ensemble

SOURCE = Path(sign_ensemble.__file__).parents[1]  # the package need not be installed
SLOW = 600  # seconds: the longest shared run takes two minutes on two quiet cores
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tab and line break


def cluster_of_a_head() -> Any:
    """A ``ray.cluster_utils.Cluster`` with a head that runs no trials.

    Its dashboard has a port of its own: where the usual one is taken, Ray leaves a socket open.
    """
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "dashboard_port": port})


def processes_of(session: int) -> list[int]:
    """Living processes of a session: a command started in a new one and all that Ray adds."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,sid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, sid, stat in rows if int(sid) == session and "Z" not in stat]


def process(name: str, of: str, number: int) -> int:
    """The process whose command line begins so and whose parent ("ppid") or session ("sid") has
    that number, 0 if there is none.
    """
    listed = subprocess.run(
        ["ps", "-eo", f"pid=,{of}=,args="], capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        pid, other, args = line.split(maxsplit=2)
        if int(other) == number and args.startswith(name):
            return int(pid)
    return 0


def process_on(node: Any, name: str) -> int:
    """The process of a trial or worker that runs on a node of the cluster, 0 if there is none."""
    return process(name, "ppid", node.all_processes["raylet"][0].process.pid)


def wait_for(holds: Callable[[], Any], seconds: float) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Command:
    """A command of the package in a session of its own, as from a terminal that can be closed."""

    def __init__(self, name: str, *arguments: str, folder: Path, before: str = "") -> None:
        """With ``before``, lines that this process alone runs first."""
        module = f"sign_ensemble.{name}"
        line = f"{before}\nimport runpy\nrunpy.run_module({module!r}, None, '__main__')"
        how = ["-c", line] if before else ["-m", module]
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *how, *arguments],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "WANDB_MODE": "disabled", "PYTHONPATH": str(SOURCE)},
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """What it printed."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Its complaints."""
        return self._err.read_text()

    def ended(self) -> int:
        """Its exit code; nothing that it started is left."""
        code = self.process.wait(SLOW)
        assert wait_for(lambda: not processes_of(self.process.pid), 20), "Ray was left behind"
        return code

    def close(self) -> None:
        """End whatever is left of it."""
        for pid in processes_of(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert wait_for(lambda: not processes_of(self.process.pid), 20)


def finish(command: Command) -> str:
    """What a command that must end well has printed."""
    assert command.ended() == 0, command.out + command.err
    assert command.err == ""
    assert "Traceback" not in command.out
    assert not CONTROL.search(command.out + command.err)
    return command.out


def killed(command: Command, when: Callable[[], bool]) -> None:
    """Let the driver die without warning, and then all that it leaves behind."""
    assert wait_for(lambda: when() or command.process.poll() is not None, SLOW)
    assert command.process.poll() is None, command.out + command.err
    os.kill(command.process.pid, signal.SIGKILL)
    command.close()

"""Rays that cannot be used are named within seconds; one that was only found stops nobody."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sign_ensemble.core import ray_cluster, running_ray
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.ray_folder import MOST
from sign_ensemble.core.running_ray import why_other_versions, why_unusable

VERSIONS = {"ray_version": "2.9.3", "python_version": "3.10.4"}


@contextmanager
def listening(answers: bool) -> Iterator[str]:
    """The address of a server of HTTP, or of a socket that says nothing."""
    if not answers:
        with socket.create_server(("", 0)) as silent:
            yield f"localhost:{silent.getsockname()[1]}"
        return

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"localhost:{server.server_port}"
        server.shutdown()


@contextmanager
def head_of(versions: dict[str, str]) -> Iterator[str]:
    """The address of what answers as a Ray head of these versions."""
    import grpc
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated import gcs_service_pb2_grpc as services

    class Kept(services.InternalKVGcsServiceServicer):
        def InternalKVGet(self, request: Any, context: Any) -> Any:
            return messages.InternalKVGetReply(value=json.dumps(versions).encode())

    server = grpc.server(ThreadPoolExecutor(1))
    services.add_InternalKVGcsServiceServicer_to_server(Kept(), server)
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(0.1).wait()


def closed_address() -> str:
    with socket.create_server(("", 0)) as free:
        return f"localhost:{free.getsockname()[1]}"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a command says of a RAY_ADDRESS that it cannot use."""

    def given(address: str) -> str:
        monkeypatch.setenv("RAY_ADDRESS", address)
        began = time.monotonic()
        with pytest.raises(UserError) as mistake:
            ray_cluster.join_running_ray()
        assert time.monotonic() - began < running_ray.ANSWER_SECONDS + 5
        words = str(mistake.value)
        start, end = f"RAY_ADDRESS is {address}: ", "; unset it or set it to local for a Ray of"
        assert words.startswith(start) and end in words and "\n" not in words
        return words.removeprefix(start).partition(end)[0]

    return given


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://10.0.0.1:10001", "Ray Client and job addresses cannot be joined; .* job submit`"),
        ("http://127.0.0.1:8265", "Ray Client and job addresses cannot be joined; .* job submit`"),
        ("10.0.0.1", "the address is host:port as `ray start --head` prints it, .*"),
        ("10.0.0.1:", "the address is host:port .*"),
        ("10.0.0.1:99999", "the address is host:port .*"),
        (":6379", "the address is host:port .*"),
        ("two words:6379", "the address is host:port .*"),
        ("nobody.invalid:6379", "there is no such host"),
    ],
)
def test_an_address_of_no_ray_is_refused(address: str, words: str, refused: Any) -> None:
    assert re.fullmatch(words, refused(address))


def test_a_dead_or_other_server_is_refused_within_seconds(
    refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_ray, "ANSWER_SECONDS", 1.0)
    assert refused(closed_address()) == "nothing listens there"
    with listening(answers=False) as address:
        assert refused(address).startswith("nothing answers there within")
    with listening(answers=True) as address:
        assert refused(address).startswith("what answers there is no Ray head; the address is")


def test_other_versions_are_named(refused: Any) -> None:
    import platform

    import ray

    here = f"Ray {ray.__version__} on Python {platform.python_version()}"
    with head_of(VERSIONS) as address:
        assert refused(address) == (
            f"it is Ray 2.9.3 on Python 3.10.4, this environment has {here}, and they must be the "
            "same"
        )
    same = {"ray_version": ray.__version__, "python_version": platform.python_version()}
    with head_of(same) as address:
        assert why_unusable(address) == ""
    assert why_other_versions({}) == ""  # a Ray that does not say: ray.init decides


def test_what_was_only_found_is_named_and_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(running_ray, "use_token_of_this_machine", lambda: None)
    with head_of(VERSIONS) as other:
        dead = closed_address()
        monkeypatch.setattr(running_ray, "found_addresses", lambda: [dead, other])
        assert not ray_cluster.join_running_ray()
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"the Ray found at {dead} is not used: nothing listens there"
        assert second.startswith(f"the Ray found at {other} is not used: it is Ray 2.9.3 on Python")
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        with pytest.raises(UserError, match="RAY_ADDRESS is auto: no Ray that can be used runs"):
            ray_cluster.join_running_ray()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"10.0.0.1:6379\n"])
def test_a_left_address_is_found(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_bytes(content)
    found = running_ray.found_addresses()
    assert ("10.0.0.1:6379" in found) == (content != b"" and content[0] != 0xFF)
    assert "" not in found


WITH_A_DEAD_HEAD = """
from ray._private import services
services.find_gcs_addresses = lambda: frozenset()  # whatever runs on this machine
services.find_gcs_addresses.cache_clear = lambda: None
import ray
from sign_ensemble.core.ray_cluster import connected_ray, ALONE
with connected_ray():
    assert ALONE in ray.cluster_resources()
    print(ray._private.worker._global_node.temp_dir)
"""


def test_a_dead_heads_address_and_a_long_path_do_not_stop_a_command(tmp_path: Path) -> None:
    """The head was killed, so its address stayed; and Ray's sockets do not fit below TMPDIR."""
    below = tmp_path / ("x" * 120)
    (below / "ray").mkdir(parents=True)
    dead = closed_address()
    (below / "ray" / "ray_current_cluster").write_text(dead)
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_DEAD_HEAD],
        env={**kept, "TMPDIR": str(below), "RAY_NUM_CPUS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 60
    found, folder, used = done.stdout.splitlines()
    assert found == f"the Ray found at {dead} is not used: nothing listens there"
    assert folder == (
        f"Ray's files are in {used}, since {below}/ray cannot be used: its path is longer than "
        f"{MOST} bytes, which Ray's sockets leave"
    )
    assert used == f"/tmp/ray-{os.getuid()}"

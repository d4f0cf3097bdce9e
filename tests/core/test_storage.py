"""Storage paths: local ones, and objects on an S3 server that the tests start."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sign_ensemble.core import storage
from sign_ensemble.core.atomic_files import (
    atomic_write,
    file_sha256,
    local_copy_of,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from sign_ensemble.core.config import Config, DataConfig, RunConfig
from sign_ensemble.core.config_checks import check, check_job_paths
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder, load_config, open_run
from sign_ensemble.core.storage import RemotePath, StorageError, StoragePath, storage_path

if TYPE_CHECKING:
    from tests.conftest import S3


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    """A folder that is empty."""
    if request.param == "local":
        return tmp_path / "runs"
    return storage_path(request.getfixturevalue("s3").uri) / "some" / "runs"


def names(folder: StoragePath, pattern: str = "*") -> list[str]:
    return sorted(each.name for each in folder.glob(pattern))


# --- what a user may type -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs", Path("runs")),
        ("/shared/runs", Path("/shared/runs")),
        ("C:odd name", Path("C:odd name")),
        ("file:///shared/my%20runs", Path("/shared/my runs")),
        ("file://localhost/shared", Path("/shared")),
        ("s3://b", RemotePath("s3://b")),
        ("s3://b/", RemotePath("s3://b")),
        ("s3://b/a/c/", RemotePath("s3://b", "a/c")),
        ("gs://b/a", RemotePath("gs://b", "a")),
        ("s3://b/a?region=eu-west-1", RemotePath("s3://b", "a", "region=eu-west-1")),
        ("abfs://box@account.example/a", RemotePath("abfs://box@account.example", "a")),
    ],
)
def test_a_typed_path_is_parsed_and_shown_again(text: str, expected: StoragePath) -> None:
    found = storage_path(text)
    assert found == expected
    assert storage_path(str(found)) == found
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    "text",
    ["s3:/b/a", "s3:b/a", "s3:///a", "s3://", "ftp://b/a", "http://b/a", "file://host/a",
     "s3://b/a/../c", "s3://b/a//c", "s3://b/a#c", "s3://[b/a"],
)  # fmt: skip
def test_an_unusable_uri_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"run\.storage is .*: (it|its parts) must be"):
        check(Config(run=RunConfig(storage=text)))
    with pytest.raises(UserError, match=r"data\.cache is .*: (it|its parts) must be"):
        check(Config(data=DataConfig(cache=text)))


def test_keys_in_a_uri_are_refused_and_not_shown() -> None:
    for text in ("s3://me:secret@b/a", "s3://me@b/a", "gs://me:secret@b/a"):
        with pytest.raises(UserError, match=r"names a key .*environment") as refused:
            check(Config(run=RunConfig(storage=text)))
        assert "secret" not in str(refused.value)


def test_a_uri_is_no_relative_path_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    check_job_paths(
        Config(
            data=DataConfig(root="/photos", cache="s3://b/features"),
            run=RunConfig(root="/runs", storage="s3://b/a"),
        )
    )
    with pytest.raises(UserError, match=r"run\.storage is here: in a Ray job it must be a path"):
        check_job_paths(Config(run=RunConfig(root="/runs", storage="here")))


def test_parts_of_a_name() -> None:
    root = RemotePath("s3://b", query="region=x")
    file = root / "runs" / "one/rule.json"
    assert str(file) == "s3://b/runs/one/rule.json?region=x"
    assert file.name == "rule.json"
    assert file.with_suffix(".safetensors") == root / "runs/one/rule.safetensors"
    assert file.parent == root / "runs/one"
    assert (root / "runs").parent == root
    assert file.resolve() == file


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_written_read_and_deleted(folder: StoragePath) -> None:
    file = folder / "a.txt"
    assert not file.exists() and not file.is_file() and not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    for content in (b"first", b"", b"x" * 20_000_000):  # the last one in several parts
        file.write_bytes(content)
        assert file.read_bytes() == content
    assert file.exists() and file.is_file()
    assert folder.is_dir() and not folder.is_file()
    assert names(folder) == ["a.txt"]
    with pytest.raises(OSError, match="not empty"):
        folder.rmdir()
    file.unlink()
    assert not file.exists()
    file.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        file.unlink()
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    folder.rmdir()
    assert not folder.exists()
    assert names(folder.parent) == []


def test_a_pattern_never_crosses_a_slash(folder: StoragePath) -> None:
    for name in ("t/0001/trial.json", "t/0000/trial.json", "t/0000/fold-0", "t/x/y/trial.json"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    found: list[StoragePath] = sorted(folder.glob("t/*/trial.json"), key=str)
    assert [file.parent.name for file in found] == ["0000", "0001"]
    assert all(file.is_file() for file in found)
    assert names(folder / "t") == ["0000", "0001", "x"]
    assert names(folder / "t", "000*") == ["0000", "0001"]
    assert names(folder / "nowhere") == []


def test_many_files_are_all_listed(s3: S3) -> None:
    """More than a page of S3 holds, which is a thousand."""
    folder = storage_path(s3.uri) / "many"
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: (folder / f"{n:04d}").write_bytes(b""), range(1003)))
    assert names(folder) == [f"{n:04d}" for n in range(1003)]


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failed_write_leaves_what_was(before: bytes | None, folder: StoragePath) -> None:
    file = folder / "a.txt"
    if before:
        folder.mkdir(parents=True)
        file.write_bytes(before)

    def write_half() -> None:
        with atomic_write(file) as temporary:
            temporary.write_bytes(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert names(folder) == (["a.txt"] if before else [])
    if before:
        assert file.read_bytes() == before
    with atomic_write(file) as temporary:
        temporary.write_bytes(b"new")
        assert not file.exists() if before is None else file.read_bytes() == before
    assert file.read_bytes() == b"new"


KILLED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job may ignore it
from sign_ensemble.core import storage
put = storage._put
def half(files, key, content):
    opened = files.open_output_stream(key)
    opened.write(content[: len(content) // 2])
    os.kill(os.getpid(), signal.{signal})
    opened.write(content[len(content) // 2 :])
    opened.close()
storage._put = half
storage.storage_path(sys.argv[1]).write_bytes(b"new" * 10_000_000)
"""


@pytest.mark.parametrize(("number", "expected"), [("SIGKILL", b"old"), ("SIGINT", b"new")])
def test_a_process_that_ends_while_it_writes_leaves_all_or_nothing(
    s3: S3, number: str, expected: bytes
) -> None:
    file = storage_path(s3.uri) / "a.txt"
    file.write_bytes(b"old")
    code = KILLED.format(signal=number)
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False)
    assert done.returncode in (-signal.Signals[number], 1, 130), done.stderr.decode()
    assert file.read_bytes()[:3] == expected
    assert len(file.read_bytes()) in (3, 30_000_000)


def test_json_and_arrays_come_back(folder: StoragePath) -> None:
    value = {"a": [0.1 + 0.2, None, "ß"]}
    write_json(folder / "a.json", value)
    assert read_json(folder / "a.json") == value
    arrays: dict[str, Any] = {"x": np.arange(6, dtype=np.float16).reshape(2, 3)}
    sha256 = write_arrays(folder / "a.safetensors", arrays, {"n": 1})
    found, header = read_arrays(folder / "a.safetensors")
    assert np.array_equal(found["x"], arrays["x"]) and found["x"].flags.writeable
    assert header == {"n": 1}
    assert file_sha256(folder / "a.safetensors") == sha256
    for read in (read_json, read_arrays):
        with pytest.raises(UserError, match=r"nothing.*: not there"):
            read(folder / "nothing")
    (folder / "a.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match=r"a\.safetensors.*: damaged"):
        read_arrays(folder / "a.safetensors")


def test_a_local_copy_of_a_folder_holds_its_files(folder: StoragePath) -> None:
    for name in ("one", "two"):
        write_json(folder / name, name)
    with local_copy_of(folder) as here:
        assert sorted(path.name for path in here.iterdir()) == ["one", "two"]
        assert (here / "two").read_text() == '"two"\n'
    assert here.exists() == isinstance(folder, Path)


# --- a run's folder -------------------------------------------------------------------------------


def test_a_run_is_opened_again(s3: S3) -> None:
    config = Config(run=RunConfig(storage=s3.uri.replace("?", "/runs?"), name="one"))
    run = open_run(config)
    assert str(run.path) == s3.uri.replace("?", "/runs/one?")
    assert names(run.path) == ["config.yaml"]
    assert open_run(config) == run
    assert load_config(run) == config
    with pytest.raises(UserError, match=r"was made with data\.augmentations 4, now it is 3"):
        open_run(Config(data=DataConfig(augmentations=3), run=config.run))
    with pytest.raises(UserError, match="not a run folder"):
        load_config(RunFolder(run.path / "other"))


def test_a_path_as_storage_is_a_root(tmp_path: Path) -> None:
    for text in (str(tmp_path / "x"), f"file://{tmp_path}/x"):
        run = open_run(Config(run=RunConfig(root="/nowhere", storage=text, name="one")))
        assert run.path == tmp_path / "x" / "one"


def test_the_endpoint_may_come_from_the_environment(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    file = storage_path(f"s3://{s3.bucket}/a.txt")
    storage._file_system.cache_clear()
    file.write_bytes(b"there")
    assert (storage_path(s3.uri) / "a.txt").read_bytes() == b"there"


def test_a_bucket_that_is_not_there_is_named(s3: S3) -> None:
    uri = s3.uri.replace(s3.bucket, "nowhere")
    with pytest.raises(UserError) as refused:
        open_run(Config(run=RunConfig(storage=uri, name="one")))
    assert str(refused.value) == (
        f"run.storage is {uri}: it cannot be written (NO_SUCH_BUCKET, The specified bucket does "
        "not exist; do AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL "
        "fit it?)"
    )


def test_options_that_pyarrow_does_not_know_are_named() -> None:
    with pytest.raises(UserError, match=r"run\.storage is .*'colour'.*AWS_ENDPOINT_URL"):
        open_run(Config(run=RunConfig(storage="s3://b/a?colour=blue", name="one")))


def test_a_store_that_does_not_answer_is_named(s3: S3) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        uri = s3.uri.replace(str(s3.port), str(taken.getsockname()[1]))
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"NETWORK_CONNECTION.*AWS_ENDPOINT_URL fit it") as e:
            load_config(RunFolder(storage_path(uri)))
        assert time.monotonic() - began < 30
    assert "\n" not in str(e.value)
    assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)  # workers send it


# --- this machine's own disk ----------------------------------------------------------------------


def test_copies_are_kept_in_the_users_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = storage.scratch_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "sign_ensemble-12345").mkdir()
    with pytest.raises(UserError, match="belongs to another user; give TMPDIR"):
        storage.scratch_folder()


def test_libraries_write_to_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert storage.local_folder_for(tmp_path) == tmp_path
    one, other = (
        storage.local_folder_for(RemotePath("s3://b", f"{name}/run")) for name in ("a", "b")
    )
    assert one != other and one.is_dir() and one.name.startswith("run-")

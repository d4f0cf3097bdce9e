"""Tracking: what W&B's own files hold, and that no fault of W&B reaches a command."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wandb_files import logged
from wandb_home import KEY, closed_port, wandb_environment

from sign_ensemble.core.atomic_files import file_sha256
from sign_ensemble.core.config import WandbConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import local_folder_for, storage_path
from sign_ensemble.search.records import TrialRecord
from sign_ensemble.tracking import Tracker, tracked
from sign_ensemble.tracking.wandb_runs import described, flat
from sign_ensemble.tracking.wandb_server import probe_server, stricter
from sign_ensemble.tracking.worker_thread import WorkerThread

wandb = pytest.importorskip("wandb")
protocol: Any = pytest.importorskip("wandb.proto.wandb_internal_pb2")

PARAMS = {"dropout": 0.41, "learning_rate": 2e-4, "weight_decay": 1e-5, "h1": 1024, "h2": 256}
NLL = (0.5, 0.75, 1.0)
ACCURACY = (0.875, 0.5, 0.75)
SIGNERS = ["anna", "ben", "carla"]


@pytest.fixture(autouse=True)
def no_wandb_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no settings, no caches of the person who runs the tests; no process left behind."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in wandb_environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sign_ensemble.tracking.tracker.QUIET_SECONDS", 600)  # a busy machine
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "my run")
    folder.path.mkdir()
    return folder


def record(number: int = 3, folds: int = 3, status: Any = "complete") -> TrialRecord:
    figures = [
        {
            "fold": i, "n": 40, "nll": NLL[i], "accuracy": ACCURACY[i],
            "ece": 0.25, "seconds": 2.5,
        }
        for i in range(folds)
    ]  # fmt: skip
    error = "lost its machine" if status == "failed" else ""
    return TrialRecord(number, status, {**PARAMS}, tuple(figures), error)


def server_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and the address of a server where nobody listens."""
    for name, value in {**closed_port(), "WANDB_HTTP_TIMEOUT": "1"}.items():
        monkeypatch.setenv(name, value)


def test_trial_is_a_run_of_the_group_with_a_row_per_fold(run, capfd):
    lines: list[str] = []
    tracker = Tracker(WandbConfig("offline", "project", "team"), run, lines.append)
    tracker.trial(record(), SIGNERS)
    tracker.close()
    (seen,) = logged(run)
    assert (seen.run.project, seen.run.entity) == ("project", "team")
    assert (seen.run.run_group, seen.run.job_type) == ("my run", "trial")
    assert seen.run.display_name == "trial 3: dropout .41 lr 2e-4 1024-256"
    assert seen.run.run_id.endswith("-t3") and len(seen.run.run_id) == 11
    expected = {**PARAMS, "number": 3, "kind": "pixels", "status": "complete"}
    assert {k: v for k, v in seen.config.items() if k != "_wandb"} == expected
    names = ("fold", "nll", "accuracy", "ece", "running_nll")
    assert [tuple(row[name] for name in names) for row in seen.history] == [
        ("anna", 0.5, 0.875, 0.25, 0.5),
        ("ben", 0.75, 0.5, 0.25, 0.625),
        ("carla", 1.0, 0.75, 0.25, 0.75),
    ]
    keys = ("nll", "accuracy", "worst_accuracy", "ece", "seconds", "status")
    assert [seen.summary[key] for key in keys] == [
        0.75, 17 / 24, 0.5, 0.25, 7.5, "complete",
    ]  # fmt: skip
    assert seen.exit_code == 0
    assert lines == [] and capfd.readouterr() == ("", "")


def test_failed_trial_without_folds_is_logged_as_failed(run):
    tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
    tracker.trial(record(0, folds=0, status="failed"), SIGNERS)
    tracker.trial(record(1, folds=1, status="failed"), SIGNERS)
    tracker.trial(record(2, folds=2, status="pruned"), SIGNERS)
    tracker.close()
    none, one, pruned = sorted(logged(run), key=lambda seen: seen.run.run_id)
    assert (none.exit_code, one.exit_code, pruned.exit_code) == (1, 1, 0)
    assert none.history == [] and "nll" not in none.summary
    assert none.summary["error"] == "lost its machine"
    assert (one.summary["nll"], one.summary["status"]) == (0.5, "failed")
    assert (pruned.summary["nll"], pruned.summary["status"]) == (0.625, "pruned")


def test_trial_logged_again_is_the_same_run(run, tmp_path):
    for folds in (2, 3):
        tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
        tracker.trial(record(3, folds), SIGNERS)
        tracker.trial(record(31, folds), SIGNERS)
        tracker.close()  # the file's end is written when wandb's process ends, not before
        if folds == 2:
            first = {seen.run.run_id for seen in logged(run)}
    again = logged(run)
    assert {seen.run.run_id for seen in again} == first and len(again) == len(first) == 2
    assert [len(seen.history) for seen in again] == [3, 3]
    moved = RunFolder(tmp_path / "moved")
    local_folder_for(run.path).rename(local_folder_for(moved.path))
    (synced,) = (local_folder_for(moved.path) / "wandb").glob("offline-run-*/*-t3.wandb")
    synced.with_name(f"{synced.name}.synced").touch()
    tracker = Tracker(WandbConfig("offline"), moved, pytest.fail)
    tracker.trial(record(3), SIGNERS)
    tracker.close()
    assert {seen.run.run_id for seen in logged(moved)} == first
    assert synced.is_file(), "what was uploaded must not be removed"


def test_two_run_folders_never_share_a_run(tmp_path):
    ids = set()
    for name in ("a", "b"):
        folder = RunFolder(tmp_path / name / "run")
        folder.path.mkdir(parents=True)
        tracker = Tracker(WandbConfig("offline"), folder, pytest.fail)
        tracker.trial(record(), SIGNERS)
        tracker.close()
        ids |= {seen.run.run_id for seen in logged(folder)}
    assert len(ids) == 2


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.125, "high": value + 0.125, "n": 40}


METRICS: dict[str, Any] = {
    "known": {"accuracy": figure(0.5)},
    "sets": {
        "noise": {
            "kind": "far",
            "n": 30,
            "auroc": figure(0.75),
            "fpr95": figure(0.5),
            "accepted": figure(0.25),
            "overconfident": figure(0.125),
        }
    },
    "single": {"known": {"accuracy": figure(0.25)}, "sets": {}},
    "evaluations": 1,
    "scores": ["disagreement"],
    "note": None,
}


def test_evaluation_has_figures_table_and_files(run, capfd):
    run.members.mkdir()
    (run.members / "0.safetensors").write_bytes(b"weights")
    run.rule.write_text("{}")
    run.manifest.write_bytes(b"rows")
    tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
    tracker.evaluation({"search": {"trials": 4}}, METRICS, [run.members, run.rule])
    tracker.close()
    (seen,) = logged(run)
    assert (seen.run.run_group, seen.run.job_type) == ("my run", "evaluate")
    assert seen.config["search"] == {"trials": 4}
    for name, value in flat(METRICS).items():
        assert seen.summary[name] == value
    (table,) = (run.path / "wandb").rglob("*.table.json")
    assert json.loads(table.read_text()) == {
        "columns": ["name", "kind", "n", "auroc", "fpr95", "accepted", "overconfident"],
        "data": [["noise", "far", 30, 0.75, 0.5, 0.25, 0.125]],
    }
    artifact = seen.artifacts["ensemble"]
    assert artifact.name == "ensemble-my-run"
    assert json.loads(artifact.metadata) == {"manifest_sha256": file_sha256(run.manifest)}
    files = {file.path: file.local_path for file in artifact.manifest.contents}
    assert files == {
        "members/0.safetensors": str(run.members / "0.safetensors"),
        "rule.json": str(run.rule),
    }
    assert capfd.readouterr() == ("", "")


def test_a_run_on_an_object_store_is_logged_from_this_machines_disk(tmp_path, s3, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = RunFolder(storage_path(s3.uri) / "runs" / "my run")
    (run.members / "0.safetensors").write_bytes(b"weights")
    run.rule.write_bytes(b"rule")
    ids = []
    for _ in range(2):  # logged again, after a resume: the same W&B run, which the bucket names
        tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
        tracker.trial(record(), SIGNERS)
        tracker.close()
        (seen,) = logged(run)
        ids.append(seen.run.run_id)
    assert ids[0] == ids[1] and seen.run.run_group == "my run"
    tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
    tracker.evaluation({}, METRICS, [run.members, run.rule])
    tracker.close()
    (artifact,) = [s.artifacts["ensemble"] for s in logged(run) if "ensemble" in s.artifacts]
    files = {file.path: Path(file.local_path).read_bytes() for file in artifact.manifest.contents}
    assert files == {"members/0.safetensors": b"weights", "rule.json": b"rule"}
    assert sorted(path.name for path in run.path.glob("*")) == ["members", "rule.json", "wandb"]


def test_large_ensemble_is_not_uploaded(run):
    with run.rule.open("wb") as opened:
        opened.truncate(1_500_000_000)  # a hole: takes no disk
    lines: list[str] = []
    tracker = Tracker(WandbConfig("offline"), run, lines.append)
    tracker.evaluation({}, METRICS, [run.rule])
    tracker.close()
    (seen,) = logged(run)
    assert "ensemble" not in seen.artifacts and seen.summary["known.accuracy"] == 0.5
    assert lines == ["W&B: the ensemble has 1.5 GB, its files are not logged"]


def test_setting_joins_the_agents_run(run, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "agents-own")
    monkeypatch.setenv("WANDB_PROJECT", "agents-project")
    tracker = Tracker(WandbConfig("offline", "project"), run, pytest.fail)
    tracker.setting(PARAMS, record())
    tracker.close()
    (seen,) = logged(run)
    assert (seen.run.run_id, seen.run.project) == ("agents-own", "agents-project")
    assert (seen.run.sweep_id, seen.run.job_type) == ("sweep", "train")
    assert seen.config["dropout"] == 0.41
    assert [row["nll"] for row in seen.history] == list(NLL)
    assert seen.summary["nll"] == 0.75, "the mean over folds, not the last fold's"


def test_setting_without_a_sweep_is_one_run_per_setting(run):
    tracker = Tracker(WandbConfig("offline", "project"), run, pytest.fail)
    for dropout in (0.25, 0.5, 0.25):
        tracker.setting({**PARAMS, "dropout": dropout}, record())
    tracker.close()
    seen = logged(run)
    assert sorted(one.config["dropout"] for one in seen) == [0.25, 0.5]
    assert {one.run.project for one in seen} == {"project"}


def test_no_key_goes_offline_with_one_line(run, capfd):
    lines: list[str] = []
    tracker = Tracker(WandbConfig("online"), run, lines.append)
    tracker.trial(record(0), SIGNERS)
    tracker.trial(record(1), SIGNERS)
    tracker.close()
    assert len(logged(run)) == 2
    (line,) = lines
    assert "no key" in line and "\n" not in line
    assert line.endswith(f"wandb sync '{run.path}'/wandb/offline-run-*")
    assert capfd.readouterr() == ("", "")


def test_unreachable_server_goes_offline_in_bounded_time(run, monkeypatch, capfd):
    server_unreachable(monkeypatch)
    lines: list[str] = []
    started = time.monotonic()
    tracker = Tracker(WandbConfig("online"), run, lines.append)
    tracker.trial(record(), SIGNERS)
    tracker.close()
    assert time.monotonic() - started < 8  # wandb alone asks a closed port for 10 seconds
    (seen,) = logged(run)
    assert seen.summary["nll"] == 0.75
    (line,) = lines
    assert "http://127.0.0.1:" in line and "wandb sync" in line and "\n" not in line
    assert capfd.readouterr() == ("", "")


def test_server_lost_after_the_start_keeps_the_trial(run, monkeypatch, capfd):
    server_unreachable(monkeypatch)
    monkeypatch.setattr("sign_ensemble.tracking.wandb_runs.INIT_SECONDS", 1.0)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr("sign_ensemble.tracking.tracker.probe_server", lambda _: None)
    lines: list[str] = []
    tracker = Tracker(WandbConfig("online"), run, lines.append)
    run.members.mkdir()
    tracker.trial(record(0), SIGNERS)
    tracker.evaluation({"number": 1}, METRICS, [run.members])
    tracker.close()
    assert sorted(seen.config["number"] for seen in logged(run)) == [0, 1]
    assert len(lines) == 1 and "wandb sync" in lines[0] and "\n" not in lines[0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["setup", "init", "Settings", "Run.log", "Run.finish"])
def test_fault_inside_wandb_is_one_line_and_swallowed(run, monkeypatch, where):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("inside wandb\nsecond line")

    lines: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(f"wandb.{where}", broken)
        tracker = Tracker(WandbConfig("offline"), run, lines.append)
        tracker.trial(record(0), SIGNERS)
        tracker.trial(record(1), SIGNERS)
        tracker.evaluation({}, METRICS, [])
        tracker.close()
    tracker.setting(PARAMS, record())
    tracker.close()
    assert lines == ["W&B: logging stopped (RuntimeError: inside wandb)"]


def test_a_sleeping_wandb_does_not_block_the_caller(run, monkeypatch):
    init, asleep, awake = wandb.init, threading.Event(), threading.Event()

    def sleeping(**settings: Any) -> Any:
        asleep.set()
        assert awake.wait(60)
        return init(**settings)

    monkeypatch.setattr(wandb, "init", sleeping)
    tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
    changed = record(0)
    tracker.trial(changed, SIGNERS)
    assert asleep.wait(60)
    tracker.trial(record(1), SIGNERS)
    changed.params.clear()  # what was given is logged as it was
    changed.folds[0]["nll"] = 99.0
    assert logged(run) == []
    awake.set()
    tracker.close()
    first, second = logged(run)
    assert (first.config["number"], second.config["number"]) == (0, 1)
    assert first.config["dropout"] == 0.41 and first.summary["nll"] == 0.75


def test_a_wandb_that_sleeps_while_it_connects_does_not_block_the_caller(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    awake = threading.Event()

    def unanswered(address: str) -> None:
        assert awake.wait(60)
        raise TimeoutError

    monkeypatch.setattr("sign_ensemble.tracking.tracker.probe_server", unanswered)
    lines: list[str] = []
    tracker = Tracker(WandbConfig("online"), run, lines.append)
    tracker.trial(record(), SIGNERS)
    assert lines == []
    awake.set()
    tracker.close()
    assert len(lines) == 1 and "does not answer" in lines[0]
    assert len(logged(run)) == 1


def test_system_exit_inside_wandb_is_a_fault_too(run, monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **_: sys.exit("wandb is at its end"))
    lines: list[str] = []
    tracker = Tracker(WandbConfig("offline"), run, lines.append)
    tracker.trial(record(0), SIGNERS)
    tracker.trial(record(1), SIGNERS)
    tracker.close()
    assert lines == ["W&B: logging stopped (SystemExit: wandb is at its end)"]


def test_a_full_disk_is_one_line(run, monkeypatch):
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wandb, "init", full)
    lines: list[str] = []
    tracker = Tracker(WandbConfig("offline"), run, lines.append)
    tracker.trial(record(0), SIGNERS)
    tracker.trial(record(1), SIGNERS)
    tracker.close()
    assert lines == ["W&B: logging stopped (OSError: [Errno 28] No space left on device)"]


@pytest.mark.parametrize("when", ["before", "while waiting"])
def test_an_interrupt_waits_for_no_server(run, monkeypatch, when):
    asleep, awake, ended = threading.Event(), threading.Event(), threading.Event()

    def sleeping(**_: Any) -> None:
        asleep.set()
        awake.wait(60)
        ended.set()
        raise RuntimeError("too late")

    monkeypatch.setattr(wandb, "init", sleeping)
    monkeypatch.setattr("sign_ensemble.tracking.tracker.HURRY_SECONDS", 0.1)
    lines: list[str] = []
    tracker = Tracker(WandbConfig("offline"), run, lines.append)
    tracker.trial(record(0), SIGNERS)
    tracker.trial(record(1), SIGNERS)
    assert asleep.wait(60)
    if when == "before":
        tracker.close(interrupted=True)
    else:
        has_ended = WorkerThread.has_ended

        def interrupted(self: WorkerThread, seconds: float) -> bool:
            if seconds:
                os.kill(os.getpid(), signal.SIGINT)
            return has_ended(self, seconds)

        monkeypatch.setattr(WorkerThread, "has_ended", interrupted)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
        with pytest.raises(KeyboardInterrupt):
            tracker.close()
        signal.signal(signal.SIGINT, before)
    assert not ended.is_set()
    assert lines == ["W&B: interrupted; 2 runs are not logged, or not completely"]
    assert wandb_services() == []
    awake.set()
    assert ended.wait(60)
    tracker.trial(record(2), SIGNERS)
    tracker.close()
    assert len(lines) == 1 and logged(run) == []


def test_a_long_wait_shows_a_line(run, monkeypatch):
    init, awake, lines = wandb.init, threading.Event(), list[str]()

    def sleeping(**settings: Any) -> Any:
        assert awake.wait(60)
        return init(**settings)

    def say(line: str) -> None:
        lines.append(line)
        awake.set()
        monkeypatch.setattr(WorkerThread, "has_ended", lambda self, seconds: has_ended(self, 60))

    has_ended = WorkerThread.has_ended
    monkeypatch.setattr(wandb, "init", sleeping)
    monkeypatch.setattr("sign_ensemble.tracking.tracker.QUIET_SECONDS", 0.1)
    tracker = Tracker(WandbConfig("offline"), run, say)
    tracker.trial(record(), SIGNERS)
    tracker.close()
    assert lines == ["still logging to W&B, 0 s; Ctrl-C ends it"]
    assert len(logged(run)) == 1


def test_missing_file_is_one_line(run):
    lines: list[str] = []
    tracker = Tracker(WandbConfig("offline"), run, lines.append)
    tracker.evaluation({}, METRICS, [run.path / "nowhere"])
    tracker.trial(record(), SIGNERS)
    tracker.close()
    assert len(lines) == 1 and lines[0].startswith("W&B: logging stopped (")
    assert "nowhere" in lines[0]


def test_fault_inside_wandb_while_online_disables_tracking_too(run, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("inside wandb")

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", broken)
    lines: list[str] = []
    tracker = Tracker(WandbConfig("online"), run, lines.append)
    tracker.trial(record(0), SIGNERS)
    tracker.trial(record(1), SIGNERS)
    tracker.close()
    assert ["offline" in line for line in lines] == [True, False]


@pytest.mark.parametrize(
    "mode, environment", [("disabled", None), ("online", "disabled"), ("offline", "disabled")]
)
def test_disabled_never_imports_wandb(run, mode, environment):
    code = f"""
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from sign_ensemble.core.config import WandbConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.tracking import Tracker
tracker = Tracker(WandbConfig({mode!r}), RunFolder(Path({str(run.path)!r})), print)
tracker.trial(None, [])
tracker.setting({{}}, None)
tracker.evaluation({{}}, {{}}, [])
tracker.close()
assert "wandb" not in sys.modules
"""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if environment:
        environ["WANDB_MODE"] = environment
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    line = f"W&B: disabled, since WANDB_MODE is disabled (wandb.mode is {mode})\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, line if environment else "", "")
    assert list(run.path.iterdir()) == []


def test_wandb_offline_command_is_respected(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    settings = tmp_path / "home" / "config" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nmode = offline\n")
    lines: list[str] = []
    tracker = Tracker(WandbConfig("online"), run, lines.append)
    tracker.trial(record(), SIGNERS)
    tracker.close()
    assert len(logged(run)) == 1
    (line,) = lines
    assert line.startswith("W&B: logging offline (as `wandb offline` has set;")


@pytest.mark.parametrize("mode", ["bogus", "Offline", " offline", "true"])
def test_an_unknown_mode_in_the_environment_is_refused(run, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    rule = f"WANDB_MODE is {mode}: it must be online, offline, disabled or unset"
    with pytest.raises(UserError, match=rule), tracked(WandbConfig(), run):
        pass
    with tracked(WandbConfig("disabled"), run) as tracker:  # nothing is sent whatever was meant
        assert tracker.mode == "disabled"
    assert list(run.path.iterdir()) == []


@pytest.mark.parametrize("environment", [None, "", "online", "offline", "dryrun"])
def test_the_user_learns_what_is_logged_where(run, monkeypatch, capsys, environment):
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    configured: Any = "online" if environment in ("offline", "dryrun") else "offline"
    with tracked(WandbConfig(configured), run) as tracker:
        tracker.trial(record(), SIGNERS)
    lines = capsys.readouterr().out.splitlines()
    if configured == "online":
        since = f"W&B: offline, since WANDB_MODE is {environment} (wandb.mode is online)"
        assert lines.pop(0) == since
    where = f"wandb sync '{run.path}'/wandb/offline-run-*"
    assert lines == [f"W&B: logging offline; to upload later: {where}"]
    assert len(list((Path(str(run.path)) / "wandb").glob("offline-run-*"))) == len(logged(run)) == 1


def test_the_callers_own_run_stays_open(run, tmp_path):
    own = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True))
    tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
    tracker.trial(record(), SIGNERS)
    tracker.close()
    assert wandb.run is own
    own.log({"still": "open"})
    own.finish()
    assert len(logged(run)) == 1


def test_no_process_is_left(run):
    tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
    tracker.trial(record(), SIGNERS)
    tracker.close()
    assert wandb_services() == []


def wandb_services() -> list[str]:
    """Live children of this process that are wandb's service."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            name = (folder / "comm").read_text().strip()
        except (OSError, IndexError):
            continue
        if name.startswith("wandb-core") and int(state[1]) == os.getpid() and state[0] != "Z":
            found.append(folder.name)
    return found


@pytest.mark.parametrize(
    "configured, environment, mode",
    [
        ("online", None, "online"),
        ("online", "offline", "offline"),
        ("online", "dryrun", "offline"),
        ("online", "disabled", "disabled"),
        ("online", "run", "online"),
        ("offline", "online", "offline"),
        ("offline", "disabled", "disabled"),
        ("disabled", "online", "disabled"),
    ],
)
def test_the_mode_that_sends_less_holds(configured, environment, mode):
    assert stricter(configured, environment) == mode


@pytest.mark.parametrize(
    "params, words",
    [
        (PARAMS, "dropout .41 lr 2e-4 1024-256"),
        ({"dropout": 0.5, "learning_rate": 1e-10, "widths": (8, 4)}, "dropout .50 lr 1e-10 8-4"),
        ({"weight_decay": 0.0}, ""),
    ],
)
def test_parameters_at_a_glance(params, words):
    assert described(params) == words


def test_flat_figures():
    assert flat({"a": figure(0.5), "b": {"c": {"d": 1}, "e": "word"}, "f": [1], "g": None}) == {
        "a": 0.5,
        "a.low": 0.375,
        "a.high": 0.625,
        "b.c.d": 1,
        "b.e": "word",
    }
    assert flat({"a": {"value": None, "low": None, "high": None}}) == {}


def test_numpy_figures_are_logged_too(run):
    tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
    metrics = {"known": {"accuracy": {"value": np.float64(0.5), "low": 0.0, "high": 1.0}}}
    tracker.evaluation({}, metrics, [])
    tracker.close()
    (seen,) = logged(run)
    assert seen.summary["known.accuracy"] == 0.5


class Refuses(BaseHTTPRequestHandler):
    """A W&B server that does not know the key."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": [{"message": "user is not logged in"}]}')

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


def test_a_bad_key_is_one_line_and_the_run_is_kept(run, monkeypatch, capfd):
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        lines: list[str] = []
        tracker = Tracker(WandbConfig(), run, lines.append)
        tracker.trial(record(), SIGNERS)
        tracker.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert len(lines) == 1 and "does not accept the key" in lines[0], lines
    (seen,) = logged(run)
    assert seen.summary["nll"] == 0.75
    assert capfd.readouterr().out == ""


def test_a_proxy_is_not_bypassed(monkeypatch):
    address = closed_port()["WANDB_BASE_URL"]
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConnectionRefusedError):
        probe_server(address)
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:1")
    probe_server(address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        probe_server(address)

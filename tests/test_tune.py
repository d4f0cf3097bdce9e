"""The main job as a user runs it: commands as processes, each with a Ray of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import sign_ensemble
from sign_ensemble.config import EvaluateConfig, FinetuneConfig, WandbConfig
from sign_ensemble.learning.member import load
from sign_ensemble.run import RunFolder, at_hand, read_json
from sign_ensemble.stages.evaluate import evaluate_run
from sign_ensemble.storage import place
from sign_ensemble.tracking import Tracker

if TYPE_CHECKING:
    from tests.conftest import S3

SOURCE = Path(sign_ensemble.__file__).parents[1]  # the package need not be installed
SLOW = 240  # seconds: a run takes a tenth of it on two quiet cores
TRIALS = 14  # the sampler models losses from the ninth on
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tab and line break


def processes_of(session: int) -> list[int]:
    """Living processes of a session: a command started in a new one and all that Ray adds."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,sid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, sid, stat in rows if int(sid) == session and "Z" not in stat]


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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs and of their shared features."""
    return tmp_path_factory.mktemp("tune")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands; none of them outlives the test."""
    begun: list[Command] = []

    def starter(name: str, *arguments: str, before: str = "") -> Command:
        folder = tmp_path / f"command-{len(begun)}"
        folder.mkdir()
        begun.append(Command(name, *arguments, folder=folder, before=before))
        return begun[-1]

    yield starter
    for command in begun:
        command.close()


def settings(home: Path, images: Path, name: str, trials: int, *more: str) -> list[str]:
    """A small run; ``more`` comes last and wins."""
    given = {
        "data.root": images,
        "data.cache": home / "features",
        "data.near_labels": "[wave]",
        "data.views": 1,
        "data.size": 96,
        "member.widths": "[16, 8]",
        "member.epochs": 2,
        "search.trials": trials,
        "search.concurrent": 1,
        "search.epochs": "[2, 3]",
        "search.h1": "[16, 32]",
        "search.h2": "[8, 16]",
        "ensemble.size": 2,
        "rejection.negatives": 10,
        "rejection.bank": 100,
        "evaluate.images": 10,
        "evaluate.bootstrap": 20,
        "run.root": home,
        "run.name": name,
        "wandb.mode": "disabled",
    }
    return [f"--{key}={value}" for key, value in given.items()] + list(more)


def finish(command: Command) -> str:
    """What a command that must end well has printed."""
    assert command.ended() == 0, command.out + command.err
    assert command.err == ""
    assert "Traceback" not in command.out
    assert not CONTROL.search(command.out + command.err)
    return command.out


def records(run: Path) -> dict[int, dict[str, Any]]:
    """The records of ended trials by number."""
    found = [json.loads(path.read_text()) for path in run.glob("trials/*/trial.json")]
    return {record["number"]: record for record in found}


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    """A record but for how long it took."""
    folds = [{k: v for k, v in fold.items() if k != "seconds"} for fold in record["folds"]]
    return {**record, "folds": folds}


def contents(run: Path) -> dict[str, tuple[str, int]]:
    """sha256 and time of change of every file of a run but W&B's and Ray's."""
    return {
        str(path.relative_to(run)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in ("wandb", "ray")
    }


def shas(run: Path, *patterns: str) -> dict[str, str]:
    """sha256 of the files that match."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in patterns
        for path in run.glob(pattern)
    }


@pytest.fixture(scope="module")
def whole(home: Path, signs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    command = Command("tune", *settings(home, signs_folder, "whole", TRIALS), folder=folder)
    try:
        finish(command)
    finally:
        command.close()
    (home / "whole-out.txt").write_text(command.out)
    return home / "whole"


@pytest.mark.timeout(SLOW)
def test_run_folder_is_complete(whole: Path) -> None:
    for name in (
        "config.yaml", "manifest.parquet", "negatives.safetensors", "trials.parquet",
        "study.journal", "members/index.json", "rule.json", "rule.safetensors", "metrics.json",
        "answers.parquet", "timings.json", "report.html", "figures/risk-coverage.svg",
    ):  # fmt: skip
        assert (whole / name).stat().st_size, name
    index = json.loads((whole / "members/index.json").read_text())["members"]
    assert len(index) == 2
    for entry in index:
        path = whole / "members" / entry["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert not [path for path in whole.rglob(".*") if "ray" not in path.parts]  # nothing half done


@pytest.mark.timeout(SLOW)
def test_every_trial_is_recorded(whole: Path) -> None:
    found = records(whole)
    assert sorted(found) == list(range(TRIALS))
    assert {record["status"] for record in found.values()} == {"complete", "pruned"}
    table = pq.read_table(whole / "trials.parquet").to_pydict()
    assert sorted(table["number"]) == list(range(TRIALS))
    best = min(
        (record for record in found.values() if record["status"] == "complete"),
        key=lambda record: np.mean([fold["nll"] for fold in record["folds"]]),
    )
    assert table["number"][0] == best["number"]
    assert len({json.dumps(record["params"]) for record in found.values()}) == TRIALS


@pytest.mark.timeout(SLOW)
def test_first_trial_is_the_default_recipe(whole: Path) -> None:
    member = yaml.safe_load((whole / "config.yaml").read_text())["member"]
    params = records(whole)[0]["params"]
    h1, h2 = params.pop("h1"), params.pop("h2")
    assert [h1, h2] == member["widths"] == [16, 8]
    assert params == {name: member[name] for name in params}
    assert params["dropout"] == 0.5
    assert params["learning_rate"] == 1e-4
    assert params["epochs"] == 2


@pytest.mark.timeout(SLOW)
def test_output_says_what_was_done(whole: Path) -> None:
    lines = (whole.parent / "whole-out.txt").read_text().splitlines()
    assert lines[0] == f"run folder: {whole}"
    assert sum(re.match(r"trial \d+ (complete|pruned) after fold", line) is not None
               for line in lines) == TRIALS  # fmt: skip
    assert f"metrics: {whole / 'metrics.json'}" in lines
    assert lines[-1] == f"report: {whole / 'report.html'}"
    assert "…" not in "".join(lines)  # no figure is cut off where there is no terminal


@pytest.mark.timeout(SLOW)
def test_same_command_again_changes_no_file(
    whole: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    before = contents(whole)
    began = time.monotonic()
    said = finish(start("tune", *settings(whole.parent, signs_folder, "whole", TRIALS)))
    assert time.monotonic() - began < 30  # Ray is not even started
    assert "kept from before" in said
    assert "read once" in said
    assert contents(whole) == before


def test_trials_begun_at_once_differ() -> None:
    """On many cores none has ended when the first ones are drawn."""
    from optuna.storages import InMemoryStorage

    from sign_ensemble.config import MemberConfig, SearchConfig
    from sign_ensemble.search.space import default_params, distributions
    from sign_ensemble.search.suggest import RecordedOptuna

    default = default_params(MemberConfig())
    search = RecordedOptuna(
        distributions(SearchConfig()), InMemoryStorage(), 0, default, [], set(), []
    )
    drawn = [search.suggest(f"t{i}") for i in range(12)]
    assert len({json.dumps(each["trial"]["params"]) for each in drawn if each}) == 12


def killed(command: Command, when: Callable[[], bool]) -> None:
    """Let the driver die without warning, and then all that it leaves behind."""
    assert wait_for(lambda: when() or command.process.poll() is not None, SLOW)
    assert command.process.poll() is None, command.out + command.err
    os.kill(command.process.pid, signal.SIGKILL)
    command.close()


def assert_kept(run: Path, before: dict[str, tuple[str, int]]) -> None:
    """No ended trial was lost, changed or written again."""
    now = contents(run)
    for name, content in before.items():
        if name != "timings.json":  # grows with every call that prepares images
            assert now[name] == content, name


def assert_same_outcome(run: Path, whole: Path) -> None:
    """Trials, members, rule and figures are those of the run that nothing interrupted."""
    expected = {n: without_seconds(record) for n, record in records(whole).items()}
    assert {n: without_seconds(record) for n, record in records(run).items()} == expected
    same = ("members/*", "rule.*", "trials/*/*.safetensors", "negatives.safetensors")
    here, there = shas(run, *same), shas(whole, *same)
    for name in set(here) | set(there):
        if "fold-" not in name:  # their headers hold seconds
            assert here.get(name) == there.get(name), name
    assert set(here) == set(there)
    figures, expected_figures = (json.loads((r / "metrics.json").read_text()) for r in (run, whole))
    assert figures == expected_figures


@pytest.mark.timeout(2 * SLOW)
def test_killed_twice_it_ends_as_if_never_interrupted(
    whole: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    run = whole.parent / "killed"
    arguments = settings(whole.parent, signs_folder, "killed", TRIALS)

    def recorded() -> dict[str, tuple[str, int]]:
        return {k: v for k, v in contents(run).items() if k.endswith("trial.json")}

    def in_a_trial(least: int) -> bool:
        """So many have ended and the next has done a fold."""
        begun, done = set(run.glob("trials/*")), {p.parent for p in run.glob("trials/*/trial.json")}
        return len(done) >= least and any(any(p.glob("fold-*")) for p in begun - done)

    killed(start("tune", *arguments), lambda: len(list(run.glob("trials/*/trial.json"))) >= 2)
    first = recorded()
    assert 2 <= len(first) < TRIALS
    killed(start("tune", *arguments), lambda: in_a_trial(9))
    assert_kept(run, first)
    second = recorded()
    assert len(first) < len(second) < TRIALS
    said = finish(start("tune", *arguments))
    assert f"{len(second)} trials are kept from before" in said
    assert_kept(run, second)
    assert sorted(records(run)) == list(range(TRIALS))

    assert_same_outcome(run, whole)


@pytest.fixture
def three_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head that runs no trials and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(SOURCE))  # the package, as if installed on every node
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


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


IDLE_WORKER_DIES = """
import os, signal, subprocess
from sign_ensemble.search.recorder import Recorder
completed, ends = Recorder.on_trial_complete, []
def on_trial_complete(self, *arguments, **named):
    completed(self, *arguments, **named)
    ends.append(named["trial"])
    if len(ends) == 3:  # its worker is kept for the next trial
        listed = subprocess.run(["ps", "-eo", "pid=,sid=,args="], capture_output=True, text=True)
        for pid, session, args in (line.split(maxsplit=2) for line in listed.stdout.splitlines()):
            if int(session) == os.getsid(0) and args.startswith("ray::ImplicitFunc"):
                os.kill(int(pid), signal.SIGKILL)
                print("a worker was killed", flush=True)
Recorder.on_trial_complete = on_trial_complete
"""


@pytest.mark.timeout(2 * SLOW)
def test_a_worker_that_dies_between_trials_costs_nothing(
    whole: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    """Ray Tune gives up the trial that was to have this worker next."""
    arguments = settings(whole.parent, signs_folder, "idle", TRIALS)
    said = finish(start("tune", *arguments, before=IDLE_WORKER_DIES))
    assert said.count("a worker was killed") == 1
    assert_same_outcome(whole.parent / "idle", whole)


@pytest.mark.timeout(2 * SLOW)
def test_nodes_that_lack_the_package_or_the_storage_are_named(
    home: Path,
    signs_folder: Path,
    tmp_path: Path,
    start: Callable[..., Command],
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    try:
        lacking = tmp_path / "lacking"  # before an installed package on the node's path
        lacking.mkdir()
        (lacking / "sign_ensemble.py").write_text(
            "raise ModuleNotFoundError(\"No module named 'sign_ensemble'\", name='sign_ensemble')"
        )
        bare = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(lacking)})
        arguments = settings(home, signs_folder, "refused", 2)
        command = start("tune", *arguments)
        assert command.ended() == 2, command.err
        assert re.fullmatch(
            r"error: node [\d.]+ has no module sign_ensemble: install .*--working-dir \.`\n",
            command.err,
        )
        assert not (home / "refused").exists()

        cluster.remove_node(bare)
        nobody = {"PYTHONPATH": str(SOURCE), "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
        cluster.add_node(num_cpus=1, env_vars=nobody)
        at = f"s3://{s3.bucket}/runs"
        command = start("tune", *arguments, f"--run.storage={at}")
        assert command.ended() == 2, command.err
        assert re.fullmatch(
            rf"error: run\.storage is {at}/refused: node [\d.]+ cannot read it "
            r"\(NETWORK_CONNECTION, .* fit it\?; the node's environment counts\)\n",
            command.err,
        )
        assert not list(place(at).glob("*"))
    finally:
        cluster.shutdown()


@pytest.mark.timeout(2 * SLOW)
def test_interrupt_ends_the_search_in_one_line(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    run = home / "interrupted"
    arguments = [*settings(home, signs_folder, "interrupted", 20), "--until", "search"]
    command = start("tune", *arguments)
    assert wait_for(lambda: any(run.glob("trials/*/trial.json")), SLOW), command.err
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
    assert command.ended() == 130, command.err
    assert command.err == "interrupted: what is done is kept; the same command goes on\n"
    assert not CONTROL.search(command.out)
    kept = records(run)
    assert not (run / "trials.parquet").exists()
    said = finish(start("tune", *arguments))
    assert f"{len(kept)} trials are kept from before" in said
    assert sorted(records(run)) == list(range(20))


SWALLOWED = """
import contextlib, os, signal
from sign_ensemble.search.suggest import RecordedOptuna
drawn = RecordedOptuna.suggest
def suggest(self, trial_id):
    if len(self._used) == 2:  # Ctrl-C comes while a library catches everything
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    return drawn(self, trial_id)
RecordedOptuna.suggest = suggest
"""


@pytest.mark.timeout(2 * SLOW)
def test_a_swallowed_interrupt_ends_the_search(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    """Once seen: the interrupt came inside Optuna, which dropped it, and the search went on."""
    arguments = [*settings(home, signs_folder, "swallowed", 20), "--until", "search"]
    command = start("tune", *arguments, before=SWALLOWED)
    assert command.ended() == 130, command.err
    assert command.err == "interrupted: what is done is kept; the same command goes on\n"
    assert len(records(home / "swallowed")) < 6


@pytest.mark.timeout(SLOW)
def test_a_report_never_shows_an_earlier_reading(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(whole.parent / "read-again")
    shutil.copytree(whole, str(run.path), ignore=shutil.ignore_patterns("ray"))
    few = EvaluateConfig(images=10, bootstrap=10, again=True)
    tracker = Tracker(WandbConfig("disabled"), run, pytest.fail)

    def interrupted(_: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sign_ensemble.stages.evaluate.report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(run, few, tracker)
    assert read_json(run.metrics)["readings"] == 2
    assert not run.report.exists()
    evaluate_run(run, replace(few, again=False), tracker)
    assert read_json(run.metrics)["readings"] == 2 and run.report.is_file()


@pytest.mark.timeout(3 * SLOW)
def test_stage_by_stage(home: Path, signs_folder: Path, start: Callable[..., Command]) -> None:
    """Also ensemble.method greedy, members without clouds beside them, and a promise."""
    run = home / "stages"
    more = ("--ensemble.method=greedy", "--ensemble.clouds=none", "--rejection.max_error=0.9")
    arguments = settings(home, signs_folder, "stages", 3, *more)
    finish(start("tune", *arguments, "--until", "search"))
    assert len(pq.read_table(run / "trials.parquet")) == 3
    assert not (run / "members").exists()
    before = contents(run)

    finish(start("tune", *arguments, "--until", "ensemble"))
    assert_kept(run, before)
    assert (run / "rule.json").exists()
    assert not (run / "metrics.json").exists()
    index = json.loads((run / "members/index.json").read_text())
    assert index["method"] == "greedy"
    assert 1 <= sum(entry["votes"] for entry in index["members"]) <= 2
    rule = json.loads((run / "rule.json").read_text())
    assert rule["readings"] is None
    assert rule["promise"]["max_error"] == 0.9
    before = contents(run)

    evaluate = ("--run", str(run), "--evaluate.images=10", "--evaluate.bootstrap=20")
    finish(start("evaluate", *evaluate))
    first = json.loads((run / "metrics.json").read_text())
    assert first["readings"] == 1
    assert any("errors among the answered" in note for note in first["about"]["notes"])
    after = contents(run)
    said = finish(start("evaluate", *evaluate))
    assert "read once (--evaluate.again true)" in said
    assert contents(run) == after
    finish(start("evaluate", *evaluate, "--evaluate.again", "true"))
    second = json.loads((run / "metrics.json").read_text())
    assert second["readings"] == 2
    assert {**second, "readings": 1} == first
    assert_kept(run, before)


@pytest.mark.timeout(2 * SLOW)
def test_without_signers_the_notes_say_what_that_hides(
    home: Path, signs_folder: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    """Also ensemble.members folds, and a far set in a folder."""
    images, stairs = tmp_path / "images", tmp_path / "stairs"
    shutil.copytree(signs_folder / "ada", images)
    shutil.copytree(signs_folder / "ben" / "bar", stairs)
    more = ("--data.preset=label", "--data.signers=none", "--ensemble.members=folds",
            "--search.folds=2", "--evaluate.far", f"stairs={stairs}")  # fmt: skip
    finish(start("tune", *settings(home, images, "nobody", 2, *more)))
    run = home / "nobody"
    figures = json.loads((run / "metrics.json").read_text())
    notes = " ".join(figures["about"]["notes"])
    assert "no signers are known" in notes
    assert "say nothing about new people" in notes
    assert figures["sets"]["stairs"]["kind"] == "far"
    assert figures["sets"]["stairs"]["n"] == 6
    index = json.loads((run / "members/index.json").read_text())
    assert index["of"] == "folds"
    assert {entry["fold"] for entry in index["members"]} == {0, 1}
    assert figures["about"]["members"] == len(index["members"]) == 4


@pytest.mark.timeout(2 * SLOW)
def test_one_setting_makes_a_run(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    arguments = settings(home, signs_folder, "one", 1, "--ensemble.size=1", "--member.dropout=0.3")
    said = finish(start("train", *arguments))
    assert re.search(r"on signers it never saw: nll \d\.\d{4}, accuracy 0?\.?\d", said)
    run = home / "one"
    record = records(run)[0]
    assert record["status"] == "complete"
    assert record["params"]["dropout"] == 0.3
    before = contents(run)
    finish(start("evaluate", f"--run={run}", "--evaluate.images=10", "--evaluate.bootstrap=20"))
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["about"]["members"] == 1
    assert 0 <= figures["known"]["accuracy"]["value"] <= 1
    assert_kept(run, before)


# --- fine-tuning ----------------------------------------------------------------------------------

TUNED = (
    "--finetune.layers=last", "--finetune.epochs=12", "--finetune.batch_size=8",
    "--rejection.left_out=0", "--data.labels=[bar,cross,disc,triangle]",
)  # fmt: skip
TUNED_TRIALS = 6


@pytest.fixture(scope="module")
def tuned(home: Path, signs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with fine-tuned members that nothing interrupted."""
    folder = tmp_path_factory.mktemp("tuned")
    arguments = settings(home, signs_folder, "tuned", TUNED_TRIALS, *TUNED)
    command = Command("tune", *arguments, folder=folder)
    try:
        finish(command)
    finally:
        command.close()
    (home / "tuned-out.txt").write_text(command.out)
    return home / "tuned"


@pytest.mark.timeout(SLOW)
def test_fine_tuned_networks_are_the_members(tuned: Path) -> None:
    index = json.loads((tuned / "members/index.json").read_text())
    assert index["finetuned"] == "last"
    assert [entry["fold"] for entry in index["members"]] == [-1, -1]
    assert len({entry["sha256"] for entry in index["members"]}) == 2
    assert len(list(tuned.glob("judges/*"))) == 3  # a fold each
    said = (tuned.parent / "tuned-out.txt").read_text()
    for stage in ("heads", "finetuned"):
        gain = index["gains"][stage]
        assert f"{stage} on signers they never saw: nll {gain['nll']:.4f}, accuracy" in said
    figures = json.loads((tuned / "metrics.json").read_text())
    assert figures["about"]["members"] == 2


@pytest.mark.timeout(SLOW)
def test_fine_tuned_members_answer_images(
    tuned: Path, signs_folder: Path, tmp_path: Path, start: Callable[..., Command]
) -> None:
    """The rule's p-values in predict are those of evaluate: one path."""
    figures = json.loads((tuned / "metrics.json").read_text())
    out = tmp_path / "answers.parquet"
    held_out = pq.read_table(tuned / "manifest.parquet").to_pylist()
    rows = [row for row in held_out if row["split"] == "test"]
    images = [str(signs_folder / row["path"]) for row in rows]
    finish(start("predict", f"--run={tuned}", f"--out={out}", *images))
    answers = pq.read_table(out).to_pylist()
    right = [a["likeliest"] == row["label"] for a, row in zip(answers, rows, strict=True)]
    kept = [a["answer"] != "rejected" for a in answers]
    assert np.mean(right) == pytest.approx(figures["known"]["accuracy"]["value"])
    assert np.mean(kept) == pytest.approx(figures["known"]["coverage"]["value"])


@pytest.mark.timeout(4 * SLOW)
def test_a_cluster_may_lose_a_trial_a_node_a_worker_and_the_driver(
    tuned: Path,
    signs_folder: Path,
    start: Callable[..., Command],
    three_nodes: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first two in the search of heads, the others in fine-tuning."""
    run = tuned.parent / "cluster"
    arguments = settings(tuned.parent, signs_folder, "cluster", TUNED_TRIALS, *TUNED)
    monkeypatch.setenv("RAY_ADDRESS", three_nodes.address)
    busy: list[tuple[Any, int]] = []

    def ended() -> int:
        return len(list(run.glob("trials/*/trial.json")))

    def at_work(name: str) -> bool:
        """Whether a node has such a process now."""
        nodes = three_nodes.worker_nodes
        busy[:] = [(node, pid) for node in nodes if (pid := process_on(node, name))]
        return bool(busy)

    command = start("tune", *arguments)
    assert wait_for(lambda: ended() >= 1 and at_work("ray::ImplicitFunc"), SLOW), command.err
    os.kill(busy[0][1], signal.SIGKILL)
    killed_at = ended()
    assert wait_for(lambda: ended() > killed_at and at_work("ray::ImplicitFunc"), SLOW)
    assert ended() < TUNED_TRIALS
    three_nodes.remove_node(busy[0][0], allow_graceful=False)

    assert wait_for(lambda: any(run.glob("train/lane-0/checkpoint_*")), SLOW), command.err
    assert ended() == TUNED_TRIALS
    assert at_work("ray::RayTrainWorker")
    ((_, lost),) = busy
    os.kill(lost, signal.SIGKILL)
    assert wait_for(lambda: at_work("ray::RayTrainWorker") and busy[0][1] != lost, SLOW)
    killed(command, lambda: (run / "judges/judge-00.safetensors").exists())
    before = contents(run)
    assert not (run / "members/index.json").exists()

    assert "complete after fold" not in finish(start("tune", *arguments))  # no trial again
    assert contents(run)["judges/judge-00.safetensors"] == before["judges/judge-00.safetensors"]
    assert_same_outcome(run, tuned)


@pytest.mark.timeout(3 * SLOW)
def test_a_search_of_whole_networks_goes_on_after_worker_trial_and_driver_were_killed(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    arguments = settings(
        home, signs_folder, "networks", 1, *TUNED, "--search.trial=finetune", "--search.folds=2",
        "--ensemble.size=1",
    )  # fmt: skip
    run = home / "networks"

    def checkpoints(fold: int) -> set[Path]:
        return set(run.glob(f"train/trial-0000-fold-{fold}/training/checkpoint_*"))

    command = start("tune", *arguments)
    of = command.process.pid
    assert wait_for(lambda: checkpoints(0), SLOW), command.err
    worker, seen = process("ray::RayTrainWorker", "sid", of), checkpoints(0)
    os.kill(worker, signal.SIGKILL)
    assert wait_for(lambda: process("ray::RayTrainWorker", "sid", of) not in (0, worker), SLOW)
    assert wait_for(lambda: checkpoints(0) - seen, SLOW), command.err
    os.kill(process("ray::ImplicitFunc", "sid", of), signal.SIGKILL)
    fold = run / "trials/0000/fold-0.safetensors"
    killed(command, lambda: fold.exists() and bool(checkpoints(1)))
    before = contents(run)
    finish(start("tune", *arguments))
    assert_kept(run, {str(fold.relative_to(run)): before[str(fold.relative_to(run))]})
    record = records(run)[0]
    assert record["status"] == "complete"
    assert record["params"]["backbone_rate"] == FinetuneConfig().backbone_rate
    assert [fold["epochs"] for fold in record["folds"]] == [12, 12]
    card = load(run / "members/member-00.safetensors").card
    assert (card.fold, card.finetune.layers) == (-1, "last")
    assert not (run / "judges").exists()  # the trials' own networks have judged
    assert not list(run.glob("train/trial-*"))
    assert json.loads((run / "metrics.json").read_text())["about"]["members"] == 1


@pytest.mark.timeout(2 * SLOW)
def test_one_setting_fine_tuned_by_two_workers(
    home: Path, signs_folder: Path, start: Callable[..., Command]
) -> None:
    """Also ensemble.members folds: the judges are the members."""
    arguments = settings(
        home, signs_folder, "two", 1, "--ensemble.size=1", "--finetune.layers=conv3+",
        "--finetune.epochs=1", "--finetune.batch_size=16", "--ensemble.members=folds",
        "--scale.workers=2", "--rejection.left_out=0",
    )  # fmt: skip
    finish(start("train", *arguments))
    run = home / "two"
    index = json.loads((run / "members/index.json").read_text())
    assert [entry["fold"] for entry in index["members"]] == [0, 1, 2]
    assert not (run / "judges").exists()
    finish(start("evaluate", f"--run={run}", "--evaluate.images=10", "--evaluate.bootstrap=20"))
    assert json.loads((run / "metrics.json").read_text())["about"]["members"] == 3


@pytest.mark.timeout(SLOW)
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("--scale.workers=64", "error: scale.workers is 64: the cluster has "),
        ("--scale.gpus_per_worker=1", "the cluster has 0 GPUs; 0 trains on CPUs"),
    ],
)
def test_workers_that_do_not_fit_are_refused_before_the_search(
    home: Path, signs_folder: Path, start: Callable[..., Command], asked: str, message: str
) -> None:
    command = start("tune", *settings(home, signs_folder, "large", 2, *TUNED, asked))
    assert command.ended() == 2
    assert message in command.err
    assert len(command.err.splitlines()) == 1
    assert not (home / "large").exists()


# --- elsewhere ------------------------------------------------------------------------------------


@pytest.mark.timeout(2 * SLOW)
def test_a_run_on_an_object_store(
    signs_folder: Path,
    tmp_path: Path,
    start: Callable[..., Command],
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed and gone on with, its copies lost meanwhile; evaluated, and asked for answers."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # its sockets' paths must be short
    at = f"s3://{s3.bucket}/signs"
    run = place(f"{at}/one")
    arguments = settings(
        tmp_path / "nowhere", signs_folder, "one", 4, f"--run.storage={at}",
        "--data.cache=null", "--search.concurrent=2", "--rejection.left_out=1",
    )  # fmt: skip

    def on_another_machine(number: int) -> None:
        """Nothing but what the bucket holds goes from one call to the next."""
        (tmp_path / f"tmp-{number}").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / f"tmp-{number}"))

    on_another_machine(1)
    killed(start("tune", *arguments), lambda: any(run.glob("trials/*/trial.json")))
    kept = {path.parent.name: path.read_bytes() for path in run.glob("trials/*/trial.json")}
    shards = sorted(place(at).glob("features/*/shards/*"))
    assert kept and shards

    on_another_machine(2)
    said = finish(start("tune", *arguments, "--until", "ensemble"))
    assert said.startswith(f"run folder: {run}\n")
    assert f"{len(kept)} trials are kept from before" in said
    assert "features computed" not in said
    assert sorted(place(at).glob("features/*/shards/*")) == shards
    records = {path.parent.name: path.read_bytes() for path in run.glob("trials/*/trial.json")}
    assert sorted(records) == ["0000", "0001", "0002", "0003"]
    assert {name: records[name] for name in kept} == kept
    with at_hand(run / "study.journal") as journal:
        assert '"state":1,' in journal.read_text()  # Optuna's word for a complete trial
    assert any(run.glob("ray/search-*"))

    on_another_machine(3)
    few = ("--evaluate.images=10", "--evaluate.bootstrap=20", "--wandb.mode=disabled")
    finish(start("evaluate", "--run", str(run), *few))
    assert read_json(run / "metrics.json")["readings"] == 1
    assert (run / "report.html").is_file() and any(run.glob("figures/risk-coverage.svg"))
    said = finish(start("predict", "--run", str(run), str(signs_folder / "dan" / "bar")))
    assert len(said.splitlines()) == 7  # images and how long they took
    assert not [path for path in run.glob("*") if path.name.startswith(".")]  # nothing half done
    assert not (tmp_path / "nowhere").exists()
    assert not list(tmp_path.rglob("s3*"))

"""tune, train and evaluate as commands, and what wandb's offline files hold of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from wandb_files import Logged, logged
from wandb_home import closed_port, wandb_environment

from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.tracking.wandb_runs import flat

ROOT = Path(__file__).parents[2]
SLOW = 300
TINY = {
    "data.near_labels": "[wave]",
    "data.test_signers": "[dan]",
    "data.size": "64",
    "data.crop": "none",
    "data.augmentations": "1",
    "search.folds": "3",
}
TUNED = {
    **TINY,
    "search.trials": "2",
    "member.widths": "[16, 8]",
    "member.epochs": "2",
    "ensemble.size": "2",
    "finetune.layers": "none",
    "rejection.held_out_groups": "0",
    "evaluate.images": "10",
    "evaluate.bootstrap": "10",
}


def arguments(signs: Path, home: Path, settings: dict[str, str]) -> list[str]:
    given = {**settings, "data.root": str(signs), "run.root": str(home)}
    return [f"--{name}={value}" for name, value in given.items()]


def call(name: str, given: list[str], environment: dict[str, str], folder: Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", f"sign_ensemble.{name}", *given],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SLOW,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def outage(home: Path, signs_folder: Path) -> tuple[RunFolder, str]:
    """A tune whose W&B server does not answer, and its output."""
    environment = {**wandb_environment(home), **closed_port()}
    given = [*arguments(signs_folder, home, TUNED), "--run.name=outage", "--wandb.mode=online"]
    return RunFolder(home / "outage"), call("tune", given, environment, home)


def by_type(run: RunFolder) -> dict[str, list[Logged]]:
    found: dict[str, list[Logged]] = {}
    for each in logged(run):
        found.setdefault(each.run.job_type, []).append(each)
    return found


@pytest.mark.timeout(SLOW)
def test_an_outage_is_one_warning_and_the_run_succeeds(outage: tuple[RunFolder, str]) -> None:
    run, out = outage
    lines = [line for line in out.splitlines() if "W&B" in line or "wandb" in line.lower()]
    lines = [line for line in lines if not line.startswith("still logging")]  # a busy machine
    assert len(lines) == 1
    assert "logging offline" in lines[0] and "wandb sync" in lines[0]
    assert run.metrics.is_file() and run.report.is_file()


@pytest.mark.timeout(SLOW)
def test_the_command_it_printed_finds_every_run(outage: tuple[RunFolder, str]) -> None:
    run, out = outage
    (line,) = [line for line in out.splitlines() if "wandb sync" in line]
    folders = Path(line.split("wandb sync ")[1]).parent
    assert folders == Path(str(run.path)) / "wandb"
    found = sorted(folders.glob("offline-run-*"))
    assert len(found) == 3
    for folder in found:  # each has the one file that a sync reads
        assert len(list(folder.glob("run-*.wandb"))) == 1


@pytest.mark.timeout(SLOW)
def test_tune_logs_each_trial_and_the_evaluation(outage: tuple[RunFolder, str]) -> None:
    run, _ = outage
    found = by_type(run)
    assert {kind: len(runs) for kind, runs in found.items()} == {"trial": 2, "evaluate": 1}
    assert {each.run.run_group for runs in found.values() for each in runs} == {"outage"}
    for each in found["trial"]:
        record = json.loads((run.trial(each.config["number"]) / "trial.json").read_text())
        for name, value in record["params"].items():
            assert each.config[name] == value
        assert each.config["status"] == record["status"]
        assert [row["nll"] for row in each.history] == [f["nll"] for f in record["folds"]]
        assert {row["fold"] for row in each.history} <= {"ada", "ben", "cleo"}
        assert each.summary["nll"] == pytest.approx(
            sum(fold["nll"] for fold in record["folds"]) / len(record["folds"])
        )
        (made,) = each.all_artifacts
        assert made.type == "trial"
        (file,) = made.manifest.contents
        assert json.loads(Path(file.local_path).read_text()) == record


def check_evaluation(run: RunFolder, seen: Logged) -> None:
    tree = json.loads(Path(str(run.metrics)).read_text())
    for name, value in flat(tree).items():
        assert seen.summary[name] == value, name
    tables = {name.split(".")[0] for each in seen.history for name in each}
    assert {"sets", "answers", "gallery", "trials", "plots/risk-coverage"} <= tables
    used = {each.type for each in seen.all_artifacts if each.use_after_commit}
    assert used == {"manifest", "trial"}
    assert "ensemble" in {each.type for each in seen.all_artifacts if not each.use_after_commit}


@pytest.mark.timeout(SLOW)
def test_the_evaluation_holds_figures_tables_and_lineage(outage: tuple[RunFolder, str]) -> None:
    run, _ = outage
    (seen,) = by_type(run)["evaluate"]
    check_evaluation(run, seen)


@pytest.mark.timeout(SLOW)
def test_evaluate_logs_as_tune_does(outage: tuple[RunFolder, str], home: Path) -> None:
    before, _ = outage
    run = RunFolder(home / "again")
    shutil.copytree(str(before.path), str(run.path), ignore=shutil.ignore_patterns("wandb", "ray"))
    given = [f"--run={run.path}", "--evaluate.again=true", "--evaluate.images=10"]
    given += ["--evaluate.bootstrap=10", "--wandb.mode=offline"]
    call("evaluate", given, wandb_environment(home), home)
    ((kind, (seen,)),) = by_type(run).items()
    assert (kind, seen.run.run_group) == ("evaluate", "again")
    check_evaluation(run, seen)
    assert seen.summary["evaluations"] == 2


@pytest.fixture(scope="module")
def sweep() -> Any:
    return yaml.safe_load((ROOT / "configs" / "wandb-sweep.yaml").read_text())


@pytest.fixture
def swept(
    sweep: Any, home: Path, signs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A run that wandb's agent starts as the sweep file defines; only its server is missing."""
    from wandb.wandb_agent import Agent

    folder = home / "agent"
    folder.mkdir()
    environment = {**wandb_environment(home), "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    environment |= {"WANDB_SWEEP_ID": "mysweep", "WANDB_PROJECT": "agents", "WANDB_DIR": "."}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    agent = Agent(None, None, sweep_id="mysweep")
    agent._sweep_command = sweep["command"]
    chosen = {name: each["value"] for name, each in sweep["parameters"].items() if "value" in each}
    chosen |= {name: each["values"][-1] for name, each in sweep["parameters"].items()
               if "values" in each}  # fmt: skip
    chosen |= {name: each["max"] for name, each in sweep["parameters"].items() if "max" in each}
    # The sizes of this test; the names and the form of all others are the file's.
    chosen |= {"data.root": str(signs_folder), "member.widths": [16, 8], "member.epochs": 2}
    chosen |= {
        "search.folds": 3,
        "data.size": 64,
        "data.augmentations": 1,
        "data.test_signers": ["dan"],
    }
    args = {name: {"value": value} for name, value in chosen.items()}
    agent._command_run({"run_id": "r1", "program": sweep["program"], "args": args})
    process = agent._run_processes["r1"]
    assert process._popen.wait(SLOW) == 0
    wandb.teardown()
    yield folder, chosen
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent has set them
        os.environ.pop(name, None)


@pytest.mark.timeout(SLOW)
def test_the_agent_runs_train_as_the_sweep_file_defines(
    swept: tuple[Path, dict[str, Any]], sweep: Any
) -> None:
    folder, chosen = swept
    (made,) = [path for path in (folder / "runs").iterdir() if (path / "config.yaml").is_file()]
    run = RunFolder(made)
    settings = yaml.safe_load((made / "config.yaml").read_text())
    for name, value in chosen.items():
        group, key = name.split(".")
        assert settings[group][key] == value, name
    for name in ("trials.parquet", "members/index.json", "rule.json"):
        assert (made / name).is_file()
    (seen,) = logged(run)
    assert (seen.run.job_type, seen.run.sweep_id, seen.run.run_id) == ("train", "mysweep", "r1")
    assert seen.config["dropout"] == chosen["member.dropout"]
    assert len(seen.history) == 3
    assert seen.summary[sweep["metric"]["name"]] > 0
    assert [each.type for each in seen.all_artifacts] == ["trial"]

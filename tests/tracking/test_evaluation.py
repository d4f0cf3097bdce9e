"""What the evaluation logs: tables with pictures, plots, and where the ensemble comes from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image
from wandb_files import Logged, logged
from wandb_home import wandb_environment

from sign_ensemble.core.atomic_files import file_sha256, read_json, write_json
from sign_ensemble.core.config import WandbConfig
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.rejection import answers_table
from sign_ensemble.report.write_report import write_report
from sign_ensemble.tracking import Tracker
from sign_ensemble.tracking.wandb_runs import flat

SIZES = {"known": ("known", 40), "gestures": ("near", 12), "noise": ("far", 12)}


@pytest.fixture(scope="module")
def run(drawn_run: Callable[..., Path]) -> RunFolder:
    made = RunFolder(drawn_run("evaluated", 6, SIZES))
    for number in range(6):
        write_json(made.trial(number) / "trial.json", {"number": number})
    (made.path / "members" / "member-00.safetensors").write_bytes(b"weights")
    write_report([made], made.report)
    return made


@pytest.fixture(scope="module")
def seen(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in wandb_environment(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        patch.setattr("sign_ensemble.tracking.tracker.QUIET_SECONDS", 600)  # a busy machine
        wandb.teardown()
        tracker = Tracker(WandbConfig("offline"), run, pytest.fail)
        tree = read_json(run.metrics)
        tracker.evaluation(tree["about"], tree, [run.members, run.rule])
        tracker.close()
        wandb.teardown()
    (found,) = logged(run)
    return found


def table(run: RunFolder, name: str) -> Any:
    (file,) = (Path(str(run.path)) / "wandb").rglob(f"media/table/{name}_*.table.json")
    return json.loads(file.read_text())


def test_summary_is_metrics_json(run: RunFolder, seen: Logged) -> None:
    figures = flat(read_json(run.metrics))
    assert len(figures) > 200
    for name, value in figures.items():
        assert seen.summary[name] == value, name
    assert seen.config["rule"] == read_json(run.metrics)["about"]["rule"]


def test_every_image_has_its_votes_and_answer(run: RunFolder, seen: Logged) -> None:
    rows = answers_table.read(run.answers).to_pylist()
    found = table(run, "answers")
    assert len(found["data"]) == len(rows) == 64
    for row, data in zip(rows, found["data"], strict=True):
        shown = dict(zip(found["columns"], data, strict=True))
        assert {"votes", "accepted", "deciding_score", "reason"} <= set(shown)
        assert shown == {name: row[name] for name in shown}


def test_the_gallery_has_its_pictures(run: RunFolder, seen: Logged) -> None:
    rows = [row for row in answers_table.read(run.answers).to_pylist() if row["gallery"]]
    (stored,) = [each for each in seen.all_artifacts if each.name.endswith("-gallery")]
    files = {file.path: Path(file.local_path) for file in stored.manifest.contents}
    found = json.loads(files["gallery.table.json"].read_text())
    assert len(found["data"]) == len(rows) > 5
    for row, data in zip(rows, found["data"], strict=True):
        shown = dict(zip(found["columns"], data, strict=True))
        assert (shown["gallery"], shown["votes"]) == (row["gallery"], row["votes"])
        picture = files[shown["picture"]["path"]]
        with Image.open(picture) as logged_one, Image.open(io.BytesIO(row["picture"])) as kept:
            assert logged_one.size == kept.size


def test_trials_and_plots_are_there(run: RunFolder, seen: Logged) -> None:
    assert [row[0] for row in table(run, "trials")["data"]][-1] == 5  # the failed one is last
    plots = {path.stem for path in Path(str(run.figures)).glob("*.png")}
    keys = {key.split(".")[0] for row in seen.history for key in row}
    assert {f"plots/{name}" for name in plots} <= keys
    assert "risk_coverage_table" in keys


def test_the_ensemble_names_its_manifest_and_trials(run: RunFolder, seen: Logged) -> None:
    made = [record for record in seen.all_artifacts if not record.use_after_commit]
    assert [record.type for record in made if record.type != "run_table"] == ["ensemble"]
    (ensemble,) = [record for record in made if record.type == "ensemble"]
    assert json.loads(ensemble.metadata) == {"manifest_sha256": file_sha256(run.manifest)}
    assert {file.path for file in ensemble.manifest.contents} == {
        "members/index.json", "members/member-00.safetensors", "rule.json",
    }  # fmt: skip
    used = [record for record in seen.all_artifacts if record.use_after_commit]
    trials = sorted({entry["trial"] for entry in read_json(run.members / "index.json")["members"]})
    assert sorted(record.name for record in used) == [
        "manifest-evaluated", *[f"trial-{number:04d}-evaluated" for number in trials],
    ]  # fmt: skip
    for record in used:
        (file,) = record.manifest.contents
        assert Path(file.local_path).is_file()
        if record.type == "trial":
            assert json.loads(Path(file.local_path).read_text())["number"] in trials

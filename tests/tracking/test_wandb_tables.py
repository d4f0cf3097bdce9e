"""Tables and pictures, read back from the files that wandb writes offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import wandb
from PIL import Image
from wandb_files import Logged
from wandb_home import wandb_environment

from sign_ensemble.core.atomic_files import read_json
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.rejection import answers_table
from sign_ensemble.report.write_report import write_report
from sign_ensemble.tracking.wandb_tables import (
    ANSWERS,
    SET_COLUMNS,
    plots,
    set_rows,
    table_of,
    tables,
)

SIZES = {"known": ("known", 40), "gestures": ("near", 12), "noise": ("far", 12)}
COLUMNS = ["word", "number", "yes", "maybe", "never", "picture"]


@pytest.fixture(autouse=True)
def no_wandb_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in wandb_environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture(scope="module")
def run(drawn_run: Callable[..., Path]) -> RunFolder:
    made = RunFolder(drawn_run("tables", 6, SIZES))
    write_report([made], made.report)
    return made


def read_back(logged: dict[str, Any], folder: Path) -> tuple[Logged, dict[str, Any]]:
    """An offline run that logged this; the tables as artifacts hold them, by name."""
    settings = wandb.Settings(silent=True, console="off", disable_git=True)
    one = wandb.init(mode="offline", dir=folder, reinit="create_new", settings=settings)
    one.log(logged)
    one.finish()
    wandb.teardown()
    (made,) = (folder / "wandb").glob("offline-run-*")
    seen = Logged(made)
    found = {}
    for artifact in seen.all_artifacts:
        for file in artifact.manifest.contents:
            if file.path.endswith(".table.json"):
                content = json.loads(Path(file.local_path).read_text())
                found[file.path.removesuffix(".table.json")] = content
    return seen, found


def picture(folder: Path, grey: int) -> Any:
    path = folder / f"{grey}.png"
    Image.new("L", (4, 4), grey).save(path)
    return wandb.Image(str(path))


def test_rows_types_and_columns_are_those_that_wandb_makes_row_by_row(tmp_path: Path) -> None:
    rows = [
        ["a", float("nan"), True, None, None, picture(tmp_path, 1)],
        ["", 2, False, 0.25, None, picture(tmp_path, 2)],
        ["ü\n", -3.5, True, None, None, picture(tmp_path, 3)],
    ]
    quick = table_of(COLUMNS, rows)
    slow = wandb.Table(columns=list(COLUMNS), data=[])
    for row in rows:
        slow.add_data(*row)
    _, found = read_back({"quick": quick, "slow": slow}, tmp_path)
    assert found["quick"] == found["slow"]
    assert found["quick"]["columns"] == COLUMNS
    without = [row[:-1] for row in found["quick"]["data"]]
    assert without[1:] == [row[:-1] for row in rows[1:]]
    types = found["quick"]["column_types"]["params"]["type_map"]
    expected = ("string", "number", "boolean", "number", None, "image-file")
    for name, kind in zip(COLUMNS, expected, strict=True):
        allowed = {each["wb_type"] for each in types[name].get("params", {})["allowed_types"]}
        assert allowed - {"none", "unknown"} == ({kind} if kind else set()), name


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    _, found = read_back({"empty": table_of(COLUMNS, [])}, tmp_path)
    assert (found["empty"]["columns"], found["empty"]["data"]) == (COLUMNS, [])


def test_tables_hold_what_the_run_holds(run: RunFolder, tmp_path: Path) -> None:
    tree = read_json(run.metrics)
    (tmp_path / "pictures").mkdir()
    made = tables(run, tree, tmp_path / "pictures")
    _, found = read_back(made, tmp_path)
    rows = answers_table.read(run.answers).to_pylist()
    assert found["answers"]["columns"] == list(ANSWERS)
    assert found["answers"]["data"] == [[row[name] for name in ANSWERS] for row in rows]
    assert found["sets"]["columns"] == list(SET_COLUMNS)
    assert found["sets"]["data"] == set_rows(tree["sets"])
    trials = pq.read_table(run.trials_table)
    assert found["trials"]["columns"] == trials.column_names
    assert found["trials"]["data"] == [list(row.values()) for row in trials.to_pylist()]
    shown = [row for row in rows if row["gallery"]]
    assert found["gallery"]["columns"] == ["gallery", "picture", *ANSWERS]
    for row, data in zip(shown, found["gallery"]["data"], strict=True):
        cells = [row["gallery"], *[row[name] for name in ANSWERS]]
        assert [data[0], *data[2:]] == cells and data[1]["_type"] == "image-file"


def test_pictures_are_byte_for_byte_those_of_the_report(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    made = tables(run, read_json(run.metrics), tmp_path / "pictures")
    seen, found = read_back({"gallery": made["gallery"]}, tmp_path)
    files = {f.path: f.local_path for a in seen.all_artifacts for f in a.manifest.contents}
    rows = [row for row in answers_table.read(run.answers).to_pylist() if row["gallery"]]
    for row, data in zip(rows, found["gallery"]["data"], strict=True):
        assert Path(files[data[1]["path"]]).read_bytes() == row["picture"]
        assert (data[1]["format"], data[1]["width"]) == ("jpg", 112)


def test_plots_are_byte_for_byte_those_of_the_report(run: RunFolder, tmp_path: Path) -> None:
    made = plots(run, {}, tmp_path)
    seen, _ = read_back(made, tmp_path)
    (row,) = seen.history
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    expected = {path.stem: path.read_bytes() for path in Path(str(run.figures)).glob("*.png")}
    assert set(made) == {f"plots/{name}" for name in expected} and len(expected) > 5
    for name, content in expected.items():
        assert (folder / "files" / row[f"plots/{name}.path"]).read_bytes() == content


def test_a_missing_number_is_null(tmp_path: Path) -> None:
    _, found = read_back({"t": table_of(["x"], [[None], [np.float64(0.5)]])}, tmp_path)
    assert found["t"]["data"] == [[None], [0.5]]

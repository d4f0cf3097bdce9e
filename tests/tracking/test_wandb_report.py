"""The W&B Report's specification, against wandb-workspaces' own model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wandb_home import closed_port
from wandb_workspaces.reports.v2 import internal

from sign_ensemble.core.config import SearchConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.report.__main__ import main
from sign_ensemble.search.space import distributions
from sign_ensemble.tracking import wandb_report


def found(value: Any, key: str) -> list[Any]:
    """Every value under a key, anywhere below."""
    if isinstance(value, dict):
        here = [value[key]] if key in value else []
        return here + [each for below in value.values() for each in found(below, key)]
    if isinstance(value, list):
        return [each for below in value for each in found(below, key)]
    return []


def keeps(after: Any, before: Any) -> bool:
    """Whether everything in ``before`` is in ``after``; the model may add defaults."""
    if isinstance(before, dict):
        return all(name in after and keeps(after[name], before[name]) for name in before)
    if isinstance(before, list):
        pairs = zip(after, before, strict=True)
        return len(after) == len(before) and all(keeps(*pair) for pair in pairs)
    return after == before


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("spec") / "spec.json"
    main(["--wandb", "team/signs", "--run", "runs/photos", "--dry-run", "--out", str(path)])
    return json.loads(path.read_text())


def test_the_specification_is_one_of_wandb_workspaces(written: Any) -> None:
    assert (written["entity"], written["project"]) == ("team", "signs")
    model = internal.Spec.model_validate(written["spec"])
    again = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    assert keeps(again, written["spec"])


def test_it_holds_the_panels(written: Any) -> None:
    views = found(written["spec"], "viewType")
    assert views.count("Parallel Coordinates Plot") == views.count("Parameter Importance") == 1
    assert views.count("Media Browser") == 1 and views.count("Bar Chart") == 2
    (columns,) = [each for each in found(written["spec"], "columns") if each]
    names = [column["accessor"] for column in columns]
    params = distributions(SearchConfig())
    assert names == [*[f"config:{name}.value" for name in params], "summary:nll"]
    logarithmic = {column["accessor"] for column in columns if column.get("log")}
    assert logarithmic == {"config:learning_rate.value", "config:weight_decay.value"}
    assert found(written["spec"], "targetKey") == ["nll"]
    assert found(written["spec"], "val") == ["sets", "gallery", "trials"]


def test_run_sets_are_the_groups(written: Any) -> None:
    filters = [each["filters"] for each in found(written["spec"], "filters") if "filters" in each]
    wanted = [
        {"jobType": ["trial", "train"], "group": "photos"},
        {"jobType": "evaluate", "group": "photos"},
        {"jobType": "evaluate", "group": "photos"},
    ]
    assert [{f["key"]["name"]: f["value"] for f in each} for each in filters] == wanted


def test_without_a_run_it_takes_the_whole_project() -> None:
    made = wandb_report.report("team", "signs", None, {"dropout": False}, ["noise"])
    keys = found(wandb_report.specification(made)["spec"], "key")
    assert not [key for key in keys if key == {"section": "run", "name": "group"}]


def test_a_name_with_quotes_stays_one_name() -> None:
    name = 'it\'s "own" or 1 == 1'
    made = wandb_report.report("team", "signs", name, {"dropout": False}, ["noise"])
    values = found(wandb_report.specification(made)["spec"], "value")
    assert values.count(name) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wandb", "signs"], "is signs: it must be ENTITY/PROJECT"),
        (["--dry-run"], "goes with --wandb"),
        (["--wandb", "a/b", "--run", "x", "y"], "takes one run"),
        ([], "name a run's folder"),
        (["--run", "runs/a", "other/a"], "two runs are called a"),
        (["--run", "runs/a", "runs/b"], "name the file for the page of several"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_no_server_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in closed_port().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match=r"W&B: .*") as raised:
        main(["--wandb", "team/signs"])
    assert "\n" not in str(raised.value)

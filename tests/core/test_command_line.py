"""Arguments, YAML and help say the same as config.py."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from sign_ensemble.core.command_line import config_of, named_paths, parser_for
from sign_ensemble.core.config import Config
from sign_ensemble.core.names import Name
from sign_ensemble.core.run_folder import plain_dict

COMMANDS = ("tune", "train", "evaluate", "predict")
SETTINGS = [
    f"{group.name}.{setting.name}"
    for group in fields(Config)
    for setting in fields(getattr(Config(), group.name))
]


def parsed(*arguments: str) -> Config:
    parser = parser_for("tune", "")
    return config_of(parser, parser.parse_args(named_paths(arguments)))


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def help_text() -> str:
    return parser_for("tune", "").format_help()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_slow(command: str) -> None:
    """torch and ray take seconds; without them help takes a few tenths of one."""
    shown = run_python("-X", "importtime", "-m", f"sign_ensemble.{command}", "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: ")
    assert f"python -m sign_ensemble.{command}" in shown.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in shown.stderr.splitlines()}
    assert "sign_ensemble.core.command_line" in loaded
    assert loaded.isdisjoint({"torch", "ray", "optuna", "wandb", "pyarrow", "scipy"})


@pytest.mark.parametrize("setting", SETTINGS)
def test_help_describes_every_setting(setting: str, help_text: str) -> None:
    found = re.search(rf"^  --{re.escape(setting)} ?(.*?)(?=^  --|^\S|\Z)", help_text, re.M | re.S)
    assert found, f"--{setting} is missing"
    described = re.sub(r"\(type: .*", "", found[1], flags=re.S)
    described = re.sub(r"^\S*[A-Z{\[]\S*|^ *\[?[A-Z_.,{}\[\] ]+\n", "", described)
    assert len(re.findall(r"[a-z]{2,}", described)) >= 2, found[0]


def test_printed_config_read_again_is_the_same(tmp_path: Path) -> None:
    given = (
        "--data.root=a b/é", "--data.labels=[5, '007', 'on']", "--data.near_labels=[x]",
        "--data.test_signers=[1]", "--member.widths=[16, 8]", "--search.time_budget=90",
        "--search.dropout=[0.1, 0.2]", "--search.h1=[16, 32, 64]",
        "--rejection.target_coverage=0.9",
        "--evaluate.far", "stairs=photos/stairs", "--wandb.entity=null",
    )  # fmt: skip
    printed = run_python("-m", "sign_ensemble.tune", *named_paths(given), "--print_config")
    assert printed.returncode == 0, printed.stderr
    assert printed.stderr == ""
    file = tmp_path / "all.yaml"
    file.write_text(printed.stdout)
    again = run_python("-m", "sign_ensemble.tune", "--config", str(file), "--print_config")
    assert again.stdout == printed.stdout
    values = yaml.safe_load(printed.stdout)
    assert values.pop("until") == "evaluate"
    assert values == plain_dict(parsed(*given))
    file.write_text(yaml.safe_dump(values))
    assert parsed("--config", str(file)) == parsed(*given)
    assert values["data"]["labels"] == ["5", "007", "on"]
    assert values["evaluate"]["far"] == {"stairs": "photos/stairs"}


def test_defaults_are_those_of_the_dataclasses() -> None:
    assert parsed() == Config()


def test_arguments_override_the_file_from_left_to_right(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("search:\n  trials: 7\n  folds: 3\nensemble:\n  size: 2\n")
    config = parsed("--search.folds=5", "--config", str(file), "--search.trials=9")
    assert (config.search.trials, config.search.folds, config.ensemble.size) == (9, 3, 2)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[5]", ["5"]),
        ('["007"]', ["007"]),
        ("['on', 'no']", ["on", "no"]),
        ("[anna, 12, b c]", ["anna", "12", "b c"]),
        ("[]", []),
        ("[é, 你]", ["é", "你"]),
        ("[e\u0301, ' a ']", ["é", "a"]),
        (
            "[01, 1_000, 0x10, 1e3, 1.50, 1:30, .inf]",
            ["01", "1_000", "0x10", "1e3", "1.50", "1:30", ".inf"],
        ),
        ("[on, No, true, null, ~, 2024-01-01]", ["on", "No", "true", "null", "~", "2024-01-01"]),
    ],
)
def test_names_are_what_was_typed(text: str, names: list[str], tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    for setting in ("labels", "near_labels", "far_labels", "test_signers"):
        file.write_text(f"data: {{{setting}: {text}}}")
        given = [(f"--data.{setting}", text), (f"--data.{setting}={text}",)]
        for arguments in [*given, ("--config", str(file)), ("--data", f"{{{setting}: {text}}}")]:
            found = getattr(parsed(*arguments).data, setting)
            assert found == names
            assert all(type(name) is Name for name in found)


def test_other_texts_of_a_file_are_what_was_typed(tmp_path: Path) -> None:
    """Null stays null, and numbers stay numbers."""
    file = tmp_path / "texts.yaml"
    file.write_text(
        "data: {root: 2024_05, labels: null, size: 0x80}\nrun:\n  name: 007\n  storage:\n"
        "scale: {workers: 1:4}\nsearch: {learning_rate: [1e-4, 1e-3]}\n"
        "evaluate:\n  far: {01: 1.0, on: no}\n"
    )
    config = parsed("--config", str(file))
    assert (config.data.root, config.data.labels, config.data.size) == ("2024_05", None, 128)
    assert (config.run.name, config.run.storage) == ("007", None)
    assert config.scale.least_and_most == (1, 4)
    assert config.search.learning_rate == (1e-4, 1e-3)
    assert config.evaluate.far == {"01": "1.0", "on": "no"}
    assert parsed("--data.labels=null", "--data.near_labels+", "01").data.near_labels == ["01"]


@pytest.mark.parametrize("text", ["[[a]]", "[{a: b}]", "[' ']", "[a", "{a: b}"])
def test_what_is_no_name_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--data.test_signers", text)
    assert ended.value.code == 2
    assert "data.test_signers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--evaluate.far", "a=b"], ["--evaluate.far.a=b"]),
        (["--evaluate.far=a=b"], ["--evaluate.far.a=b"]),
        (["--evaluate.near", "a=b/c=d"], ["--evaluate.near.a=b/c=d"]),
        (
            ["--evaluate.far", "a=b", "--evaluate.far", "c=d"],
            ["--evaluate.far.a=b", "--evaluate.far.c=d"],
        ),
        (["--evaluate.far", "{a: b=c}"], ["--evaluate.far", "{a: b=c}"]),
        (["--evaluate.far={a: b=c}"], ["--evaluate.far={a: b=c}"]),
        (["--evaluate.far", "--run.name", "a=b"], ["--evaluate.far", "--run.name", "a=b"]),
        (["--data.root", "a=b"], ["--data.root", "a=b"]),
        (["--evaluate.far.a", "b"], ["--evaluate.far.a", "b"]),
        ([], []),
    ],
)
def test_named_paths(given: list[str], expected: list[str]) -> None:
    assert named_paths(given) == expected


def test_two_far_sets_by_name() -> None:
    config = parsed("--evaluate.far", "a=x", "--evaluate.far=b=y", "--evaluate.near", "c=z")
    assert config.evaluate.far == {"a": "x", "b": "y"}
    assert config.evaluate.near == {"c": "z"}

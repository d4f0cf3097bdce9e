"""What README and configs/ say is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from benchmarks_loaded import benchmark

from sign_ensemble.core.command_line import config_of, parser_for

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_made_from_results() -> None:
    results, tables = ROOT / "benchmarks" / "results", benchmark("tables")
    for page in tables.pages():
        text = page.read_text(encoding="utf-8")
        assert tables.filled(text, results) == text, page.name
    names = (
        "protocol_m", "rejection", "cross_check", "overconfident", "render", "report",
        "wandb_outage", "directions", "overhead", "search", "features", "prediction", "growth",
        "where", "finetune", "two_stages", "confidence", "parts", "objectives",
        "page_faults", "built_in",
    )  # fmt: skip
    for name in (*names, "features_bf16"):
        stored = json.loads((results / f"{name}.json").read_text())
        table = benchmark(name.removesuffix("_bf16")).table  # the same on other hardware
        assert table(stored) == (results / f"{name}.md").read_text()


def test_every_command_named_exists() -> None:
    named = set(re.findall(r"python -m sign_ensemble\.(\w+)", README))
    assert named >= {"tune", "train", "evaluate", "predict"}
    for name in named:
        files = (f"{name}.py", f"{name}/__main__.py")
        assert any((ROOT / "sign_ensemble" / file).is_file() for file in files), name


def test_every_setting_named_exists() -> None:
    known = {action.dest for action in parser_for("tune", "")._actions}
    for group, key in re.findall(r"--(\w+)\.(\w+)", README):
        if group in {"data", "member", "search", "ensemble", "rejection", "evaluate", "wandb"}:
            assert f"{group}.{key}" in known, f"--{group}.{key}"


CONFIGS = [p for p in sorted((ROOT / "configs").glob("*.yaml")) if p.stem != "wandb-sweep"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_configs_parse_and_pass_the_checks(path: Path) -> None:
    parser = parser_for("tune", "")
    config_of(parser, parser.parse_args(["--config", str(path)]))


def test_convolutions_learn_unless_they_are_said_to_be_frozen() -> None:
    def given(*arguments: str) -> tuple[str, int]:
        parser = parser_for("tune", "")
        config = config_of(parser, parser.parse_args(list(arguments)))
        return config.finetune.layers, config.ensemble.size

    assert given() == given(f"--config={ROOT / 'configs' / 'finetune.yaml'}") == ("all", 3)
    assert given(f"--config={ROOT / 'configs' / 'frozen.yaml'}") == ("none", 5)

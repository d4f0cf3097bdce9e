"""What README, docs/ and configs/ say is what there is."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks_loaded import benchmark

from sign_ensemble.core.command_line import Parser, config_of, parser_for
from sign_ensemble.core.config import Config
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.rejection.scores import SCORES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
COMMANDS = ("tune", "train", "evaluate", "predict", "export", "report", "synthesize")
NOT_RUN = "# not run in the tests"  # a block's first line begins with this or RUN_BY, or is parsed
RUN_BY = re.compile(r"# run by (tests/\S+\.py)")
SHELL = ("export", "cd", "pip", "source")  # lines of a block that are no program of this package


def name_of(page: Path) -> str:
    """The page's path in the project."""
    return page.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    """The text without fenced and indented blocks."""
    return re.sub(
        r"^(?: {4,}|\t).*$", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.M
    )


def test_readme_is_two_pages() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 180


# Figures


def test_tables_are_made_from_results() -> None:
    tables = benchmark("tables")
    for page in tables.pages():
        text = page.read_text(encoding="utf-8")
        assert tables.filled(text, RESULTS) == text, page.name
    for path in sorted(RESULTS.glob("*.json")):
        name = re.sub(r"_bf16$", "", path.stem)  # the same benchmark, run otherwise
        table = benchmark(name).table(json.loads(path.read_text()))
        assert table == path.with_suffix(".md").read_text(), path.name
    protocol_m = json.loads((RESULTS / "protocol_m.json").read_text())
    assert benchmark("summary").table(protocol_m) == (RESULTS / "summary.md").read_text()


def test_figures_in_readme_are_settings_or_results() -> None:
    prose = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", README.read_text(), flags=re.DOTALL)
    figures = set(re.findall(r"(?<![\w.])\d*\.\d+", without_blocks(prose)))
    known = {str(value) for group in vars(Config()).values() for value in vars(group).values()}
    known |= {
        "2.0",
        "3.11",
        "0.90",
    }  # of a licence, of Python, and metrics.json's bar of confidence
    measured = "".join(path.read_text() for path in RESULTS.glob("*.md"))
    assert {each for each in figures - known if each not in measured} == set()


# Commands and settings


def blocks(page: Path) -> Iterator[list[str]]:
    """The commands of each fenced block of shell, a line each; with its first comment, if any."""
    for body in re.findall(r"```(?:bash|sh|shell|console)\n(.*?)```", page.read_text(), re.DOTALL):
        yield body.replace("\\\n", " ").strip().splitlines()


def cases() -> list[tuple[str, str]]:
    """Page and command, of blocks that are not marked as not run or run by another test."""
    return [
        (name_of(page), line.strip())
        for page in PAGES
        for lines in blocks(page)
        if not lines[0].startswith(NOT_RUN) and not RUN_BY.match(lines[0])
        for line in lines
        if line.strip() and not line.startswith("#") and line.split()[0] not in SHELL
    ]


class ParsedError(Exception):
    """Arguments were accepted; nothing is run."""


def parse(command: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a command parse its arguments, and check the settings of the main job.

    Raises:
        SystemExit: they are refused.
    """
    accepted = Parser.parse_args

    def parse_args(self: Parser, *given: Any, **more: Any) -> Any:
        parsed = accepted(self, *given, **more)
        if command in ("tune", "train"):
            config_of(self, parsed)
        raise ParsedError

    monkeypatch.setattr(Parser, "parse_args", parse_args)
    module = f"sign_ensemble.{command}" + (".__main__" if command == "report" else "")
    with pytest.raises(ParsedError):
        importlib.import_module(module).main(arguments)


@pytest.mark.parametrize(("page", "line"), cases())
def test_command_is_accepted(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
        named = dict(word.split("=", 1) for word in words[2:])
        assert set(named) <= {"DATA", "NAME", "ARGS"}
        assert words[1] != "bench" or (ROOT / "benchmarks" / f"{named['NAME']}.py").is_file()
        if words[1] == "demo":
            parse("tune", shlex.split(named.get("ARGS", "")), monkeypatch)
    elif words[:2] == ["python", "-m"] and words[2].startswith("sign_ensemble."):
        parse(words[2].removeprefix("sign_ensemble."), words[3:], monkeypatch)
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    else:
        pytest.fail(f"{page}: mark the block with {NOT_RUN!r} or name the test that runs it")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_runs_a_block_exists(page: Path) -> None:
    for lines in blocks(page):
        if match := RUN_BY.match(lines[0]):
            assert (ROOT / match[1]).is_file()


def test_every_command_has_an_example() -> None:
    assert {
        name for _, line in cases() for name in re.findall(r"python -m sign_ensemble\.(\w+)", line)
    } == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_named_exists(page: Path) -> None:
    for name in re.findall(r"python -m sign_ensemble\.(\w+)", page.read_text()):
        assert name in COMMANDS


def settings() -> dict[str, Any]:
    """Every setting with its default."""
    return {
        f"{group}.{key}": value
        for group, values in vars(Config()).items()
        for key, value in vars(values).items()
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_setting_named_exists(page: Path) -> None:
    known, text = settings(), page.read_text()
    named = set(re.findall(r"--([a-z]+\.[a-z]\w*)", text))
    groups = "|".join({key.split(".")[0] for key in known} - {"run", "report"})
    files = r"(?:py|json|yaml|md|html|parquet|safetensors)"
    named |= set(
        re.findall(rf"`((?:{groups})\.(?!{files}\b)[a-z]\w*)\b[^`]*`", without_blocks(text))
    )
    assert {name for name in named if name not in known} == set()


def test_defaults_in_readme() -> None:
    known = settings()
    rows = re.findall(r"^\| `--([a-z]+\.\w+)` \| `([^`]*)` \|", README.read_text(), re.MULTILINE)
    assert len(rows) == 10
    for name, default in rows:
        assert yaml.safe_load(default) == (known[name] if known[name] != "1" else 1), name


CONFIGS = [p for p in sorted((ROOT / "configs").glob("*.yaml")) if p.stem != "wandb-sweep"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_configs_parse_and_pass_the_checks(path: Path) -> None:
    parser = parser_for("tune", "")
    config_of(parser, parser.parse_args(["--config", str(path)]))


def test_convolutions_are_frozen_unless_they_are_set_to_learn() -> None:
    def given(*arguments: str) -> tuple[str, int]:
        parser = parser_for("tune", "")
        config = config_of(parser, parser.parse_args(list(arguments)))
        return config.finetune.layers, config.ensemble.size

    assert given() == ("none", 3)
    assert given(f"--config={ROOT / 'configs' / 'finetune.yaml'}") == ("all", 3)


# Links and files


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    text = without_blocks(page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)]\([^)]*\)|`", r"\1", heading).lower()
        found.add(re.sub(r"[^\w -]", "", words).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    links = re.findall(r"]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8")))
    for link in links:
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_reachable() -> None:
    """From the site's navigation, and from README, which is read where the site is not built."""
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": ([\w-]+\.md)$", text, re.MULTILINE))
    assert listed == {page.name for page in DOCS.glob("*.md")}
    from_readme = set(re.findall(r"docs/([\w-]+\.md)", README.read_text()))
    assert from_readme == listed - {"index.md"}


def test_every_picture_is_shown() -> None:
    shown = {
        Path(link).name
        for page in PAGES
        for link in re.findall(r"!\[[^]]*]\(([^)]+)\)", page.read_text())
    }
    assert {path.name for path in DOCS.iterdir() if path.suffix in {".png", ".jpg"}} <= shown


def test_page_on_rejection_lists_the_scores() -> None:
    rows = [f"| `{s.name}` | {s.role} | {s.meaning} | {s.needs} |" for s in SCORES]
    listed = re.findall(r"^\| `\w+` \| .*\|$", (DOCS / "rejection.md").read_text(), re.MULTILINE)
    assert listed == rows


def test_run_folder_is_listed_completely() -> None:
    entries = {name for name, entry in vars(RunFolder).items() if hasattr(entry, "__get__")}
    run = RunFolder(Path("run"))
    paths = {
        path.relative_to("run")
        for name in entries
        if not name.startswith("__") and isinstance(path := getattr(run, name), Path)
    }
    assert len(paths) > 10
    for page, heading in (
        (README, "## What a run leaves"),
        (DOCS / "pipeline.md", "## The run folder"),
    ):
        listed = page.read_text().split(heading)[1].split("\n## ")[0]
        assert {
            path.name for path in paths if len(path.parts) == 1 and path.name not in listed
        } == set()


def test_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    silent = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=silent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr  # --quiet would hide warnings from --strict
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|link)[^>]*?(?:src|href)=[\"']?(https?:[^\"' >]+)", page.read_text()
        )
        assert loaded == [], page.name


PRESENT = [page for page in PAGES if page.name != "design-log.md"]  # it names what was taken out


@pytest.mark.parametrize("page", PRESENT, ids=name_of)
def test_every_file_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|html|sh|yaml))`", page.read_text())
    places = (ROOT, ROOT / "sign_ensemble")
    assert {
        name
        for name in named
        if not name.startswith("runs/") and not any((place / name).exists() for place in places)
    } == set()

"""Imports point one way: data ← learning ← search, and the rules beside it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sign_ensemble

PACKAGE = Path(sign_ensemble.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

COMMANDS = {"tune", "train", "evaluate", "predict", "serve", "synthesize", "report.__main__"}
RECORDS = "search.records"  # plain records, which what shows results may know

BASE = {"errors", "config", "metrics", "storage", "files", "run"}
STAGES = BASE | {"data", "learning", "search", "uncertainty", "report", "tracking"}
# Top-level module or folder: what of the package it may import, besides itself if it is a folder.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "metrics": set(),
    "config": {"errors"},
    "storage": {"errors"},
    "files": {"errors", "storage"},
    "run": {"errors", "config", "metrics", "storage", "files"},
    "memory": set(),
    "data": BASE | {"memory"},
    "learning": BASE | {"data"},
    "search": BASE | {"data", "learning"},
    "uncertainty": BASE | {"data", "learning"},
    "logged": {RECORDS},
    "tracking": BASE | {RECORDS, "logged", "report.answered"},
    "report": BASE,
    "check": {"errors", "config", "storage"},
    "cli": {"errors", "config", "check"},
    "console": {"errors", "config", "memory", RECORDS},
    "stages": STAGES | {"console"},
    **dict.fromkeys(COMMANDS, STAGES | {"check", "cli", "console", "memory", "stages"}),
}
# Library: the files that may import it (a folder counts for all in it).
ONLY_IN = {
    "ray": (
        "learning/distributed.py",
        "learning/spread.py",
        "learning/worker.py",
        "search/",
        "data/spread.py",
        "data/synthetic/spread.py",
        "predict.py",
        "serve.py",
    ),
    "wandb": ("tracking/",),
}
MOST_LINES = 320
LONGER = {"config.py": 400}  # every setting with its reason, in one place
EMPTY_NAMES = {"utils", "util", "helpers", "common", "misc"}


def name_of(file: Path) -> str:
    """The file's path in the package."""
    return file.relative_to(PACKAGE).as_posix()


def part_of(file: Path) -> str:
    """The top-level module or folder that the file belongs to; a folder's command is its own."""
    if file.name == "__main__.py":
        return f"{file.parent.name}.__main__"
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import, also those inside functions.

    ``from a import b`` gives ``a.b``: b may be a module.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ""
            if node.level:
                inside = ("sign_ensemble", *file.relative_to(PACKAGE).parent.parts)
                above = ".".join(inside[: len(inside) - node.level + 1]) + "."
            module = f"{above}{node.module or ''}".rstrip(".")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def allowed(file: Path, imported: str) -> bool:
    """Whether the file may import this dotted name of the package."""
    below = imported.removeprefix("sign_ensemble.")
    part = part_of(file)
    if below.split(".")[0] == part:
        return (PACKAGE / part).is_dir()
    return below == "__version__" or any(
        below == name or below.startswith(f"{name}.") for name in MAY_IMPORT.get(part, ())
    )


def test_every_module_has_its_place() -> None:
    assert FILES
    placeless = [name_of(file) for file in FILES if part_of(file) not in MAY_IMPORT]
    assert not placeless, f"no row of MAY_IMPORT says what these may import: {placeless}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_one_way(file: Path) -> None:
    for line, imported in imports(file):
        if imported.split(".")[0] == "sign_ensemble":
            assert allowed(file, imported), f"{name_of(file)}:{line} may not import {imported}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_only_in(library: str) -> None:
    for file in FILES:
        for line, imported in imports(file):
            if imported.split(".")[0] == library:
                assert name_of(file).startswith(ONLY_IN[library]), (
                    f"{name_of(file)}:{line} imports {imported}: "
                    f"{library} belongs to {', '.join(ONLY_IN[library])}"
                )


@pytest.mark.parametrize(
    ("file", "imported", "expected"),
    [
        ("search/trials.py", "sign_ensemble.learning.folds.Task", True),
        ("search/trials.py", "sign_ensemble.search.space", True),
        ("search/trials.py", "sign_ensemble.uncertainty.ensemble", False),
        ("uncertainty/choose.py", "sign_ensemble.search.records", False),
        ("learning/fit.py", "sign_ensemble.search", False),
        ("data/features.py", "sign_ensemble.learning.network", False),
        ("metrics/figures.py", "sign_ensemble.errors", False),
        ("tracking/tracker.py", "sign_ensemble.search.records.TrialRecord", True),
        ("tracking/tracker.py", "sign_ensemble.search.trials", False),
        ("tune.py", "sign_ensemble.stages", True),
        ("tune.py", "sign_ensemble.train.main", False),
        ("stages.py", "sign_ensemble.tune", False),
        ("run.py", "sign_ensemble.configs", False),
    ],
)
def test_the_rule_itself(file: str, imported: str, expected: bool) -> None:
    assert allowed(PACKAGE / file, imported) is expected


def test_config_loads_no_engine() -> None:
    code = "import sys, sign_ensemble, sign_ensemble.config; print(*sys.modules, sep='\\n')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) & {"torch", "ray", "wandb"} == set()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_file_is_short_and_has_a_name(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGER.get(name_of(file), MOST_LINES), (
        f"{name_of(file)} has {lines} lines: split it by idea"
    )
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    empty = EMPTY_NAMES.intersection(parts)
    assert not empty, f"{name_of(file)}: {empty} says nothing about what is inside"

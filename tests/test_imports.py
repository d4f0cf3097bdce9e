"""Imports point one way, in no circle; a file is short, and its name says what is in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sign_ensemble

PACKAGE = Path(sign_ensemble.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each folder may import itself and the folders in the rows above its own. What stands in one row
# is independent of each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("hands", "metrics", "synthetic"),
    ("data",),
    ("learning",),
    ("search", "rejection"),
    ("tracking", "serving"),
    ("report",),
    ("pipeline",),
    ("tune", "train", "evaluate", "predict", "synthesize", "serve", "export", "enrol", "verify"),
    ("__init__",),  # the Python API
)
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}
ONLY_COMMANDS_MAY = {"synthetic": ("synthesize.py",)}  # folder: who imports it, besides itself
# Library: the files that may import it (a folder counts for all in it).
ONLY_IN = {
    "ray": (
        "core/ray_cluster.py",
        "core/running_ray.py",
        "core/node_checks.py",
        "data/ray_features.py",
        "learning/cluster_resources.py",
        "learning/parallel_heads.py",
        "learning/train_runs.py",
        "learning/train_worker.py",
        "search/",
        "serving/",
        "synthetic/ray_rendering.py",
    ),
    "wandb": ("tracking/",),
}
# Code: the only files it may be in.
ONE_PLACE = {
    r"\bos\.(walk|scandir)\(|\bglob\.glob\(|\.rglob\(": (  # the user's folders; a run's own files
        "data/picture_files.py", "tracking/artifacts.py",
    ),
    r"\bprint\(": ("core/console.py", "core/command_line.py"),
    r"\bos\.replace\(": ("core/atomic_files.py", "core/atomic_folders.py"),
    r"\bray\.init\(": ("core/ray_cluster.py",),
}  # fmt: skip
MOST_LINES = 320
LONGER = {"core/config.py": 400}  # every setting with its reason, in one place
EMPTY_NAMES = {"utils", "util", "helpers", "common", "misc"}


def name_of(file: Path) -> str:
    """The file's path in the package."""
    return file.relative_to(PACKAGE).as_posix()


def folder_of(name: str) -> str:
    """The folder of a file or dotted module of the package; of a command its own name."""
    return name.replace(".", "/").split("/")[0]


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import: at the top, in functions, and for types only.

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


def module_of(imported: str) -> str | None:
    """The file of the package that a dotted name is imported from; None for ``__version__``."""
    parts = imported.split(".")[1:]
    while parts:
        for ending in (".py", "/__init__.py"):
            if (PACKAGE / ("/".join(parts) + ending)).is_file():
                return "/".join(parts) + ending
        parts.pop()
    return None


def allowed(importing: str, imported: str) -> bool:
    """Whether one file of the package may import another, by their paths in it."""
    own, other = folder_of(importing.removesuffix(".py")), folder_of(imported.removesuffix(".py"))
    if own == other:
        return "/" in importing
    if importing not in (*ONLY_COMMANDS_MAY.get(other, (importing,)), f"{other}/"):
        return False
    return ROW[other] < ROW[own]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_one_way(file: Path) -> None:
    for line, imported in imports(file):
        if imported.split(".")[0] == "sign_ensemble" and (module := module_of(imported)):
            assert allowed(name_of(file), module), f"{name_of(file)}:{line} imports {imported}"


def test_no_imports_go_in_a_circle() -> None:
    graph = {
        name_of(file): {
            module
            for _, imported in imports(file)
            if imported.split(".")[0] == "sign_ensemble"
            and (module := module_of(imported))
            and not module.endswith("__init__.py")
        }
        for file in FILES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_no_file_name_comes_twice() -> None:
    names = Counter(file.name for file in FILES if not file.name.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []
    folders = {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert folders & {name.removesuffix(".py") for name in names} == set()


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_only_in(library: str) -> None:
    for file in FILES:
        for line, imported in imports(file):
            if imported.split(".")[0] == library:
                assert name_of(file).startswith(ONLY_IN[library]), (
                    f"{name_of(file)}:{line} imports {imported}: "
                    f"{library} belongs to {', '.join(ONLY_IN[library])}"
                )


@pytest.mark.parametrize("code", ONE_PLACE)
def test_one_function_does_it(code: str) -> None:
    found = {name_of(file) for file in FILES if re.search(code, file.read_text(encoding="utf-8"))}
    assert found == set(ONE_PLACE[code])


CLAIM = re.compile(r"(unseen|new) signer|have not seen|never (seen|saw)|new (people|person)")


def test_words_about_new_people_come_from_one_place() -> None:
    found = set()
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docstrings
                and CLAIM.search(node.value)
            ):
                found.add(name_of(file))
    # the notes of an evaluation, each where signers are known, or says that they are not
    assert found == {"core/whose_signs.py", "pipeline/about.py", "data/sources.py"}
    pages = (PACKAGE / "report").glob("*.html")
    assert not any(CLAIM.search(page.read_text(encoding="utf-8")) for page in pages)


@pytest.mark.parametrize(
    ("importing", "imported", "expected"),
    [
        ("search/trials.py", "learning/task.py", True),
        ("search/trials.py", "search/space.py", True),
        ("search/trials.py", "rejection/ensemble.py", False),
        ("rejection/rule.py", "search/records.py", False),
        ("learning/task.py", "search/records.py", False),
        ("data/manifest.py", "learning/network.py", False),
        ("data/manifest.py", "synthetic/render.py", False),
        ("metrics/figures.py", "core/errors.py", True),
        ("tracking/tracker.py", "search/records.py", True),
        ("tracking/tracker.py", "report/page.py", False),
        ("tune.py", "pipeline/jobs.py", True),
        ("tune.py", "train.py", False),
        ("synthesize.py", "synthetic/render.py", True),
        ("pipeline/jobs.py", "synthetic/render.py", False),
        ("pipeline/jobs.py", "tune.py", False),
        ("core/run_folder.py", "core/config.py", True),
    ],
)
def test_the_rule_itself(importing: str, imported: str, expected: bool) -> None:
    assert allowed(importing, imported) is expected


def test_config_loads_no_engine() -> None:
    code = "import sys, sign_ensemble, sign_ensemble.core.config; print(*sys.modules, sep='\\n')"
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

"""Shapes in names: one letter means one thing in every file, and a page lists them.

That public things have docstrings, and how these are laid out, is held by ruff's rules D.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sign_ensemble

PACKAGE = Path(sign_ensemble.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
SUFFIX = re.compile(r"_([A-Z0-9]+)$")
SMALL = {"a", "an", "and", "the", "of", "or", "to", "in", "on", "that", "is", "are", "its"}


def name_of(path: Path) -> str:
    """The file's path in the package."""
    return path.relative_to(PACKAGE).as_posix()


def words_of(text: str) -> set[str]:
    """The words that say what a letter is."""
    return set(re.findall(r"[a-z]+", text.lower())) - SMALL


def table() -> dict[str, set[str]]:
    """Letter → the words of its meaning, from the page's table."""
    [part] = re.findall(r"^## Shape letters\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    rows = re.findall(r"^\| ([A-Z]) \| (.*) \|$", part, re.M)
    return {letter: words_of(text) for letter, text in rows}


def letters_of(docstring: str) -> dict[str, set[str]]:
    """Letter → the words of its meaning, from a module's line ``Letters: N images, D features.``

    ``H and W rows and columns`` gives both letters all words.
    """
    match = re.search(r"^Letters: (.*?)(?:\n\n|\Z)", docstring, re.M | re.S)
    entries = re.split(r"[,;]\s+(?=[A-Z]\s)", match[1]) if match else []
    found: dict[str, set[str]] = {}
    for entry in entries:
        parts = re.fullmatch(r"([A-Z])(?:\s+and\s+([A-Z]))?\s+(.*)", entry, re.S)
        assert parts, f"not a letter and its meaning: {entry}"
        found |= dict.fromkeys(
            [letter for letter in parts.groups()[:2] if letter], words_of(parts[3])
        )
    return found


def is_public(name: str) -> bool:
    """Whether it is for other files."""
    return not name.startswith("_")


def arrays(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Where, and the name with a shape suffix: arguments, results and fields of public things."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            names = [
                field.target.id
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            ]
        elif isinstance(node, ast.FunctionDef) and is_public(node.name):
            inputs = node.args
            names = [arg.arg for arg in (*inputs.posonlyargs, *inputs.args, *inputs.kwonlyargs)]
            for each in ast.walk(node):
                if isinstance(each, ast.Return) and each.value is not None:
                    names += [one.id for one in results(each.value)]
        else:
            continue
        yield from ((node.name, name) for name in names if SUFFIX.search(name))


def results(value: ast.expr) -> list[ast.Name]:
    """The names that are returned, alone or in a tuple."""
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    return [part for part in parts if isinstance(part, ast.Name)]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_letters_are_explained(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = table()
    here = letters_of(ast.get_docstring(tree) or "")
    known = set(here) | set(listed)
    missing = {
        f"{letter} of {name} in {where}"
        for where, name in arrays(tree)
        for match in [SUFFIX.search(name)]
        if match
        for letter in match[1]
        if letter.isalpha() and letter not in known
    }
    assert missing == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_letter_means_the_same_everywhere(path: Path) -> None:
    listed = table()
    here = letters_of(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    assert {
        f"{letter}: {' '.join(sorted(words))}"
        for letter, words in here.items()
        if not words & listed.get(letter, set())
    } == set()


def test_the_table_itself() -> None:
    listed = table()
    assert set("NBCKLMSDPVTRHWFUGJQ") <= set(listed)
    assert {"images"} <= listed["N"] and {"labels"} <= listed["K"]


def test_reading_letters() -> None:
    text = (
        "Title.\n\nLetters: N images, H and W rows and\ncolumns; K labels of N, or so.\n\nMore A."
    )
    found = letters_of(text)
    assert set(found) == set("NHWK")
    assert found["H"] == found["W"] == {"rows", "columns"}
    code = "def f(x_ND, *, y_K): return z_N\ndef _g(x_Q): ...\nclass C:\n    field_B: int\n"
    assert list(arrays(ast.parse(code))) == [
        ("f", "x_ND"), ("f", "y_K"), ("f", "z_N"), ("C", "field_B"),
    ]  # fmt: skip

"""Words of a private language that were retired: they do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Whole words of any text, in any case; parts of names are words.
RETIRED = [
    "apart", "at_hand", "atlas", "atlases", "belief", "believed", "beside", "board", "clouds",
    "doubt", "guard", "guarded", "guards", "heard", "judge", "judged", "judges", "judging",
    "lane", "lessons", "payer", "payers", "readings", "rooted", "slots", "squares", "strange",
    "strangeness", "stranger", "strangers", "surprise", "surprised", "surprises", "unlike",
    "witness", "witnesses",
]  # fmt: skip
# Names of functions, classes and variables, with or without a shape suffix.
RETIRED_NAMES = re.compile(r"_?(?:asked|told|said|whole|Whole|mine(?:_\w+)?)(?:_[A-Z0-9]+)?")
ALLOWED = re.compile(
    r"__slots__|slots=True"  # Python's
    r"|least[-_ ]squares|sums? of squares"
    r"|TensorBoard"
)
PLACES = ("sign_ensemble", "benchmarks", "configs", "docs", "tests", "cluster")
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", ROOT / "mkdocs.yml"]
FILES += sorted(
    path
    for place in PLACES
    for path in (ROOT / place).rglob("*")
    if path.suffix in {".py", ".md", ".yaml", ".yml", ".html", ".sh"} and path != Path(__file__)
)
WORD = re.compile("|".join(rf"(?<![a-z])(?:{word})(?![a-z])" for word in RETIRED), re.IGNORECASE)


def split_names(text: str) -> str:
    """The text with ``aStrangeName`` as ``a_Strange_Name``: parts of names are words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)


def retired_words(text: str) -> Iterator[tuple[int, str]]:
    """Line and word."""
    for number, line in enumerate(ALLOWED.sub("", text).splitlines(), 1):
        yield from ((number, word.lower()) for word in WORD.findall(split_names(line)))


def retired_names(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of what a Python file defines or binds."""
    for node in ast.walk(ast.parse(text)):
        name, line = None, getattr(node, "lineno", 0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = node.name
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        if name and RETIRED_NAMES.fullmatch(name):
            yield line, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_retired_word(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = list(retired_words(text))
    if path.suffix == ".py":
        found += retired_names(text)
    found += [(0, f"file name: {word}") for _, word in retired_words(path.stem)]
    assert sorted(found) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a Witness", ["witness"]),
        ("strange_N = other", ["strange"]),
        ("class StrangeSet:", ["strange"]),
        ("safeguards, keyboard, TensorBoard, a least-squares fit", []),
        ("@dataclass(slots=True)", []),
    ],
)
def test_words_themselves(text: str, found: list[str]) -> None:
    assert [word for _, word in retired_words(text)] == found


def test_names_themselves() -> None:
    code = "mine_N = 1\ndef told(whole): ...\nwhole_image = said.text\nasked_N: int = 2\n"
    assert {name for _, name in retired_names(code)} == {"mine_N", "told", "whole", "asked_N"}

"""Write every results/NAME.md anew from NAME.json, and put the tables into README.md and docs/*.md.

    python benchmarks/tables.py

``<!-- protocol_m -->`` … ``<!-- /protocol_m -->`` holds results/protocol_m.md, letter for letter.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

from shared.results import RESULTS, ROOT, Results

VARIANTS = {"features_bf16": "features"}  # other arguments
SEVERAL = {"scaling": ("features", "search", "overhead", "prediction", "gpu")}  # its sources
SUMMARY = {"summary": "protocol_m"}  # its source


def stored(name: str) -> Results:
    """The results that a table is made from; by name, where they are of several benchmarks."""
    if name in SEVERAL:
        return {source: stored(source) for source in SEVERAL[name]}
    path = RESULTS / f"{SUMMARY.get(name, name)}.json"
    found: Results = json.loads(path.read_text(encoding="utf-8"))
    return found


def filled(text: str, results: Path) -> str:
    """The text with every marked part replaced by the table of its name."""

    def part(match: re.Match[str]) -> str:
        name = match.group(1)
        body = (results / f"{name}.md").read_text(encoding="utf-8").strip()
        return f"<!-- {name} -->\n{body}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", part, text, flags=re.DOTALL)


def pages() -> list[Path]:
    """The pages that may quote tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> None:
    """Write tables, then pages."""
    for name in (*(path.stem for path in RESULTS.glob("*.json")), *SEVERAL, *SUMMARY):
        table = import_module(VARIANTS.get(name, name)).table
        (RESULTS / f"{name}.md").write_text(table(stored(name)), encoding="utf-8")
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()

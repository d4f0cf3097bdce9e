"""Put the tables of results/*.md into README.md and docs/*.md, between their markers.

    python benchmarks/tables.py

``<!-- protocol_m -->`` … ``<!-- /protocol_m -->`` holds results/protocol_m.md, letter for letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Median (lowest–highest); of one value the value alone."""
    low, middle, high = min(values), float(np.median(values)), max(values)
    beside = f" ({low:.{digits}f}–{high:.{digits}f})" if len(values) > 1 else ""
    return f"{middle:.{digits}f}{unit}{beside}"


def filled(text: str, results: Path) -> str:
    """The text with every marked part replaced by the result of its name."""

    def part(match: re.Match[str]) -> str:
        name = match.group(1)
        body = (results / f"{name}.md").read_text().strip()
        return f"<!-- {name} -->\n{body}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", part, text, flags=re.DOTALL)


def pages() -> list[Path]:
    """What quotes tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text(), ROOT / "benchmarks" / "results"))

"""The shape of a benchmark: arguments, results/NAME.json, and results/NAME.md made from it."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sign_ensemble.core.atomic_files import read_json, write_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DATA = Path("../shared/data")  # holds massey-asl/ and asl-digits/
Results = dict[str, Any]


def hardware() -> str:
    """Processor, cores, GPU and version of torch, in one line."""
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"


def command_line() -> str:
    """The command that was given."""
    return " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; its help is the file's docstring."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    return parser


def protocol_parser(doc: str | None, runs: str = "runs") -> argparse.ArgumentParser:
    """A parser for benchmarks on protocol M's signers."""
    parser = parser_of(doc)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=Path, default=Path(runs))
    parser.add_argument("--signers", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    return parser


def parse_with_settings(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse; what the parser does not know is ``arguments.settings``, for the main job."""
    arguments, settings = parser.parse_known_args()
    arguments.settings = settings
    return arguments


def at_least(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, **least: int | float
) -> None:
    """Refuse arguments that are smaller than these."""
    for name, value in least.items():
        if getattr(arguments, name) < value:
            given = getattr(arguments, name)
            parser.error(f"--{name.replace('_', '-')} {given}: must be {value} or more")


def stored(arguments: argparse.Namespace, name: str) -> Results:
    """The results that are there, or an empty dictionary."""
    path = arguments.results / f"{name}.json"
    return read_json(path) if path.exists() else {}


def save(arguments: argparse.Namespace, name: str, results: Results) -> Results:
    """Write results/NAME.json whole, with the command and the hardware unless these are there."""
    results = {"command": command_line(), "hardware": hardware(), **results}
    arguments.results.mkdir(parents=True, exist_ok=True)
    write_json(arguments.results / f"{name}.json", results)
    return results


def publish(
    name: str,
    arguments: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Results],
    table: Callable[[Results], str],
) -> Results:
    """Measure unless --table is given, write results/NAME.json and NAME.md, print the table."""
    if not arguments.table:
        save(arguments, name, measure(arguments))
    results = stored(arguments, name)
    text = table(results)
    (arguments.results / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
    return results


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Median (lowest–highest); of one value the value alone."""
    low, middle, high = min(values), float(np.median(values)), max(values)
    both = f" ({low:.{digits}f}–{high:.{digits}f})" if len(values) > 1 else ""
    return f"{middle:.{digits}f}{unit}{both}"


def mean_worst(values: Sequence[float], worst: Callable[[Sequence[float]], float]) -> str:
    """Mean / worst over signers."""
    return f"{np.mean(values):.3f} / {worst(values):.3f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, with a line's end."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|\n" for line in lines
    )

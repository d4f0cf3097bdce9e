"""How fast built-in signers are rendered, where the time goes, and with how much memory.

    python benchmarks/render.py

Writes results/render.json and results/render.md: pictures per second of one process on one thread
at 640×480 and at the size of make demo, with the spread over pictures, each stage's share of the
time by Python's profiler, and the process's most memory.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from hardware import hardware

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.synthetic.picture_set import Picture, Recipe, plan, rendered

RESULTS = Path(__file__).parent / "results"
SIZES = {"640×480": (640, 480), "256×192, as make demo": (256, 192)}
EVERY = 5  # of 135 pictures, one of every label of five signers
STAGES = {
    "joints and skin": ("picture_set.py", "scene_of"),
    "tracing": ("trace.py", "trace"),
    "normals, shadow, occlusion": ("light.py", "of"),
    "colour of skin": ("render.py", "_coloured"),
    "lens and sensor": ("render.py", "_sensed"),
    "JPEG": ("render.py", "jpeg"),
}


def pictures_of() -> list[Picture]:
    """Those that are measured."""
    return plan(5, 1, 0)[::EVERY]


def measured(recipe: Recipe) -> dict[str, float]:
    """Seconds of wall and of processor per picture, and what follows."""
    pictures = pictures_of()
    list(rendered(pictures[:2], recipe))
    wall, processor = [], []
    for picture in pictures:
        began, began_cpu = time.perf_counter(), time.process_time()
        list(rendered([picture], recipe))
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_cpu)
    return {
        "images_per_second": 1 / float(np.mean(wall)),
        "images_per_processor_second": 1 / float(np.mean(processor)),
        "seconds_mean": float(np.mean(wall)),
        "seconds_sd": float(np.std(wall, ddof=1)),
        "n": len(pictures),
    }


def shares(recipe: Recipe) -> dict[str, float]:
    """Each stage's share of the time, the profiler's own included."""
    profiler = cProfile.Profile()
    profiler.runcall(lambda: list(rendered(pictures_of(), recipe)))
    stats: Any = pstats.Stats(profiler)
    spent = {
        name: sum(
            cumulative
            for (file, _, function), (_, _, _, cumulative, _) in stats.stats.items()
            if (Path(file).name, function) == where
        )
        for name, where in STAGES.items()
    }
    return {name: seconds / stats.total_tt for name, seconds in spent.items()}


def table(results: dict[str, Any]) -> str:
    """results/render.md: what README quotes."""
    stages = list(STAGES)
    lines = [
        "| size | pictures/s, one process, one thread | seconds each | "
        + " | ".join(stages)
        + " |",
        "| --- |" + " --- |" * (2 + len(stages)),
    ]
    for name in SIZES:
        part = results["sizes"][name]
        cells = [f"{part['shares'][stage]:.0%}" for stage in stages]
        lines.append(
            f"| {name} | {part['images_per_second']:.1f} "
            f"| {part['seconds_mean']:.3f} ± {part['seconds_sd']:.3f} | " + " | ".join(cells) + " |"
        )
    n = results["sizes"][next(iter(SIZES))]["n"]
    lines += [
        "",
        f"n = {n} pictures; ± is the standard deviation over them; most memory of the process "
        f"{results['peak_gib']:.2f} GiB; {results['hardware']}. Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both sizes, then profile them."""
    recipes = {name: Recipe(width=w, height=h) for name, (w, h) in SIZES.items()}
    sizes: dict[str, Any] = {name: measured(recipe) for name, recipe in recipes.items()}
    for name, recipe in recipes.items():
        sizes[name]["shares"] = shares(recipe)
    results = {
        "command": "python benchmarks/render.py",
        "hardware": hardware(),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "sizes": sizes,
    }
    write_json(RESULTS / "render.json", results)
    text = table(json.loads((RESULTS / "render.json").read_text()))
    (RESULTS / "render.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

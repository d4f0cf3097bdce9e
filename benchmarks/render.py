"""How fast built-in signers are rendered, where the time goes, and with how much memory.

    python benchmarks/render.py

Writes results/render.json and results/render.md: pictures per second of one process on one thread
at 640×480 and at the size of make demo, each stage's share of the time by Python's profiler, and
the process's peak memory.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from shared.results import Results, markdown, parser_of, publish

from sign_ensemble.synthetic.picture_set import Recipe, plan, rendered

SIZES = {"640×480": (640, 480), "256×192, as make demo": (256, 192)}
PICTURES = plan(5, 1, 0)[::5]  # of 135 pictures, one of every label of five signers
STAGES = {
    "joints and skin": ("picture_set.py", "scene_of"),
    "tracing": ("trace.py", "trace"),
    "normals, shadow, occlusion": ("light.py", "sampled"),
    "colour of skin": ("render.py", "_surface_colour"),
    "lens and sensor": ("render.py", "_sensor"),
    "JPEG": ("render.py", "jpeg"),
}


def speed(recipe: Recipe) -> Results:
    """Wall and processor seconds per picture, and pictures per second."""
    list(rendered(PICTURES[:2], recipe))
    wall, processor = [], []
    for picture in PICTURES:
        began, began_cpu = time.perf_counter(), time.process_time()
        list(rendered([picture], recipe))
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_cpu)
    return {
        "images_per_second": 1 / float(np.mean(wall)),
        "images_per_processor_second": 1 / float(np.mean(processor)),
        "seconds_mean": float(np.mean(wall)),
        "seconds_sd": float(np.std(wall, ddof=1)),
        "n": len(PICTURES),
    }


def shares(recipe: Recipe) -> dict[str, float]:
    """Each stage's share of the time, the profiler's own included."""
    profiler = cProfile.Profile()
    profiler.runcall(lambda: list(rendered(PICTURES, recipe)))
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


def measure(arguments: argparse.Namespace) -> Results:
    """Measure both sizes, then profile them."""
    del arguments
    recipes = {name: Recipe(width=w, height=h) for name, (w, h) in SIZES.items()}
    sizes = {name: speed(recipe) for name, recipe in recipes.items()}
    for name, recipe in recipes.items():
        sizes[name]["shares"] = shares(recipe)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"peak_gib": peak_gib, "sizes": sizes}


def table(results: Results) -> str:
    """results/render.md."""
    parts = {name: results["sizes"][name] for name in SIZES}
    rows = [
        [
            name,
            f"{part['images_per_second']:.1f}",
            f"{part['seconds_mean']:.3f} ± {part['seconds_sd']:.3f}",
            *(f"{part['shares'][stage]:.0%}" for stage in STAGES),
        ]
        for name, part in parts.items()
    ]
    header = ["size", "pictures/s, one process, one thread", "seconds each", *STAGES]
    n = {part["n"] for part in parts.values()}
    return markdown(header, rows) + (
        f"\nn = {n.pop()} pictures; ± is the standard deviation over them; most memory of the "
        f"process {results['peak_gib']:.2f} GiB; {results['hardware']}. "
        f"Made by `{results['command']}`.\n"
    )


if __name__ == "__main__":
    publish("render", parser_of(__doc__).parse_args(), measure, table)

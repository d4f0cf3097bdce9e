"""How fast built-in signers are rendered, and with how much memory.

    python benchmarks/render.py

Writes results/render.json: images per second of one process on one thread at 640×480 and at the
size of make demo, with mean, standard deviation and n over pictures, and the process's most memory.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import numpy as np
from hardware import hardware  # type: ignore[import-not-found]

from sign_ensemble.data.synthetic.picture_set import Recipe, plan, rendered

SIZES = {"640x480": (640, 480), "demo": (256, 192)}
EVERY = 5  # of 135 pictures, one of every label of five signers


def measured(width: int, height: int) -> dict[str, float]:
    """Seconds of wall and of processor per picture, and what follows."""
    recipe = Recipe(width=width, height=height)
    pictures = plan(5, 1, 0)[::EVERY]
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
        "seconds_sd": float(np.std(wall)),
        "n": len(pictures),
    }


if __name__ == "__main__":
    results = {name: measured(*size) for name, size in SIZES.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    tree = {"hardware": hardware(), "peak_gib": peak, **results}
    out = Path(__file__).parent / "results" / "render.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(tree, indent=2) + "\n")
    print(out.read_text())

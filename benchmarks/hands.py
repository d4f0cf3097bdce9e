"""How fast are hands found, against the two networks alone?

Rendered hands: all pictures through ``find_hands`` on two threads, and as many resident inputs
through the palm detector and the landmark network alone, on two threads as well. A found hand
is read twice by the landmark network, so the rival is also given that.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from shared.results import Results, markdown, parser_of, publish, spread

from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data.square_pictures import fit_square
from sign_ensemble.hands import hand_region, palm_detection
from sign_ensemble.hands.finder import find_hands
from sign_ensemble.hands.hand_networks import BATCH, load_networks
from sign_ensemble.synthetic.picture_set import LABELS, Picture, Recipe, rendered

NAME, SIDE, THREADS = "hands", 448, 2
FOUND, ONCE, TWICE = "find_hands", "both networks once", "palm once, landmarks twice"


def pictures(count: int) -> list[NDArray[np.uint8]]:
    """Rendered signs of several people."""
    planned = [Picture("sign", LABELS[i % len(LABELS)], i % 5 + 1, i + 1) for i in range(count)]
    contents = rendered(planned, Recipe(width=320, height=240))
    opened = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in contents)
    return [fit_square(each, SIDE, "pad") for each in opened]


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(arguments: argparse.Namespace) -> Results:
    """Hands per second, in turns."""
    torch.set_num_threads(THREADS)
    shown, networks = pictures(arguments.pictures), load_networks()
    passes = len(shown) // BATCH
    palm, hand = (
        np.random.default_rng(0).random((BATCH, side, side, 3), np.float32)
        for side in (palm_detection.SIDE, hand_region.SIDE)
    )

    def alone(times: int) -> None:
        def one(_: int) -> None:
            networks.palms(palm)
            for _ in range(times):
                networks.landmarks(hand)

        list(map_on_threads(passes, one))

    found = find_hands(shown).found_N
    works: dict[str, Callable[[], object]] = {
        FOUND: lambda: find_hands(shown),
        ONCE: lambda: alone(1),
        TWICE: lambda: alone(2),
    }
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(arguments.repeats):
        for name, work in works.items():
            rates[name].append(passes * BATCH / seconds_of(work))
    return {"pictures": len(shown), "found": int(found.sum()), "per_second": rates}


def table(results: Results) -> str:
    """A row per way."""
    rates = results["per_second"]
    rows = []
    for name, each in rates.items():
        ratios = [ours / other for ours, other in zip(rates[FOUND], each, strict=True)]
        rows.append([name, spread(each, 1), "" if name == FOUND else spread(ratios, 2)])
    return (
        markdown(["", "pictures per second", "`find_hands` against it"], rows)
        + f"\n{results['pictures']} rendered pictures of {SIDE} pixels, hands found in "
        f"{results['found']}; {THREADS} threads, median (lowest–highest) of "
        f"{len(rates[FOUND])} rounds; {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    publish(NAME, parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()

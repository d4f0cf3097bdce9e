"""What does a process save that touches fewer new pages (``core/process_memory.py``)?

Each kind of work is done by processes of its own, in turn as the C library and torch have it and
as this package has it, on one thread: a step of a head on all features (forward, backward, Adam;
batches of 32), a fine-tuning step of all convolutions below it (batches of 16), a pass of 64
images, and a built-in picture at the size of make demo.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from shared.results import Results, markdown, parser_of, publish, spread

WAYS = ("as it is", "spared")
FIRST = 3  # steps before those that are counted


def training(network: Any, optimizer: Any, inputs: Any, labels: Any) -> Callable[[int], object]:
    """A step of a network on one batch, again and again."""
    import torch

    from sign_ensemble.learning.training_loop import MicroBatch, backward

    def step(_: int) -> None:
        optimizer.zero_grad()
        backward(network, [MicroBatch((inputs,), labels)], 0.0, torch.device("cpu"))
        optimizer.step()

    return step


def head_step() -> Callable[[int], object]:
    """A step of the default head on all features."""
    import numpy as np
    import torch

    from sign_ensemble.core.config import MemberConfig
    from sign_ensemble.data.backbone import HEAD_FEATURES
    from sign_ensemble.learning.network import Head
    from sign_ensemble.learning.optimizer import adamw_for

    recipe = MemberConfig()
    head = Head(HEAD_FEATURES, recipe.widths, 26, recipe.dropout)
    optimizer = adamw_for((head, recipe.learning_rate), weight_decay=0.0)
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.random((32, HEAD_FEATURES)).astype(np.float16))
    labels = torch.from_numpy(rng.integers(0, 26, 32))
    return training(head, optimizer, values, labels)


def finetuning_step() -> Callable[[int], object]:
    """A step of all convolutions and a linear layer on them."""
    import torch
    from torch import nn

    from sign_ensemble.data.backbone import HEAD_FEATURES
    from sign_ensemble.data.convolutions import Convolutions
    from sign_ensemble.learning.optimizer import adamw_for

    head = nn.Sequential(nn.Linear(HEAD_FEATURES, 26), nn.LogSoftmax(1))
    network = nn.Sequential(Convolutions(), head)
    for weight in network[0].parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    optimizer = adamw_for((network, 1e-4), weight_decay=0.0)
    images = torch.rand(16, 3, 224, 224).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 26, (16,))
    return training(network, optimizer, images, labels)


def convolutions() -> Callable[[int], object]:
    """A pass of a batch of images in memory."""
    import numpy as np

    from sign_ensemble.data.backbone import BATCH, load

    net = load("random")
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)
    return lambda _: net.of_images(images)


def picture() -> Callable[[int], object]:
    """A built-in picture, another label each."""
    from sign_ensemble.synthetic.picture_set import Recipe, plan, rendered

    pictures, recipe = plan(1, 1, 0), Recipe(width=256, height=192)
    return lambda i: list(rendered([pictures[i % len(pictures)]], recipe))


WORK = {
    "head's step": head_step,
    "fine-tuning step": finetuning_step,
    "convolutions of 64 images": convolutions,
    "built-in picture": picture,
}


def child(name: str, way: str, steps: int) -> None:
    """Do the work in this process and print what it took."""
    from sign_ensemble.core import device, process_memory

    if way == "spared":
        process_memory.spare_page_faults()
    else:  # what the package itself calls
        vars(device)["spare_page_faults"] = lambda: None
    import torch

    torch.set_num_threads(1)
    step = WORK[name]()
    seconds = []
    for i in range(FIRST + steps):
        if i == FIRST:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        began = time.perf_counter()
        step(i)
        seconds.append(time.perf_counter() - began)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "seconds": sum(seconds[FIRST:]) / steps,
                "faults": (used.ru_minflt - faults) / steps,
                "most_mib": used.ru_maxrss / 1024,
            }
        )
    )


def measured(name: str, way: str, steps: int) -> dict[str, float]:
    """What a child found."""
    command = [sys.executable, __file__, "--child", name, way, "--steps", str(steps)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def measure(arguments: argparse.Namespace) -> Results:
    """Rounds of all work, both ways in turn."""
    figures: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {way: [] for way in WAYS} for name in WORK
    }
    for number in range(arguments.rounds):
        for name in WORK:
            for way in WAYS if number % 2 else WAYS[::-1]:
                figures[name][way].append(measured(name, way, arguments.steps))
                print(f"round {number + 1}: {name}, {way}: {figures[name][way][-1]}", flush=True)
    return {"figures": figures}


def table(results: Results) -> str:
    """A row per kind of work."""
    rows = []
    for name, of in results["figures"].items():
        plain, spared = (of[way] for way in WAYS)
        ratios = [b["seconds"] / a["seconds"] for a, b in zip(plain, spared, strict=True)]
        ms = [spread([1000 * each["seconds"] for each in some], 1) for some in (plain, spared)]
        rest = [
            spread([each[what] for each in some][:1], 0)
            for what in ("faults", "most_mib")
            for some in (plain, spared)
        ]
        rows.append([name, *ms, spread(ratios, 2), *rest])
    header = [
        "one thread", "as it is, ms", "spared, ms", "spared over as it is", "faults", "spared",
        "most memory, MiB", "spared",
    ]  # fmt: skip
    return markdown(header, rows) + (
        f"\nn = {len(plain)} processes each, in turn; median (lowest–highest); faults a step and "
        f"memory of the first. {results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, way = arguments.child
        child(name, way, arguments.steps)
    else:
        publish("page_faults", arguments, measure, table)


if __name__ == "__main__":
    main()

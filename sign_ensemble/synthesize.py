"""Render built-in signers: hand signs and out-of-distribution (OOD) images, from a seed.

Example:
    python -m sign_ensemble.synthesize --out hands --signers 5 --images-per-label 100
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sign_ensemble.core.command_line import Parser
from sign_ensemble.core.config_checks import check_job_path
from sign_ensemble.core.console import exit_with
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.process_memory import imports_without_gc

SIDES = (32, 4096)  # pixels; below, signs are illegible
RANGES = {
    "signers": (1, 10_000),
    "images-per-label": (0, 99_999),
    "ood-per-set": (0, 99_999),
    "seed": (0, 2**63 - 1),
    "spread": (0, 3),
    "hand-size": (0.2, 1.2),
    "workers": (0, 100_000),
}


def size_of(text: str) -> tuple[int, int]:
    """``640x480`` → (640, 480).

    Raises:
        UserError: not a size, or out of range.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UserError(f"--size is {text}: it must read WIDTHxHEIGHT, such as 640x480")
    width, height = int(match[1]), int(match[2])
    if not all(SIDES[0] <= side <= SIDES[1] for side in (width, height)):
        raise UserError(f"--size is {text}: both sides must be {SIDES[0]} to {SIDES[1]} pixels")
    return width, height


def main(arguments: Sequence[str]) -> None:
    """Parse the options and complete the folder."""
    parser = Parser(
        prog="python -m sign_ensemble.synthesize",
        description=str(__doc__).split("\n\n")[0],
        default_env=False,
    )
    add = parser.add_argument
    add("--out", type=str, required=True, help="folder; a second call renders what is missing")
    add("--signers", type=int, default=5, help="how many people")
    add("--images-per-label", type=int, default=100, help="of each signer; there are 27 labels")
    add("--ood-per-set", type=int, default=100, help="pictures of each of the 4 OOD sets")
    add("--size", type=str, default="640x480", help="WIDTHxHEIGHT in pixels")
    add("--seed", type=int, default=0, help="the same seed gives the same bytes")
    add("--spread", type=float, default=1.0, help="how much signers differ; 0 is not at all")
    add("--hand-only", action="store_true", help="black background, signs cropped to the hand")
    add("--background", type=str, default="white", help="white, grey, green, black or any")
    add("--hand-size", type=float, default=1.0, help="size of the hand against the usual one")
    add("--workers", type=int, default=0, help="pictures at once; 0 is one per CPU")
    parsed = parser.parse_args(list(arguments))
    width, height = size_of(parsed.size)
    for name, (least, most) in RANGES.items():
        value = getattr(parsed, name.replace("-", "_"))
        if not least <= value <= most:
            raise UserError(f"--{name} is {value:g}: it must be {least:g} to {most:g}")
    check_job_path("--out", parsed.out)
    with imports_without_gc():
        from sign_ensemble.synthetic.picture_folder import synthesize
        from sign_ensemble.synthetic.picture_set import BACKGROUNDS, Recipe

    if parsed.background not in BACKGROUNDS:
        names = ", ".join(BACKGROUNDS)
        raise UserError(f"--background is {parsed.background}: it must be one of {names}")
    more = (parsed.background, parsed.hand_size)
    synthesize(
        Path(parsed.out).expanduser(),
        Recipe(parsed.seed, parsed.spread, width, height, parsed.hand_only, *more),
        parsed.signers,
        parsed.images_per_label,
        parsed.ood_per_set,
        parsed.workers or None,
    )


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))

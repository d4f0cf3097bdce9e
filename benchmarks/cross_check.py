"""Cross-check: a reader that has only ever seen built-in signers, shown photographs of real hands.

    python benchmarks/cross_check.py --real ../shared/data/massey-asl

Renders 12 built-in signers (once; ``--signs`` keeps them), crops each picture to the hand, trains
heads of the default recipe with views on the letters and reads every letter of Massey University's
hands (Barczak et al., 2011): on white, as built-in signers are seen, and on the black background
that the set has. These photographs choose no setting, but the poses were mended by looking at what
was confused. Writes results/cross_check.json, and results/cross_check.md from it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hardware import hardware
from heads import trained
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.augmentation import augment
from sign_ensemble.data.feature_cache import features_of_images
from sign_ensemble.data.images import fit_square
from sign_ensemble.learning.network import logits_of
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import MARGIN, Picture, Recipe, hand_box, plan, scene_of

RESULTS = Path(__file__).parent / "results"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
RECIPE = Recipe(seed=0, spread=1.0, width=256, height=192)  # 192 rows: half of them a cropped hand
SIGNERS, EACH = 12, 4  # many people matter more than many pictures of each
VIEWS = 3
HEAD = MemberConfig(augment_prob=0.75, label_smoothing=0.1, epochs=12, validation_share=0.0)
SEEDS = (0, 1, 2)
SIDE, PAPER = 224, 235  # pixels; level of the white
DARK = 28  # level below which a pixel of the real set is its background
BACKGROUNDS = ("white", "black")

Images = NDArray[np.uint8]


def box_of(picture: Picture) -> tuple[int, int, int, int]:
    """Left, top, right, bottom pixel of the picture's hand without its forearm."""
    return hand_box(scene_of(picture, RECIPE), RECIPE.width, RECIPE.height)


def built_in(folder: Path) -> tuple[Images, list[str], NDArray[np.int64]]:
    """Squares of every letter's pictures, rendered if missing; their paths and labels."""
    synthesize(folder, RECIPE, SIGNERS, EACH, 0, None)
    pictures = [p for p in plan(SIGNERS, EACH, 0) if p.name in LETTERS]
    squares = []
    for picture in pictures:
        with Image.open(folder / picture.path) as opened:
            squares.append(fit_square(np.asarray(opened.crop(box_of(picture))), SIDE, "pad"))
    labels_N = np.array([LETTERS.index(p.name) for p in pictures])
    return np.stack(squares), [p.path for p in pictures], labels_N


def on_white(rgb_HW3: Images) -> Images:
    """The background, black in this set, replaced by the built-in signers' white."""
    hand = binary_fill_holes(rgb_HW3.max(-1) > DARK)
    part = gaussian_filter(hand.astype(np.float32), 0.8)[..., None]
    return (rgb_HW3 * part + PAPER * (1 - part)).astype(np.uint8)


def real(folder: Path) -> tuple[dict[str, Images], NDArray[np.int64], NDArray[np.str_]]:
    """Squares of all letters on each background, their labels and who signed."""
    files = [file for letter in LETTERS for file in sorted((folder / letter).glob("hand*.jp*g"))]
    if not files:
        sys.exit(
            f"--real is {folder}: no such pictures there (a/hand1_a_….jpeg, of Massey University's "
            "set of American Sign Language hands, Barczak et al., 2011)"
        )
    squares: dict[str, list[Images]] = {name: [] for name in BACKGROUNDS}
    for file in files:
        with Image.open(file) as opened:
            rgb = np.asarray(opened.convert("RGB"))
        squares["black"].append(framed(rgb, 0))
        squares["white"].append(framed(on_white(rgb), PAPER))
    labels_N = np.array([LETTERS.index(file.parent.name) for file in files])
    people = [re.match(r"hand\d+", file.name) for file in files]
    return (
        {name: np.stack(each) for name, each in squares.items()},
        labels_N,
        np.array([person[0] if person else "" for person in people]),
    )


def framed(rgb_HW3: Images, level: int) -> Images:
    """A square with the same margin as :func:`hand_box` leaves."""
    height, width = rgb_HW3.shape[:2]
    side = round(max(height, width) * (1 + 2 * MARGIN))
    square = np.full((side, side, 3), level, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = rgb_HW3
    return fit_square(square, SIDE, "pad")


def with_views(images_NHW3: Images, keys: list[str]) -> NDArray[np.float16]:
    """Features of images and of their views (N, 1 + V, E)."""
    each = [features_of_images(images_NHW3, "shipped").head_ND]
    for augmentation in range(1, VIEWS + 1):
        augmentations = augment(images_NHW3, keys, augmentation, mirror=False)
        each.append(features_of_images(augmentations, "shipped").head_ND)
    return np.stack(each, 1)


def figures(
    logits_HNK: NDArray[np.float32], labels_N: NDArray[np.int64], people_N: NDArray[np.str_]
) -> dict[str, Any]:
    """Accuracy over heads and people, and each letter's answers, all heads counted together."""
    order_HNK = np.argsort(-logits_HNK, -1, kind="stable")
    first_HN = order_HNK[..., 0] == labels_N
    three_HN = (order_HNK[..., :3] == labels_N[:, None]).any(-1)
    letters = {}
    for k, letter in enumerate(LETTERS):
        counts_K = np.bincount(order_HNK[:, labels_N == k, 0].ravel(), minlength=len(LETTERS))
        most = np.argsort(-counts_K, kind="stable")[:4]
        letters[letter] = {
            "n": int((labels_N == k).sum()),
            "accuracy": float(first_HN[:, labels_N == k].mean()),
            "answers": {LETTERS[m]: float(counts_K[m] / counts_K.sum()) for m in most},
        }
    return {
        "n": len(labels_N),
        "top1": {"mean": float(first_HN.mean()), "sd": float(first_HN.mean(1).std(ddof=1))},
        "top3": {"mean": float(three_HN.mean()), "sd": float(three_HN.mean(1).std(ddof=1))},
        "people": {
            str(name): {
                "n": int((people_N == name).sum()),
                "top1": float(first_HN[:, people_N == name].mean()),
            }
            for name in np.unique(people_N)
        },
        "letters": letters,
    }


def table(results: dict[str, Any]) -> str:
    """results/cross_check.md: what README quotes."""
    people = list(results["white"]["people"])
    lines = [
        "| real hands on | top 1 | top 3 | " + " | ".join(f"top 1, {p}" for p in people) + " |",
        "| --- |" + " --- |" * (2 + len(people)),
    ]
    for name in BACKGROUNDS:
        part = results[name]
        cells = [f"{part[k]['mean']:.3f} ± {part[k]['sd']:.3f}" for k in ("top1", "top3")]
        cells += [f"{part['people'][p]['top1']:.3f}" for p in people]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "On white, each letter's share read right, and what it is read as otherwise:", ""]
    letters = results["white"]["letters"]
    shown = []
    for letter, part in sorted(letters.items(), key=lambda item: item[1]["accuracy"]):
        wrong = [f"{a} {v:.2f}" for a, v in part["answers"].items() if a != letter and v >= 0.1]
        others = f" ({', '.join(wrong)})" if wrong else ""
        shown.append(f"**{letter}** {part['accuracy']:.2f}{others}")
    lines.append("; ".join(shown) + ".")
    lines += [
        "",
        f"n = {results['white']['n']} photographs of {len(people)} people; {results['training']}; "
        f"± is the standard deviation over {len(results['seeds'])} heads; {results['hardware']}. "
        f"Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Render what is missing, train, read the photographs, write the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--real", type=Path, default=Path("../shared/data/massey-asl"))
    parser.add_argument("--signs", type=Path, default=Path("runs/cross-check-signs"))
    arguments = parser.parse_args()
    squares, labels_real_N, people_N = real(arguments.real)
    images, keys, labels_N = built_in(arguments.signs)
    features = with_views(images, keys)
    heads = [trained(HEAD, len(LETTERS), features, labels_N, seed) for seed in SEEDS]
    results: dict[str, Any] = {
        "command": "python benchmarks/cross_check.py",
        "hardware": hardware(),
        "seeds": SEEDS,
        "training": f"{len(labels_N)} pictures of {SIGNERS} built-in signers",
    }
    for name in BACKGROUNDS:
        values = features_of_images(squares[name], "shipped").head_ND
        logits_HNK = np.stack([logits_of(head, values) for head in heads])
        results[name] = figures(logits_HNK, labels_real_N, people_N)
    write_json(RESULTS / "cross_check.json", results)
    text = table(json.loads((RESULTS / "cross_check.json").read_text()))
    (RESULTS / "cross_check.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""Cross-check: heads trained on built-in signers alone, tested on photographs of real hands.

    python benchmarks/cross_check.py --real ../shared/data/massey-asl

Renders 12 built-in signers (once; ``--signs`` keeps them), crops each picture to the hand, trains
heads of the default recipe with augmentation, and reads every letter of Massey University's hands
(Barczak et al., 2011) on white, as built-in signers are seen, and on the set's own black. These
photographs choose no setting, but poses were corrected by looking at what was confused.

Letters: N images, M heads, K labels, D features, V an image and its augmented copies.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter
from shared.heads import trained
from shared.results import Results, markdown, parser_of, publish

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.data.augmentation import augment
from sign_ensemble.data.feature_cache import features_of_images
from sign_ensemble.data.square_pictures import fit_square
from sign_ensemble.learning.network import logits_of
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import MARGIN, Recipe, hand_box, plan, scene_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RECIPE = Recipe(seed=0, spread=1.0, width=256, height=192)  # a cropped hand has half the rows
SIGNERS, EACH = 12, 4  # many people matter more than many pictures of each
COPIES = 3
HEAD = MemberConfig(augment_prob=0.75, label_smoothing=0.1, epochs=12, validation_share=0.0)
SEEDS = (0, 1, 2)
SIDE, PAPER = 224, 235  # pixels; level of the white
DARK = 28  # level below which a pixel of the real set is its background
BACKGROUNDS = ("white", "black")

Images = NDArray[np.uint8]


def built_in(folder: Path) -> tuple[Images, list[str], NDArray[np.int64]]:
    """Cropped images of every letter, rendered if missing; their paths and labels."""
    synthesize(folder, RECIPE, SIGNERS, EACH, 0, None)
    pictures = [p for p in plan(SIGNERS, EACH, 0) if p.name in LETTERS]
    images = []
    for picture in pictures:
        box = hand_box(scene_of(picture, RECIPE), RECIPE.width, RECIPE.height)
        with Image.open(folder / picture.path) as opened:
            images.append(fit_square(np.asarray(opened.crop(box)), SIDE, "pad"))
    labels_N = np.array([LETTERS.index(p.name) for p in pictures])
    return np.stack(images), [p.path for p in pictures], labels_N


def on_white(rgb_HW3: Images) -> Images:
    """The background, black in this set, replaced by the built-in signers' white."""
    hand = binary_fill_holes(rgb_HW3.max(-1) > DARK)
    alpha = gaussian_filter(hand.astype(np.float32), 0.8)[..., None]
    return (rgb_HW3 * alpha + PAPER * (1 - alpha)).astype(np.uint8)


def real(folder: Path) -> tuple[dict[str, Images], NDArray[np.int64], NDArray[np.str_]]:
    """Images of all letters on each background, their labels and who signed."""
    files = [file for letter in LETTERS for file in sorted((folder / letter).glob("hand*.jp*g"))]
    if not files:
        sys.exit(
            f"--real is {folder}: no such pictures there (a/hand1_a_….jpeg, of Massey University's "
            "set of American Sign Language hands, Barczak et al., 2011)"
        )
    images: dict[str, list[Images]] = {name: [] for name in BACKGROUNDS}
    for file in files:
        with Image.open(file) as opened:
            rgb = np.asarray(opened.convert("RGB"))
        images["black"].append(framed(rgb, 0))
        images["white"].append(framed(on_white(rgb), PAPER))
    labels_N = np.array([LETTERS.index(file.parent.name) for file in files])
    people = [re.match(r"hand\d+", file.name) for file in files]
    return (
        {name: np.stack(each) for name, each in images.items()},
        labels_N,
        np.array([person[0] if person else "" for person in people]),
    )


def framed(rgb_HW3: Images, level: int) -> Images:
    """A square image with the margin of :func:`hand_box`."""
    height, width = rgb_HW3.shape[:2]
    side = round(max(height, width) * (1 + 2 * MARGIN))
    square = np.full((side, side, 3), level, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = rgb_HW3
    return fit_square(square, SIDE, "pad")


def with_augmentations(images_NHW3: Images, keys: list[str]) -> NDArray[np.float16]:
    """Features of images and of their augmented copies (N, V, D)."""
    copies = [augment(images_NHW3, keys, n, mirror=False) for n in range(1, COPIES + 1)]
    return np.stack(
        [features_of_images(each, "shipped").head_ND for each in (images_NHW3, *copies)], 1
    )


def figures(
    logits_MNK: NDArray[np.float32], labels_N: NDArray[np.int64], people_N: NDArray[np.str_]
) -> Results:
    """Accuracy over heads and people, and each letter's answers, all heads counted together."""
    order_MNK = np.argsort(-logits_MNK, -1, kind="stable")
    first_MN = order_MNK[..., 0] == labels_N
    three_MN = (order_MNK[..., :3] == labels_N[:, None]).any(-1)
    letters = {}
    for k, letter in enumerate(LETTERS):
        counts_K = np.bincount(order_MNK[:, labels_N == k, 0].ravel(), minlength=len(LETTERS))
        most = np.argsort(-counts_K, kind="stable")[:4]
        letters[letter] = {
            "n": int((labels_N == k).sum()),
            "accuracy": float(first_MN[:, labels_N == k].mean()),
            "answers": {LETTERS[m]: float(counts_K[m] / counts_K.sum()) for m in most},
        }
    people = {
        str(name): {
            "n": int((people_N == name).sum()),
            "top1": float(first_MN[:, people_N == name].mean()),
        }
        for name in np.unique(people_N)
    }
    top1, top3 = (
        {"mean": float(right_MN.mean()), "sd": float(right_MN.mean(1).std(ddof=1))}
        for right_MN in (first_MN, three_MN)
    )
    return {"n": len(labels_N), "top1": top1, "top3": top3, "people": people, "letters": letters}


def measure(arguments: argparse.Namespace) -> Results:
    """Render what is missing, train, read the photographs."""
    photographs, labels_real_N, people_N = real(arguments.real)
    images, keys, labels_N = built_in(arguments.signs)
    features_NVD = with_augmentations(images, keys)
    heads = [trained(HEAD, len(LETTERS), features_NVD, labels_N, seed) for seed in SEEDS]
    results: Results = {
        "seeds": SEEDS,
        "training": f"{len(labels_N)} pictures of {SIGNERS} built-in signers",
    }
    for name in BACKGROUNDS:
        features_ND = features_of_images(photographs[name], "shipped").head_ND
        logits_MNK = np.stack([logits_of(head, features_ND) for head in heads])
        results[name] = figures(logits_MNK, labels_real_N, people_N)
    return results


def table(results: Results) -> str:
    """results/cross_check.md."""
    people = list(results["white"]["people"])
    rows = []
    for name in BACKGROUNDS:
        part = results[name]
        cells = [f"{part[k]['mean']:.3f} ± {part[k]['sd']:.3f}" for k in ("top1", "top3")]
        rows.append([name, *cells, *(f"{part['people'][p]['top1']:.3f}" for p in people)])
    header = ["real hands on", "top 1", "top 3", *(f"top 1, {person}" for person in people)]
    letters = results["white"]["letters"]
    shown = []
    for letter, part in sorted(letters.items(), key=lambda item: item[1]["accuracy"]):
        wrong = [f"{a} {v:.2f}" for a, v in part["answers"].items() if a != letter and v >= 0.1]
        others = f" ({', '.join(wrong)})" if wrong else ""
        shown.append(f"**{letter}** {part['accuracy']:.2f}{others}")
    return markdown(header, rows) + (
        f"\nOn white, each letter's share read right, and what it is read as otherwise:\n\n"
        f"{'; '.join(shown)}.\n\n"
        f"n = {results['white']['n']} photographs of {len(people)} people; {results['training']}; "
        f"± is the standard deviation over {len(results['seeds'])} heads; {results['hardware']}. "
        f"Made by `{results['command']}`.\n"
    )


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--real", type=Path, default=Path("../shared/data/massey-asl"))
    parser.add_argument("--signs", type=Path, default=Path("runs/cross-check-signs"))
    publish("cross_check", parser.parse_args(), measure, table)

"""How often is one ordinary model confident of images that show no sign?

Renders five built-in signers, 100 pictures of each of the 27 labels at 640×480, and 100 of each
out-of-distribution set (once; ``--signs`` keeps them). The default recipe, a head on frozen AlexNet
convolutions, learns from three signers; a fifth of their pictures is held back, two signers are
never seen.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared.heads import trained
from shared.results import Results, markdown, parser_of, publish

from sign_ensemble.core.config import DataConfig, MemberConfig
from sign_ensemble.core.console import progress
from sign_ensemble.data.feature_cache import features_of_images
from sign_ensemble.data.images import read_image
from sign_ensemble.learning.network import logits_of
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import LABELS, Picture, Recipe, plan

NAME = "overconfident"
RECIPE = Recipe(seed=0, spread=1.0, width=640, height=480)
SIGNERS, EACH, OOD_EACH = 5, 100, 100
LEARNED = (1, 2, 3)
HELD_BACK = 5  # one in so many pictures of each label and signer
HEAD = MemberConfig(augment_prob=0.0)  # an ordinary recipe: no augmentation
SEEDS = (0, 1, 2)
CONFIDENT = 0.90
AT_ONCE = 256


def features_of(folder: Path, pictures: list[Picture]) -> NDArray[np.float16]:
    """Features (N, D) of pictures as the package reads them."""
    load = partial(read_image, data=DataConfig())
    found = []
    with ThreadPoolExecutor(2) as readers, progress("pictures read") as step:
        for start in range(0, len(pictures), AT_ONCE):
            some = [folder / p.path for p in pictures[start : start + AT_ONCE]]
            images = np.stack(list(readers.map(load, some)))
            found.append(features_of_images(images, "shipped").head_ND)
            step(start + len(some), len(pictures))
    return np.concatenate(found)


def over_heads(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over heads."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}


def measure(arguments: argparse.Namespace) -> Results:
    """Render what is missing, train, predict."""
    synthesize(arguments.signs, RECIPE, SIGNERS, EACH, OOD_EACH, None)
    pictures = plan(SIGNERS, EACH, OOD_EACH)
    features = features_of(arguments.signs, pictures)
    sign_N = np.array([p.kind == "sign" for p in pictures])
    own_N = sign_N & np.array([p.signer in LEARNED for p in pictures])
    back_N = np.array([p.number % HELD_BACK == 0 for p in pictures])
    labels_N = np.array([LABELS.index(p.name) if p.kind == "sign" else -1 for p in pictures])
    learn_N = own_N & ~back_N
    heads = [
        trained(HEAD, len(LABELS), features[learn_N][:, None], labels_N[learn_N], seed)
        for seed in SEEDS
    ]
    probs = [torch.softmax(torch.from_numpy(logits_of(h, features)), -1).numpy() for h in heads]

    def confident(rows_N: NDArray[np.bool_]) -> dict[str, Any]:
        shares = [float((p[rows_N].max(-1) >= CONFIDENT).mean()) for p in probs]
        return {"n": int(rows_N.sum()), "confident": over_heads(shares)}

    def accuracy(rows_N: NDArray[np.bool_]) -> dict[str, float]:
        return over_heads([float((p[rows_N].argmax(-1) == labels_N[rows_N]).mean()) for p in probs])

    signs = {
        "own signers, held back": own_N & back_N,
        "two unseen signers": sign_N & ~own_N,
    }
    names_N = np.array([p.name for p in pictures])
    return {
        "seeds": SEEDS,
        "learned": int(learn_N.sum()),
        "signs": {
            name: {**confident(rows), "accuracy": accuracy(rows)} for name, rows in signs.items()
        },
        "ood": {
            str(name): confident(~sign_N & (names_N == name))
            for name in dict.fromkeys(names_N[~sign_N])
        },
    }


def table(results: Results) -> str:
    """A row per set."""
    rows = []
    for name, part in {**results["signs"], **results["ood"]}.items():
        right = part.get("accuracy")
        rows.append(
            [
                name,
                str(part["n"]),
                f"{right['mean']:.4f} ± {right['sd']:.4f}" if right else "–",
                f"{part['confident']['mean']:.3f} ± {part['confident']['sd']:.3f}",
            ]
        )
    return markdown(["images", "n", "right", "answered with ≥ 0.90"], rows) + (
        f"\nOne model of the default recipe, three built-in signers learned, {results['learned']} "
        f"pictures at 640×480; ± is the standard deviation over {len(results['seeds'])} seeds; "
        f"{results['hardware']}; `{results['command']}`\n"
    )


def main() -> None:
    """Measure and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--signs", type=Path, default=Path("runs/overconfident-signs"))
    publish(NAME, parser.parse_args(), measure, table)


if __name__ == "__main__":
    main()

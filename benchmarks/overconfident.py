"""The seed's complaint on built-in signers: one ordinary model, sure of images that show no sign.

    python benchmarks/overconfident.py --signs runs/overconfident-signs

Renders five signers, 100 pictures of each of the 27 labels at 640×480, and 100 of each strange set
(once; ``--signs`` keeps them). The default recipe, a head on frozen AlexNet convolutions, learns
three signers; a fifth of their pictures is held back, two signers are never seen. Reported are the
accuracy on both, and the share of every strange set that one model answers with a confidence of
0.90 or more. Writes results/overconfident.json and results/overconfident.md.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hardware import hardware
from heads import trained
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.config import DataConfig, MemberConfig
from sign_ensemble.core.console import progress
from sign_ensemble.data.feature_cache import features_of_images
from sign_ensemble.data.images import read_image
from sign_ensemble.learning.network import Head, logits_of
from sign_ensemble.synthetic.picture_folder import synthesize
from sign_ensemble.synthetic.picture_set import LABELS, Picture, Recipe, plan

RESULTS = Path(__file__).parent / "results"
RECIPE = Recipe(seed=0, spread=1.0, width=640, height=480)
SIGNERS, EACH, STRANGE_EACH = 5, 100, 100
LEARNED = (1, 2, 3)  # the other two are strangers
HELD_BACK = 5  # one in so many pictures of each label and signer
HEAD = MemberConfig(augment_prob=0.0)  # the seed's recipe: no views
SEEDS = (0, 1, 2)
SURE = 0.90
AT_ONCE = 256

Features = NDArray[np.float16]


def features_of(folder: Path, pictures: list[Picture]) -> Features:
    """Features (N, E) of pictures as the package reads them."""
    data = DataConfig()
    load = partial(read_image, data=data)
    found = []
    with ThreadPoolExecutor(2) as readers, progress("pictures read") as step:
        for start in range(0, len(pictures), AT_ONCE):
            some = [folder / p.path for p in pictures[start : start + AT_ONCE]]
            squares = np.stack(list(readers.map(load, some)))
            found.append(features_of_images(squares, "shipped").head_ND)
            step(start + len(some), len(pictures))
    return np.concatenate(found)


def probabilities(head: Head, features_ND: Features) -> NDArray[np.float32]:
    """Softmax of the head's logits (N, K)."""
    return torch.softmax(torch.from_numpy(logits_of(head, features_ND)), -1).numpy()


def of(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over heads."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}


def table(results: dict[str, Any]) -> str:
    """results/overconfident.md: what README quotes."""
    lines = ["| images | n | right | answered with ≥ 0.90 |", "| --- | --- | --- | --- |"]
    for name, part in results["signs"].items():
        right, sure = part["accuracy"], part["sure"]
        lines.append(
            f"| {name} | {part['n']} | {right['mean']:.4f} ± {right['sd']:.4f} "
            f"| {sure['mean']:.3f} ± {sure['sd']:.3f} |"
        )
    for name, part in results["strange"].items():
        sure = part["sure"]
        lines.append(f"| {name} | {part['n']} | – | {sure['mean']:.3f} ± {sure['sd']:.3f} |")
    lines += [
        "",
        f"One model of the default recipe, three built-in signers learned, {results['learned']} "
        f"pictures at 640×480; ± is the standard deviation over {len(results['seeds'])} seeds; "
        f"{results['hardware']}. Made by `{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Render what is missing, learn, ask."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--signs", type=Path, default=Path("runs/overconfident-signs"))
    folder = parser.parse_args().signs
    synthesize(folder, RECIPE, SIGNERS, EACH, STRANGE_EACH, None)
    pictures = plan(SIGNERS, EACH, STRANGE_EACH)
    features = features_of(folder, pictures)
    sign_N = np.array([p.kind == "sign" for p in pictures])
    own_N = sign_N & np.array([p.signer in LEARNED for p in pictures])
    back_N = np.array([p.number % HELD_BACK == 0 for p in pictures])
    labels_N = np.array([LABELS.index(p.name) if p.kind == "sign" else -1 for p in pictures])
    learn_N = own_N & ~back_N
    learned, as_labels = features[learn_N][:, None], labels_N[learn_N]
    heads = [trained(HEAD, len(LABELS), learned, as_labels, seed) for seed in SEEDS]
    probs = [probabilities(head, features) for head in heads]

    def sure(rows_N: NDArray[np.bool_]) -> dict[str, float]:
        return of([float((p[rows_N].max(-1) >= SURE).mean()) for p in probs])

    results: dict[str, Any] = {
        "command": "python benchmarks/overconfident.py",
        "hardware": hardware(),
        "seeds": SEEDS,
        "learned": int(learn_N.sum()),
        "signs": {
            name: {
                "n": int(rows.sum()),
                "accuracy": of(
                    [float((p[rows].argmax(-1) == labels_N[rows]).mean()) for p in probs]
                ),
                "sure": sure(rows),
            }
            for name, rows in (
                ("own signers, held back", own_N & back_N),
                ("two strangers", sign_N & ~own_N),
            )
        },
        "strange": {},
    }
    names_N = np.array([p.name for p in pictures])
    for name in dict.fromkeys(names_N[~sign_N]):
        rows = ~sign_N & (names_N == name)
        results["strange"][str(name)] = {"n": int(rows.sum()), "sure": sure(rows)}
    write_json(RESULTS / "overconfident.json", results)
    text = table(json.loads((RESULTS / "overconfident.json").read_text()))
    (RESULTS / "overconfident.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

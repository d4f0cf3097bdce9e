"""What would a million images and ten thousand trials cost on 1, 8 and 64 GPUs? A model.

Reads results/features.json, search.json, overhead.json, prediction.json and gpu.json, and writes
results/scaling.md. What is measured is scaled in proportion; several GPUs, storage and a network
are assumed, since nothing was run on them: see ASSUMED.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from shared.results import Results, markdown, parser_of, stored

from sign_ensemble.core.config import Config
from sign_ensemble.data.backbone import ALL_FEATURES, HEAD_FEATURES

GPUS = (1, 8, 64)
NAMES = ("features", "search", "overhead", "prediction", "gpu")


@dataclass(frozen=True)
class Assumed:
    """What was not measured.

    Args:
        images: Training images.
        trials: Trials.
        image_bytes: Of a JPEG file of 640 × 480.
        cores: Processor cores per GPU, as fast as those measured on.
        node: GPUs of a node.
        storage: Bytes per second that shared storage gives to all together.
        network: Bytes per second into a node: 25 Gbit/s.
    """

    images: int = 1_000_000
    trials: int = 10_000
    image_bytes: int = 60_000
    cores: int = 16
    node: int = 8
    storage: float = 2e9
    network: float = 25e9 / 8


ASSUMED = Assumed()


@dataclass(frozen=True)
class Measured:
    """What the benchmarks gave, per unit.

    Args:
        image: Seconds of a core to read, decode and square an image of 640 × 480.
        augmentation: Seconds of a core to draw an augmented copy.
        epochs: Epochs of a head.
        heads: Heads per trial; others were pruned.
        trial: Seconds by the clock that a trial takes beyond its heads, on one driver.
        mebibytes: Of the driver's memory per trial.
        distances: Seconds of a core per image for the distances to the reference set.
        pictures: That a GPU convolves per second, from the memory of its machine.
        step: Seconds of a step of a head on a GPU, which waits for many small kernels.
        tuned: Images that a GPU fine-tunes all layers on per second.
    """

    image: float
    augmentation: float
    epochs: float
    heads: float
    trial: float
    mebibytes: float
    distances: float
    pictures: float
    step: float
    tuned: float


def measured(found: dict[str, Any]) -> Measured:
    """From the results by name."""

    def beyond(case: str) -> float:
        """Seconds of a core per picture beyond the convolutions."""
        rates = found["features"]["pictures_per_second"][case]
        first, alone = (float(np.median(rates[name])) for name in ("first pass", "limit"))
        return 2 * (1 / first - 1 / alone)

    image, with_copy = (
        beyond("640x480, no augmentation"),
        2 * beyond("640x480, 1 augmented copy"),
    )
    searched = found["search"]["rounds"][0]["this search"]
    shown = searched["shown"] / searched["heads"]  # by a head, of three quarters of the images
    learned = 0.75 * int(found["search"]["images"].split()[0].replace(",", ""))
    seconds = found["prediction"]["answers"]["seconds"]
    distances = sum(seconds["five members, all scores"]) - sum(seconds["five members"])
    return Measured(
        image=image,
        augmentation=max(0.0, with_copy - image),
        epochs=shown / learned,
        heads=searched["heads"] / found["search"]["trials"],
        trial=found["overhead"]["figures"][0]["by_the_clock"],
        mebibytes=found["overhead"]["figures"][0]["growth_tiny"],
        distances=2 * distances / found["prediction"]["images"],
        pictures=float(np.median(found["gpu"]["convolutions"]["images in memory"])),
        step=float(np.median(found["gpu"]["heads"]["GPU, 32 rows"])) / 1000,
        tuned=float(np.median(found["gpu"]["finetuning"]["all, this loop"])),
    )


def demands(of: Measured, gpus: int, on: Assumed, config: Config) -> dict[str, dict[str, float]]:
    """Seconds that each stage would take if one thing alone set its pace."""
    augmentations, folds = config.data.augmentations, config.search.folds
    components, batch = config.member.components, config.member.batch_size
    rows = on.images * (1 + augmentations) * ALL_FEATURES * 2.0  # bytes of all features
    learned = on.images * (folds - 1) / folds
    projected = folds * learned * (1 + augmentations) * components * 2.0
    cores, nodes = on.cores * gpus, max(1, gpus // on.node)
    steps = on.trials * of.heads * of.epochs * learned / batch
    networks = config.ensemble.size + folds  # a fold model per fold
    shown = networks * config.finetune.epochs * on.images
    return {
        "features": {
            "convolutions": on.images * (1 + augmentations) / of.pictures / gpus,
            "decoding and augmentation": on.images
            * (of.image + augmentations * of.augmentation)
            / cores,
            "storage": (on.images * on.image_bytes + rows) / on.storage,
        },
        "principal components": {
            "storage": folds * learned * (1 + augmentations) * HEAD_FEATURES * 2.0 / on.storage,
            "network": projected / on.network if nodes > 1 else 0.0,
        },
        "search": {
            "heads' steps": steps * of.step / gpus,
            "the driver": on.trials * of.trial,
        },
        "fine-tuning": {
            "steps": shown / of.tuned / gpus,
            "storage": shown * 3.0 * config.data.size**2 / on.storage,
        },
        "rule": {"the driver's cores": on.images * of.distances / (on.cores * min(gpus, on.node))},
    }


def words(seconds: float) -> str:
    """5 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def table(found: Results, on: Assumed = ASSUMED, config: Config | None = None) -> str:
    """A row per stage and what could set its pace."""
    config = config or Config()
    of = measured(found)
    every = [demands(of, gpus, on, config) for gpus in GPUS]
    rows = []
    for stage in every[0]:
        for what in every[0][stage]:
            cells = [f"{stage}: {what}"]
            for one in every:
                mark = "**" * (one[stage][what] == max(one[stage].values()))
                cells.append(f"{mark}{words(one[stage][what])}{mark}")
            rows.append(cells)
    totals = [sum(max(stage.values()) for stage in one.values()) for one in every]
    rows.append(["together", *(words(total) for total in totals)])
    copies, folds = 1 + config.data.augmentations, config.search.folds
    features = on.images * copies * ALL_FEATURES * 2
    projected = on.images * (folds - 1) * copies * config.member.components * 2
    augmentation = (
        f"{1000 * of.augmentation:.1f} ms"
        if of.augmentation > 1e-4
        else "too little to be told from that"
    )
    header = ["stage: what sets its pace", *(f"{g} GPU{'s' * (g > 1)}" for g in GPUS)]
    return markdown(header, rows) + (
        f"\nBold is what sets a stage's pace. Storage: {on.images * on.image_bytes / 1e9:.0f} GB "
        f"of images, {features / 1e9:.0f} GB of features; {projected / 1e9:.0f} GB of folds' "
        "projected features in each node's shared memory; the driver holds "
        f"{on.trials * of.mebibytes / 1024:.1f} GiB for its trials. Measured, on two cores: an "
        f"image read, decoded and resized {1000 * of.image:.1f} ms of a core, an augmented copy "
        f"{augmentation}, its distances to the reference set {1000 * of.distances:.1f} ms; "
        f"{of.heads:.1f} heads per trial of {of.epochs:.1f} epochs; {of.trial:.2f} s a trial on "
        f"the driver. Measured on one GPU ({found['gpu']['hardware']}): {of.pictures:,.0f} "
        f"pictures convolved a second, {1000 * of.step:.1f} ms for a step of "
        f"{config.member.batch_size} images, {of.tuned:,.0f} images a second in fine-tuning "
        f"({config.ensemble.size} members and {folds} fold models of {config.finetune.epochs} "
        "epochs; decoded images are read from storage in each, but once by a node whose memory "
        f"holds all {3 * config.data.size**2 * on.images / 1e9:.0f} GB of them). Assumed: as many "
        f"times that as there are GPUs; {on.cores} cores per GPU, {on.node} GPUs a node; "
        f"storage gives {on.storage / 1e9:.0f} GB/s to all together, a node receives "
        f"{8 * on.network / 1e9:.0f} Gbit/s; JPEG files of {on.image_bytes // 1000} kB.\n"
    )


def main() -> None:
    """Read and write."""
    arguments = parser_of(__doc__).parse_args()
    text = table({name: stored(arguments, name) for name in NAMES})
    (arguments.results / "scaling.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""Images to a task: manifest, frozen features, folds, self-made negatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.config import Config, DataConfig
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.ray_cluster import PendingRay, many_nodes
from sign_ensemble.core.run_folder import RunFolder, cache_of, open_run
from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data import manifest
from sign_ensemble.data.backbone import HEAD_FEATURES, Features, concatenate
from sign_ensemble.data.feature_cache import Compute, features_of_images, features_of_rows
from sign_ensemble.data.images import SetAside, read_image
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.data.negatives import negatives_of_fold
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning.head_training import fold_of_each
from sign_ensemble.learning.task import Task, seed_of


@dataclass(frozen=True)
class Prepared:
    """A run whose images are listed and whose features lie ready."""

    config: Config
    run: RunFolder
    manifest: Manifest
    task: Task

    @property
    def rows(self) -> pa.Table:
        """The training images, in the order of the task."""
        return self.manifest.rows("train")


def read_images(
    rows: pa.Table, root: Path, data: DataConfig, chosen: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Decoded images (N, H, W, 3) of manifest rows.

    Raises:
        UserError: an image was there when the manifest was made and cannot be read now.
    """
    paths = rows.column("path").to_pylist()
    picked = [root / paths[i] for i in (range(len(paths)) if chosen is None else chosen)]

    def square(path: Path) -> NDArray[np.uint8]:
        try:
            return read_image(path, data)
        except SetAside as reason:
            raise UserError(f"{path}: was in order before, now it is not: {reason}") from None

    if not picked:
        return np.zeros((0, data.size, data.size, 3), np.uint8)
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(square, picked)))


def list_images(
    config: Config, run: RunFolder, names_fit: Callable[[], object] = lambda: None
) -> Manifest:
    """The run's manifest: read if it is there and still true, else made.

    Args:
        config: All settings.
        run: Where it lies.
        names_fit: Called after each image read, so when nothing was refused that names alone can
            show; not where the manifest is there.

    Raises:
        UserError: images have changed since the run began.
    """
    if run.manifest.exists():
        listed = manifest.read(run.manifest)
        if changed := manifest.changed(listed):
            raise UserError(
                f"{len(changed)} images have changed since {run.path} began, first {changed[0]}: "
                "give another run.name"
            )
        return listed
    with progress("images read") as step:

        def read(done: int, of: int) -> None:
            names_fit()
            step(done, of)

        listed = manifest.build(config.data, read)
    manifest.write(listed, run.manifest)
    counts = listed.counts()
    say(
        f"{counts.get('train', 0)} images of {len(listed.signers('train'))} signers to learn "
        f"{len(listed.labels)} labels from, {counts.get('test', 0)} of "
        f"{len(listed.signers('test'))} held out, {counts.get('near', 0)} near, "
        f"{counts.get('unused', 0)} unused, {counts.get('set-aside', 0)} set aside"
    )
    if counts["further"]:
        say(
            f"{counts['further']} images of {len(listed.signers('further'))} further signers, for "
            "fine-tuning alone"
        )
    aside = listed.rows("set-aside").to_pylist()
    for row in aside[:20]:
        say(f"set aside: {row['path']}: {row['reason']}")
    if len(aside) > 20:
        say(f"set aside: {len(aside) - 20} more, listed in {run.manifest}")
    for line in manifest.gaps(listed):
        say(line)
    return listed


def negatives_of(prepared: Prepared, fold: int) -> dict[str, NDArray[np.uint8]]:
    """Self-made negatives from a fold's images, by kind; none if these have but one label."""
    config, task = prepared.config, prepared.task

    def read(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        return read_images(prepared.rows, prepared.manifest.root, config.data, chosen.tolist())

    seed = seed_of(config.search.seed, fold)
    return negatives_of_fold(
        task.folds_N, task.labels_N, fold, config.rejection.negatives, seed, read
    )


def make_negatives(
    prepared: Prepared, cluster: PendingRay | None
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Make the self-made negatives of every fold, while a Ray that is not there yet starts.

    Returns:
        Their features, folds and kinds, by name, and what the kinds' numbers mean.
    """
    config, task = prepared.config, prepared.task
    parts: list[Features] = []
    folds: list[int] = []
    kinds: list[str] = []

    def made(fold: int) -> tuple[dict[str, int], Features]:
        images = negatives_of(prepared, fold)
        counts = {kind: len(some) for kind, some in images.items()}
        if not images:
            return counts, concatenate([])
        # in one go: each kind by itself would fill a part of its last pass alone
        return counts, features_of_images(np.concatenate(list(images.values())), weights)

    weights = config.data.weights
    with progress("negatives made") as step:
        for fold, (counts, features) in enumerate(map_on_threads(task.folds, made)):
            parts.append(features)
            for kind, count in counts.items():
                folds += [fold] * count
                kinds += [kind] * count
            step(fold + 1, task.folds)
            if cluster:
                cluster.look()
    if not kinds:
        raise UserError("no training signer has two labels: no negatives can be made from them")
    names = sorted(set(kinds))
    found = concatenate(parts)
    arrays: dict[str, NDArray[Any]] = {
        "features": found.head_ND,
        "fourth": found.fourth_ND,
        "folds": np.array(folds, np.int64),
        "kinds": np.array([names.index(kind) for kind in kinds], np.int64),
    }
    return arrays, names


def compute_features(config: Config, listed: Manifest, cluster: PendingRay | None) -> CachedArray:
    """The features of the training images, while a Ray that is not there yet starts."""
    rows, cache = listed.rows("train"), cache_of(config)
    compute: Compute | None = None
    if cluster is None or cluster.up.done() or config.data.engine == "ray":
        if cluster:
            cluster.wait()
        if runs_on_cluster(config.data):
            from sign_ensemble.data.ray_features import compute_on_cluster

            compute = compute_on_cluster
    with progress("features computed") as step:

        def computed(done: int, of: int) -> None:
            step(done, of)
            if cluster:
                cluster.look()

        try:
            return features_of_rows(rows, listed.root, config.data, cache, computed, compute)
        except SetAside as reason:
            raise UserError(f"{listed.root}: an image cannot be read any more: {reason}") from None


def prepare(
    config: Config, listed: Manifest | None = None, cluster: PendingRay | None = None
) -> Prepared:
    """List the images, compute the features that training needs, make the negatives.

    Args:
        config: All settings.
        listed: The images, if they have been listed just now.
        cluster: A Ray that may still be starting: it is there when this ends.

    Raises:
        UserError: an image cannot be read, or the cluster cannot do what is asked.
    """
    run = open_run(config)
    listed = listed or list_images(config, run)
    rows = listed.rows("train")
    features = compute_features(config, listed, cluster)
    labels = listed.labels
    labels_N = np.array([labels.index(name) for name in rows.column("label").to_pylist()], np.int64)
    random = config.data.signers == "none"
    signers_N = np.array(["" if random else name for name in rows.column("signer").to_pylist()])
    folds_N, names = fold_of_each(signers_N, labels_N, config.search.folds, config.search.seed)
    task = Task(
        features=features,
        labels_N=labels_N,
        folds_N=folds_N,
        fold_names=names,
        labels=tuple(labels),
        negatives=str(run.negatives),
        seed=config.search.seed,
    )
    prepared = Prepared(config, run, listed, task)
    there = read_arrays(run.negatives)[0] if run.negatives.exists() else {}
    if there and (width := there["features"].shape[1]) != HEAD_FEATURES:
        raise UserError(
            f"{run.path}: begun by an earlier version, whose heads read {width} features of an "
            f"image; now they read {HEAD_FEATURES}: give another run.name"
        )
    # none made yet, or by a version that did not look at that layer
    made = None if "fourth" in there else make_negatives(prepared, cluster)
    if cluster:
        cluster.wait()  # what it cannot do is refused before a mended call would find files
    if made:
        arrays, kinds = made
        write_arrays(run.negatives, arrays, {"kinds": kinds})
    return prepared


def runs_on_cluster(data: DataConfig) -> bool:
    """Whether features are computed over the cluster."""
    if data.engine != "auto":
        return data.engine == "ray"
    return many_nodes()

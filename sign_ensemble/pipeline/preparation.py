"""Images to a task: manifest, frozen features, folds.

Letters: N images, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import write_json
from sign_ensemble.core.config import Config, DataConfig
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.ray_cluster import PendingRay, many_nodes
from sign_ensemble.core.run_folder import RunFolder, cache_of, open_run
from sign_ensemble.core.whose_signs import of_signers
from sign_ensemble.data import manifest
from sign_ensemble.data.feature_cache import Compute, features_of_rows, hands_of_rows
from sign_ensemble.data.handedness import mirrored_rows
from sign_ensemble.data.images import SetAside, read_image
from sign_ensemble.data.manifest import Manifest
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.data.shards import Progress
from sign_ensemble.data.splits import in_file_order
from sign_ensemble.data.square_pictures import picture_side
from sign_ensemble.learning.fold_models import block_of_each, fold_of_each
from sign_ensemble.learning.task import KINDS, Kind, Task

LEAST_FOUND = 0.5  # share of training images with a hand, from which landmarks are learned from


@dataclass(frozen=True)
class Prepared:
    """A run with its manifest and with features of its training images."""

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

    def read(path: Path) -> NDArray[np.uint8]:
        try:
            return read_image(path, data)
        except SetAside as reason:
            raise UserError(f"{path}: was in order before, now it is not: {reason}") from None

    if not picked:
        side = picture_side(data)
        return np.zeros((0, side, side, 3), np.uint8)
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(read, picked)))


def list_images(
    config: Config, run: RunFolder, after_each: Callable[[], object] = lambda: None
) -> Manifest:
    """The run's manifest: read if it is there and still true, else made.

    ``after_each`` is called after each image read; by then all that file names can tell has been
    checked. It is not called where the manifest is there.

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
            after_each()
            step(done, of)

        listed = manifest.build(config.data, read)
    manifest.write(listed, run.manifest)
    counts = listed.counts()
    say(
        f"{of_signers(counts['train'], listed.signers('train'))} to learn "
        f"{len(listed.labels)} labels from, "
        f"{of_signers(counts['test'], listed.signers('test'))} held out, "
        f"{counts['near']} near, {counts['far']} far, {counts['unused']} unused, "
        f"{counts['set-aside']} set aside"
    )
    if counts["extra"]:
        say(
            f"{counts['extra']} images of {len(listed.signers('extra'))} extra signers, for "
            "fine-tuning only"
        )
    aside = listed.rows("set-aside").to_pylist()
    for row in aside[:20]:
        say(f"set aside: {row['path']}: {row['reason']}")
    if len(aside) > 20:
        say(f"set aside: {len(aside) - 20} more, listed in {run.manifest}")
    for line in [*listed.left_out, *manifest.gaps(listed), *manifest.twins_in_words(listed)]:
        say(line)
    return listed


@dataclass(frozen=True)
class FoundHands:
    """What was found in the training images."""

    images: int  # training images
    found: int  # with a hand
    mirrored: int  # that are mirrored, since the signer shows the left hand
    folds: int = 2  # in how many folds there is one

    @property
    def are_many(self) -> bool:
        """Whether most images show one."""
        return self.found >= LEAST_FOUND * self.images

    @property
    def are_enough(self) -> bool:
        """Whether landmarks can be learned from, whichever fold is left out."""
        return self.are_many and self.folds > 1

    def say(self) -> None:
        """Tell the user."""
        say(f"hands found in {self.found} of {self.images} images; {self.mirrored} are mirrored")
        if not self.are_enough:
            where = "one fold's images only" if self.are_many else "under half of the images"
            say(
                f"a hand was found in {where}: members read pixels alone; if these pictures do "
                "show hands, say --data.crop none"
            )


def compute_features(
    config: Config, listed: Manifest, folds_N: NDArray[np.int64], cluster: PendingRay | None
) -> tuple[CachedArray, FoundHands | None]:
    """The features of the training images, and what hands were found, if they were looked for;
    meanwhile Ray may be starting. ``folds_N`` is each image's fold.
    """
    rows, cache, data = listed.rows("train"), cache_of(config), config.data
    compute: Compute | None = None
    find: Compute | None = None
    if cluster is None or cluster.up.done() or config.data.engine == "ray":
        if cluster:
            cluster.wait()
        if runs_on_cluster(config.data):
            from sign_ensemble.data.ray_features import compute_on_cluster, hands_on_cluster

            compute, find = compute_on_cluster, hands_on_cluster

    def shown(step: Progress) -> Progress:
        def computed(done: int, of: int) -> None:
            step(done, of)
            if cluster:
                cluster.look()

        return computed

    try:
        if data.crop == "none":
            with progress("features computed") as step:
                return features_of_rows(rows, listed.root, data, cache, shown(step), compute), None
        with progress("images looked at for hands") as step:
            hands = hands_of_rows(rows, listed.root, data, cache, shown(step), find)
        mirrored_N = mirrored_rows(hands, rows.column("signer").to_pylist(), data)
        counts = int(hands.found_N.sum()), int(mirrored_N.sum())
        found = FoundHands(len(rows), *counts, len(np.unique(folds_N[hands.found_N])))
        found.say()
        with progress("features computed") as step:
            about = (rows, listed.root, data, cache, shown(step), compute, hands, mirrored_N)
            return features_of_rows(*about), found
    except SetAside as reason:
        raise UserError(f"{listed.root}: an image cannot be read any more: {reason}") from None


def kinds_of(config: Config, found: FoundHands | None) -> tuple[Kind, ...]:
    """The kinds of members that can be trained."""
    if found and found.are_enough and "landmarks" in config.ensemble.kinds:
        return KINDS
    return ("pixels",)


def prepare(
    config: Config, listed: Manifest | None = None, cluster: PendingRay | None = None
) -> Prepared:
    """List the images, unless ``listed`` has them, and compute the features that training needs.

    A ``cluster`` that may still be starting runs when this ends.

    Raises:
        UserError: an image cannot be read, or the cluster cannot do what is asked.
    """
    run = open_run(config)
    listed = listed or list_images(config, run)
    labels = tuple(listed.labels)
    labels_N, folds_N, names = training_folds(config, listed)
    features, found = compute_features(config, listed, folds_N, cluster)
    if found:
        write_json(run.hands, asdict(found))
    kinds = kinds_of(config, found)
    task = Task(features, labels_N, folds_N, names, labels, config.search.seed, kinds=kinds)
    if cluster:
        cluster.wait()  # what it cannot do is refused before the run has files
    return Prepared(config, run, listed, task)


def training_folds(
    config: Config, listed: Manifest
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Label and fold of each of N training images, both (N,), and what the folds are called."""
    rows, labels = listed.rows("train"), list(listed.labels)
    labels_N = np.array([labels.index(name) for name in rows.column("label").to_pylist()], np.int64)
    if config.data.signers == "none":
        paths = [in_file_order(path) for path in rows.column("path").to_pylist()]
        order_N = np.array(sorted(range(len(paths)), key=paths.__getitem__), np.int64)
        return labels_N, *block_of_each(labels_N, order_N, config.search.folds)
    signers_N = np.array(rows.column("signer").to_pylist())
    return labels_N, *fold_of_each(signers_N, config.search.folds)


def runs_on_cluster(data: DataConfig) -> bool:
    """Whether features are computed over the cluster."""
    if data.engine != "auto":
        return data.engine == "ray"
    return many_nodes()

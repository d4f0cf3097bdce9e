"""Rows of the manifest to frozen features, computed once and read from one memory-mapped file.

A cache folder belongs to one set of weights and one way of making images and views. In it,
``features.f16`` holds a slot per image content, see ``slots.py``: 1 + V float16 rows of E values,
the image and its V views.

Letters: N images, V views, E features of both layers, S side in pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from sign_ensemble.config import DataConfig
from sign_ensemble.data import backbone, views
from sign_ensemble.data.images import geometry, square_of
from sign_ensemble.data.shards import Progress
from sign_ensemble.data.slots import Kind, Slots, slots_of
from sign_ensemble.storage import Place

AT_ONCE = 8  # images that a thread decodes together


def plain(features: Slots) -> NDArray[np.float16]:
    """The features of the images themselves, without views: (N, E)."""
    values: NDArray[np.float16] = features.open()[features.slots_N, 0]
    return values


@dataclass(frozen=True)
class Cached:
    """The features of the images themselves, read from their file when they are asked for."""

    features: Slots

    def rows(self, chosen: NDArray[np.int64]) -> backbone.Features:
        """Those of some of the images."""
        some = replace(self.features, slots_N=self.features.slots_N[chosen])
        return backbone.Features(plain(every(some)))


def every(features: Slots) -> Slots:
    """What heads do not read shown too: rows of A instead of E features."""
    return replace(features, columns=None)


@dataclass(frozen=True)
class Work:
    """One image whose features are missing."""

    path: str
    sha256: str
    slot: int


def preparation(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """How an image becomes the features that a head reads: what is known to heads trained on them,
    and refused where it has changed since.
    """
    return {
        **geometry(data),
        "weights": weights_sha256,
        "layers": [backbone.THIRD, backbone.PLACES],
        "features": backbone.E,
    }


def cache_key(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """What the content of a cache folder depends on, beside the images."""
    return {
        **preparation(data, weights_sha256),
        "beside": [backbone.FOURTH, backbone.F],
        "views": data.views,
        "ranges": views.settings() if data.views else None,
        "mirror": data.mirror if data.views else None,
        "dtype": "float16",
    }


def images_with_views(works: Sequence[Work], data: DataConfig) -> NDArray[np.uint8]:
    """Decode images and draw their views, on one thread.

    Returns:
        uint8 (len(works) * (1 + V), S, S, 3), an image and then its views, image by image.
    """
    images_NSS3 = np.stack([square_of(Path(work.path), data) for work in works])
    keys = [work.sha256 for work in works]
    each = [images_NSS3]
    for view in range(1, data.views + 1):
        each.append(np.asarray(views.augment(images_NSS3, keys, view, data.mirror)))
    return np.stack(each, 1).reshape(-1, *images_NSS3.shape[1:])


def compute_here(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float16]]:
    """A slot of each image in turn, (1 + V, A).

    A GPU convolves while the next images are decoded. A processor does one after the other, each
    on all its threads: a decoding thread beside them would only make the convolutions' wait.
    """
    net = backbone.load(data.weights)
    size = backbone.BATCH  # so that every pass but the last is full
    groups = [works[i : i + size] for i in range(0, len(works), size)]
    ahead = 1 if net.device.type == "cpu" else 2  # groups of images asked for at a time

    def batches() -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            asked: deque[list[Future[NDArray[np.uint8]]]] = deque()
            for number in range(len(groups) + ahead - 1):
                if number < len(groups):
                    some = groups[number]
                    parts = [some[i : i + AT_ONCE] for i in range(0, len(some), AT_ONCE)]
                    asked.append([pool.submit(images_with_views, part, data) for part in parts])
                if number < ahead - 1:
                    continue
                images = np.concatenate([part.result() for part in asked.popleft()])
                for i in range(0, len(images), backbone.BATCH):
                    yield images[i : i + backbone.BATCH]

    rows: list[NDArray[np.float16]] = []
    for found in net.features(batches()):
        rows.extend(found.every_NA)
        while len(rows) > data.views:
            yield np.stack(rows[: 1 + data.views])
            del rows[: 1 + data.views]


def features_of_images(
    images_NSS3: NDArray[np.uint8], weights: str, progress: Progress | None = None
) -> backbone.Features:
    """Features of images that are already in memory, for strange sets and predictions."""
    return backbone.load(weights).of_images(images_NSS3, progress)


def features_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: Place,
    progress: Progress | None = None,
    spread: bool = False,
) -> Slots:
    """Features of the images in these rows and of their views, computing only what is missing.

    Args:
        rows: Manifest rows with path and sha256.
        root: Folder that the paths are relative to.
        data: Size, fit, views and weights.
        cache: Folder of all feature caches.
        progress: Called with (images done, images missing).
        spread: Compute over the Ray cluster with Ray Data instead of in this process.

    Returns:
        Where the features lie; shown are those that heads read, see :func:`every`.

    Raises:
        UserError: the cache cannot be written.
    """
    if spread:
        from sign_ensemble.data.spread import compute_on_cluster as compute
    else:
        compute = compute_here
    key = cache_key(data, backbone.load(data.weights).sha256)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    wanted = rows.column("sha256").to_pylist()
    path_of = dict(zip(wanted, rows.column("path").to_pylist(), strict=True))

    def make(missing: Sequence[tuple[str, int]]) -> Iterator[NDArray[np.float16]]:
        works = [Work(str(root / path_of[sha]), sha, slot) for sha, slot in missing]
        return compute(works, data)

    kind = Kind("features.f16", (1 + data.views, backbone.A), "float16", key)
    found = slots_of(cache / name, kind, wanted, make, progress)
    return replace(found, columns=backbone.E)

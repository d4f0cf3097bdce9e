"""Rows of the manifest to frozen features, computed once and read from one memory-mapped file.

A cache folder belongs to one set of weights and one way of making images and views. In it,
``features.f16`` holds a slot per image content, see ``slots.py``: 1 + V float16 rows of E values,
the image and its V views.

Letters: N images, V views, E features of both layers, H and W rows and columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.opencv_module import opencv
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.core.threads import map_on_threads
from sign_ensemble.data import backbone, convolutions
from sign_ensemble.data.augmentation import RANGES, by_opencv, range_settings
from sign_ensemble.data.images import geometry, read_image
from sign_ensemble.data.row_cache import CachedArray, RowSchema, cached_rows
from sign_ensemble.data.shards import Progress


def plain_features(features: CachedArray) -> NDArray[np.float16]:
    """The features of the images themselves, without views: (N, E)."""
    values: NDArray[np.float16] = features.open()[features.row_N, 0]
    return values


@dataclass(frozen=True)
class CachedFeatures:
    """The features of the images themselves, read from their file when they are asked for."""

    features: CachedArray

    def rows(self, chosen: NDArray[np.int64]) -> backbone.Features:
        """Those of some of the images."""
        some = replace(self.features, row_N=self.features.row_N[chosen])
        return backbone.Features(plain_features(all_layers(some)))


def all_layers(features: CachedArray) -> CachedArray:
    """What heads do not read shown too: rows of A instead of E features."""
    return replace(features, columns=None)


@dataclass(frozen=True)
class Work:
    """One image whose features are missing."""

    path: str
    sha256: str
    slot: int


def preprocessing_of(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """How an image becomes the features that a head reads: what is known to heads trained on them,
    and refused where it has changed since.
    """
    return {
        **geometry(data),
        "weights": weights_sha256,
        "layers": [convolutions.THIRD, convolutions.PLACES],
        "features": backbone.HEAD_FEATURES,
    }


def cache_key(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """What the content of a cache folder depends on, beside the images."""
    return {
        **preprocessing_of(data, weights_sha256),
        "beside": [convolutions.FOURTH, backbone.FOURTH_FEATURES],
        "augmentations": data.augmentations,
        "ranges": range_settings() if data.augmentations else None,
        "mirror": data.mirror if data.augmentations else None,
        "dtype": "float16",
    }


def pictures(
    works: Sequence[Work], data: DataConfig, chosen: range, table_1T3: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Some of the images and views of images, of which each comes before its V views.

    Args:
        works: The images.
        data: How they are read, and V.
        chosen: The pictures' numbers, at most 64: image i is i (1 + V), its first view the next.
        table_1T3: See :func:`by_opencv`; None leaves levels as they are.

    Returns:
        (P, H, W, 3) of uint8, or of the table's type and a whole pass of 64, zeros at its end.
    """
    each = 1 + data.augmentations
    first = chosen.start // each
    some = works[first : (chosen.stop - 1) // each + 1]
    images = [read_image(Path(work.path), data) for work in some]
    count, dtype = (
        (len(chosen), np.uint8) if table_1T3 is None else (backbone.BATCH, table_1T3.dtype)
    )
    found_NHW3 = np.empty((count, data.size, data.size, 3), dtype)
    found_NHW3[len(chosen) :] = 0
    for augmentation in range(each):
        numbers = [number for number in chosen if number % each == augmentation]
        into = [found_NHW3[number - chosen.start] for number in numbers]
        shown = [images[number // each - first] for number in numbers]
        if augmentation:
            keys = [works[number // each].sha256 for number in numbers]
            by_opencv(shown, keys, augmentation, data.mirror, RANGES, into, table_1T3)
            continue
        for image_HW3, into_HW3 in zip(shown, into, strict=True):
            if table_1T3 is None:
                into_HW3[:] = image_HW3
            else:
                opencv().LUT(image_HW3, table_1T3, into_HW3)
    return found_NHW3


def compute_here(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float16]]:
    """A slot of each image in turn, (1 + V, A).

    A pass is of 64 pictures, whichever images they belong to. Each thread of a processor makes a
    whole pass, from files to features; for a GPU threads draw the pictures of the next passes.
    """
    net = backbone.load(data.weights)
    each, size = 1 + data.augmentations, backbone.BATCH
    total = len(works) * each
    here = net.device.type == "cpu"
    table_1T3 = backbone.table_of_levels(net.half) if here else None

    def drawn(number: int) -> NDArray[Any]:
        chosen = range(number * size, min((number + 1) * size, total))
        return pictures(works, data, chosen, table_1T3)

    def convolved(number: int) -> backbone.Features:
        pixels_N3HW = backbone.from_bits(drawn(number), net.half)
        return net.convolved(pixels_N3HW, min(size, total - number * size))

    passes = -(-total // size)
    parts: Iterator[backbone.Features]
    if here:
        parts = map_on_threads(passes, convolved)
    else:  # pictures alone need little memory
        parts = net.features(map_on_threads(passes, drawn, most=passes))
    rest_NA = np.zeros((0, backbone.ALL_FEATURES), np.float16)
    for part in parts:
        rows_NA = np.concatenate([rest_NA, part.all_ND])
        whole = len(rows_NA) // each
        yield from rows_NA[: whole * each].reshape(whole, each, backbone.ALL_FEATURES)
        rest_NA = rows_NA[whole * each :]


Compute = Callable[[Sequence[Work], DataConfig], Iterator[NDArray[np.float16]]]


def features_of_images(
    images_NHW3: NDArray[np.uint8], weights: str, progress: Progress | None = None
) -> backbone.Features:
    """Features of images that are already in memory, for strange sets and predictions."""
    return backbone.load(weights).of_images(images_NHW3, progress)


def features_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: StoragePath,
    progress: Progress | None = None,
    compute: Compute | None = None,
) -> CachedArray:
    """Features of the images in these rows and of their views, computing only what is missing.

    Args:
        rows: Manifest rows with path and sha256.
        root: Folder that the paths are relative to.
        data: Size, fit, views and weights.
        cache: Folder of all feature caches.
        progress: Called with (images done, images missing).
        compute: Makes the features, over a cluster as ``ray_features.py`` does; None: here.

    Returns:
        Where the features lie; shown are those that heads read, see :func:`all_layers`.

    Raises:
        UserError: the cache cannot be written.
    """
    key = cache_key(data, backbone.load(data.weights).sha256)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    wanted = rows.column("sha256").to_pylist()
    path_of = dict(zip(wanted, rows.column("path").to_pylist(), strict=True))

    def make(missing: Sequence[tuple[str, int]]) -> Iterator[NDArray[np.float16]]:
        works = [Work(str(root / path_of[sha]), sha, slot) for sha, slot in missing]
        return (compute or compute_here)(works, data)

    kind = RowSchema(
        "features.f16", (1 + data.augmentations, backbone.ALL_FEATURES), "float16", key
    )
    found = cached_rows(cache / name, kind, wanted, make, progress)
    return replace(found, columns=backbone.HEAD_FEATURES)

"""Rows of the manifest to frozen features, computed once and read from one memory-mapped file.

A cache folder belongs to one set of weights and one way of making images and augmented copies. Its
file ``features.f16`` has a row per image content, see ``row_cache.py``: float16 (V, D).

Letters: N images, V an image and its augmented copies, D features.
"""

from __future__ import annotations

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
from sign_ensemble.data.row_cache import CachedArray, RowSchema, Work, cached_images
from sign_ensemble.data.shards import Progress


def plain_features(features: CachedArray) -> NDArray[np.float16]:
    """Features of the images themselves, (N, D)."""
    return features.open()[features.row_N, 0]


@dataclass(frozen=True)
class CachedFeatures:
    """Features of the images themselves, read from their file on demand."""

    features: CachedArray

    def rows(self, chosen: NDArray[np.int64]) -> backbone.Features:
        """Features of the chosen images."""
        some = replace(self.features, row_N=self.features.row_N[chosen])
        return backbone.Features(plain_features(all_layers(some)))


def all_layers(features: CachedArray) -> CachedArray:
    """The same rows with the features that heads do not read."""
    return replace(features, columns=None)


def preprocessing_of(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """How an image becomes a head's input; a trained head refuses images for which it differs."""
    return {
        **geometry(data),
        "weights": weights_sha256,
        "layers": [convolutions.THIRD, convolutions.GRID_SIDE],
        "features": backbone.HEAD_FEATURES,
    }


def cache_key(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """What the content of a cache folder depends on besides the images."""
    return {
        **preprocessing_of(data, weights_sha256),
        "fourth": [convolutions.FOURTH, backbone.FOURTH_FEATURES],
        "augmentations": data.augmentations,
        "ranges": range_settings() if data.augmentations else None,
        "mirror": data.mirror if data.augmentations else None,
        "dtype": "float16",
    }


def pictures(
    works: Sequence[Work], data: DataConfig, chosen: range, levels_out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """At most 64 of the pictures, which are each image followed by its augmented copies.

    Image i is picture i V. uint8 (N, H, W, 3); with levels_out (see :func:`by_opencv`) of its type,
    and zeros up to the 64 of a pass.
    """
    each = 1 + data.augmentations
    first = chosen.start // each
    some = works[first : (chosen.stop - 1) // each + 1]
    images = [read_image(Path(work.path), data) for work in some]
    count, dtype = (
        (len(chosen), np.uint8) if levels_out is None else (backbone.BATCH, levels_out.dtype)
    )
    pictures_NHW3 = np.empty((count, data.size, data.size, 3), dtype)
    pictures_NHW3[len(chosen) :] = 0
    for augmentation in range(each):
        numbers = [number for number in chosen if number % each == augmentation]
        into = [pictures_NHW3[number - chosen.start] for number in numbers]
        sources = [images[number // each - first] for number in numbers]
        if augmentation:
            keys = [works[number // each].sha256 for number in numbers]
            by_opencv(sources, keys, augmentation, data.mirror, RANGES, into, levels_out)
            continue
        for image_HW3, into_HW3 in zip(sources, into, strict=True):
            if levels_out is None:
                into_HW3[:] = image_HW3
            else:
                opencv().LUT(image_HW3, levels_out, into_HW3)
    return pictures_NHW3


def compute_here(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float16]]:
    """Features (V, D) of each image and its augmented copies, in turn.

    A pass takes 64 pictures, of whichever images. On a CPU each thread makes whole passes, from
    files to features; for a GPU the threads draw the pictures of the next passes.
    """
    net = backbone.load(data.weights)
    each, size = 1 + data.augmentations, backbone.BATCH
    total = len(works) * each
    on_cpu = net.device.type == "cpu"
    levels_out = backbone.table_of_levels(net.half) if on_cpu else None

    def drawn(number: int) -> NDArray[Any]:
        chosen = range(number * size, min((number + 1) * size, total))
        return pictures(works, data, chosen, levels_out)

    def convolved(number: int) -> backbone.Features:
        pixels_N3HW = backbone.from_bits(drawn(number), net.half)
        return net.convolved(pixels_N3HW, min(size, total - number * size))

    passes = -(-total // size)
    parts: Iterator[backbone.Features]
    if on_cpu:
        parts = map_on_threads(passes, convolved)
    else:  # pictures alone need little memory
        parts = map(net.of_batch, map_on_threads(passes, drawn, most=passes))
    rest_ND = np.zeros((0, backbone.ALL_FEATURES), np.float16)
    for part in parts:
        done_ND = np.concatenate([rest_ND, part.all_ND])
        complete = len(done_ND) // each
        yield from done_ND[: complete * each].reshape(complete, each, backbone.ALL_FEATURES)
        rest_ND = done_ND[complete * each :]


Compute = Callable[[Sequence[Work], DataConfig], Iterator[NDArray[np.float16]]]


def features_of_images(images_NHW3: NDArray[np.uint8], weights: str) -> backbone.Features:
    """Features of images in memory."""
    return backbone.load(weights).of_images(images_NHW3)


def features_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: StoragePath,
    progress: Progress | None = None,
    compute: Compute | None = None,
) -> CachedArray:
    """Features of the images in these rows and of their augmented copies; computes what is missing.

    ``compute`` is ``ray_features.compute_on_cluster`` or, if None, :func:`compute_here`; for the
    other arguments and the errors see :func:`cached_images`. The array shows the features that
    heads read; see :func:`all_layers` for the others.
    """
    shape = (1 + data.augmentations, backbone.ALL_FEATURES)
    key = cache_key(data, backbone.load(data.weights).sha256)
    schema = RowSchema("features.f16", shape, "float16", key)
    found = cached_images(
        rows, root, cache, schema, lambda works: (compute or compute_here)(works, data), progress
    )
    return replace(found, columns=backbone.HEAD_FEATURES)

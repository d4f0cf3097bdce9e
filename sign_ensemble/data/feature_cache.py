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
from sign_ensemble.data.hand_features import with_hands
from sign_ensemble.data.hand_mask import hand_mask_of
from sign_ensemble.data.hand_views import HandViews, hand_version, is_left, views_of
from sign_ensemble.data.images import read_image
from sign_ensemble.data.picture_conditions import condition_settings, copy_of, moved_points
from sign_ensemble.data.row_cache import CachedArray, HandWork, RowSchema, Work, cached_images
from sign_ensemble.data.shards import Progress
from sign_ensemble.data.square_pictures import geometry
from sign_ensemble.hands.finder import VALUES, Hands, find_hands, hands_near
from sign_ensemble.hands.hand_crop import box_in

BATCH = 32  # pictures in which a thread looks for hands together


def plain_features(features: CachedArray) -> NDArray[np.float16]:
    """Features of the images themselves, (N, D)."""
    return features.open()[features.row_N, 0]


@dataclass(frozen=True)
class CachedFeatures:
    """Features of the images, or of one augmented copy of each, read from their file on demand."""

    features: CachedArray
    copy: int = 0  # number of the copy; 0: the images themselves

    def rows(self, chosen: NDArray[np.int64]) -> backbone.Features:
        """Features of the chosen images or copies."""
        every = all_layers(self.features).open()
        return backbone.Features(every[self.features.row_N[chosen], self.copy])


def all_layers(features: CachedArray) -> CachedArray:
    """The same rows with the features that heads do not read."""
    return replace(features, columns=None)


def preprocessing_of(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """How an image becomes a head's input; a trained head refuses images for which it differs."""
    hand = {"handedness": data.handedness, **hand_version()} if data.crop == "hand" else {}
    return {
        "crop": data.crop,
        **geometry(data),
        **hand,
        "weights": weights_sha256,
        "layers": [convolutions.THIRD, convolutions.GRID_SIDE],
        "features": backbone.HEAD_FEATURES,
    }


def augmentation_settings(data: DataConfig) -> dict[str, Any]:
    """What augmented copies depend on besides the image."""
    if not data.augmentations:
        return {"ranges": None, "mirror": None}
    if data.crop == "none":
        return {"ranges": range_settings(), "mirror": data.mirror}
    return {"ranges": condition_settings(), "mirror": data.mirror}


def cache_key(data: DataConfig, weights_sha256: str) -> dict[str, Any]:
    """What the content of a cache folder depends on besides the images."""
    return {
        **preprocessing_of(data, weights_sha256),
        "fourth": [convolutions.FOURTH, backbone.FOURTH_FEATURES],
        "columns": columns_of(data),
        "augmentations": data.augmentations,
        **augmentation_settings(data),
        "dtype": "float16",
    }


def columns_of(data: DataConfig) -> int:
    """Features of an image."""
    return backbone.OF_IMAGE if data.crop == "none" else backbone.ALL_FEATURES


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


@dataclass(frozen=True)
class _Pass:
    """Inputs of one pass of the convolutions."""

    pixels_NHW3: NDArray[Any]  # see ``backbone.from_bits`` or, for a GPU, uint8
    views: HandViews | None = None  # None: hands are not looked for


def hand_views(works: Sequence[Work], data: DataConfig, chosen: range) -> HandViews:
    """What is seen of at most 64 of the pictures, which are each image followed by its copies."""
    each = 1 + data.augmentations
    images: dict[int, NDArray[np.uint8]] = {}
    masks: dict[int, NDArray[np.uint8] | None] = {}
    shown, expected = [], []
    first = chosen.start // each
    works = works[first : (chosen.stop - 1) // each + 1]
    hands = Hands.of_values(np.stack([work.values for work in works]))
    for number in chosen:
        i, copy = number // each - first, number % each
        if i not in images:
            images[i] = read_image(Path(works[i].path), data)
        points_42 = hands.points_N42[i] if hands.found_N[i] else None
        if not copy:
            shown.append(images[i])
            expected.append(None if points_42 is None else points_42.astype(np.float64))
            continue
        if i not in masks:
            masks[i] = hand_mask_of(images[i], points_42)
        box = box_in(points_42, len(images[i]))
        made = copy_of(images[i], box, masks[i], works[i].sha256, copy, data.mirror)
        shown.append(made.picture_HW3)
        expected.append(None if points_42 is None else moved_points(points_42, made.to_copy))
    rows = np.array([number // each - first for number in chosen])
    # an image's own hand is the one that was found in it before
    values_ND = hands.values_ND[rows]
    copies = np.flatnonzero([number % each for number in chosen])
    of_copies = ([shown[i] for i in copies], [expected[i] for i in copies])
    values_ND[copies] = hands_near(*of_copies, threads=False).values_ND
    mirrored_N = np.array([works[i].mirrored for i in rows])
    return views_of(shown, data, Hands.of_values(values_ND), mirrored_N)


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

    def drawn(number: int) -> _Pass:
        chosen = range(number * size, min((number + 1) * size, total))
        if data.crop == "none":
            return _Pass(pictures(works, data, chosen, levels_out))
        views = hand_views(works, data, chosen)
        return _Pass(views.crops_NHW3, views)

    def of_pass(made: _Pass) -> backbone.Features:
        if made.views is None:
            return net.of_batch(made.pixels_NHW3)
        return with_hands(net.of_batch(made.pixels_NHW3, made.views.places_N52), made.views)

    def convolved(number: int) -> backbone.Features:
        made = drawn(number)
        if made.views is not None:
            return of_pass(made)
        pixels_N3HW = backbone.from_bits(made.pixels_NHW3, net.half)
        return net.convolved(pixels_N3HW, min(size, total - number * size))

    passes, columns = -(-total // size), columns_of(data)
    parts: Iterator[backbone.Features]
    if on_cpu:
        parts = map_on_threads(passes, convolved)
    else:  # pictures alone need little memory
        parts = map(of_pass, map_on_threads(passes, drawn, most=passes))
    rest_ND = np.zeros((0, columns), np.float16)
    for part in parts:
        done_ND = np.concatenate([rest_ND, part.all_ND])
        complete = len(done_ND) // each
        yield from done_ND[: complete * each].reshape(complete, each, columns)
        rest_ND = done_ND[complete * each :]


def hands_here(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float32]]:
    """The hand's values of each image, in turn; see ``Hands.values_ND``."""

    def found(number: int) -> NDArray[np.float32]:
        some = works[number * BATCH : (number + 1) * BATCH]
        shown = [read_image(Path(work.path), data) for work in some]
        return find_hands(shown, threads=False).values_ND

    for values_ND in map_on_threads(-(-len(works) // BATCH), found):
        yield from values_ND


Compute = Callable[[Sequence[Work], DataConfig], Iterator[NDArray[Any]]]


def features_of_images(images_NHW3: NDArray[np.uint8], weights: str) -> backbone.Features:
    """Features of whole images in memory; hands are not looked for."""
    return backbone.load(weights).of_images(images_NHW3)


def hands_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: StoragePath,
    progress: Progress | None = None,
    compute: Compute | None = None,
) -> Hands:
    """The hands in the images of these rows; looks for those that are not in the cache.

    ``compute`` is ``ray_features.hands_on_cluster`` or, if None, :func:`hands_here`; for the other
    arguments and the errors see :func:`cached_images`.
    """
    about = {**geometry(data), **hand_version(), "dtype": "float32"}
    schema = RowSchema("hands.f32", (VALUES,), "float32", about)
    made = compute or hands_here
    found = cached_images(
        rows, root, cache, schema, lambda works: made(works, data), progress, "hands-"
    )
    return Hands.of_values(found.open()[found.row_N])


def features_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: StoragePath,
    progress: Progress | None = None,
    compute: Compute | None = None,
    hands: Hands | None = None,
    mirrored_N: NDArray[np.bool_] | None = None,
) -> CachedArray:
    """Features of the images in these rows and of their augmented copies; computes what is missing.

    ``compute`` is ``ray_features.compute_on_cluster`` or, if None, :func:`compute_here`; ``hands``
    are those in the images, and ``mirrored_N`` says which are mirrored. For the other arguments and
    the errors see :func:`cached_images`. The array shows the features that heads read; see
    :func:`all_layers` for the others.
    """
    shape = (1 + data.augmentations, columns_of(data))
    key = cache_key(data, backbone.load(data.weights).sha256)
    schema = RowSchema("features.f16", shape, "float16", key)
    of_hand: HandWork | None = None
    if data.crop == "hand":
        hands = hands or hands_of_rows(rows, root, data, cache)
        if mirrored_N is None:
            mirrored_N = is_left(hands) & (data.handedness == "normalise")
        of_hand = HandWork(hands.values_ND, mirrored_N)
    found = cached_images(
        rows, root, cache, schema, lambda works: (compute or compute_here)(works, data), progress,
        hands=of_hand,
    )  # fmt: skip
    return replace(found, columns=(0, backbone.HEAD_FEATURES))


def landmarks_of(features: CachedArray) -> CachedArray:
    """The same rows with the features of the landmarks."""
    first = backbone.OF_PIXELS
    return replace(features, columns=(first, first + backbone.OF_LANDMARKS))


def hand_counts(features: CachedArray) -> NDArray[np.int64]:
    """How many hands were found in each image and its augmented copies, (N, V)."""
    last = replace(features, columns=(backbone.ALL_FEATURES - 1, backbone.ALL_FEATURES))
    if features.shape[-1] < backbone.ALL_FEATURES:
        return np.zeros((len(features.row_N), features.shape[0]), np.int64)
    return last.open()[features.row_N, :, 0].astype(np.int64)

"""Rows of the manifest to decoded images, resized once and read from one memory-mapped file.

Fine-tuning reads each image many times, and decoding a JPEG costs more than a step on it. A cache
folder belongs to one way of making images; its file ``pixels.u8`` has a row per image content,
uint8 (H, W, 3), see ``row_cache.py``.

Letters: H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.hand_views import hand_version, views_of
from sign_ensemble.data.images import read_image
from sign_ensemble.data.row_cache import CachedArray, HandWork, RowSchema, Work, cached_images
from sign_ensemble.data.shards import Progress
from sign_ensemble.data.square_pictures import geometry
from sign_ensemble.hands.finder import Hands


def pixels_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: StoragePath,
    progress: Progress | None = None,
    hands: HandWork | None = None,
) -> CachedArray:
    """What the network sees of the images in these rows; decodes only what is missing. ``hands``
    are those in the images, where they are cropped to them.

    Other arguments and errors: see :func:`sign_ensemble.data.row_cache.cached_images`.
    """
    about: dict[str, object] = {**geometry(data), "crop": data.crop, "dtype": "uint8"}
    if hands:
        about |= hand_version()
    schema = RowSchema("pixels.u8", (data.size, data.size, 3), "uint8", about)

    def seen(work: Work) -> NDArray[np.uint8]:
        picture_HW3 = read_image(Path(work.path), data)
        if hands is None:
            return picture_HW3
        of_one = Hands.of_values(work.values[None])
        return views_of([picture_HW3], data, of_one, np.array([work.mirrored])).crops_NHW3[0]

    def decode(works: Sequence[Work]) -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(works), 64):  # decodes a few ahead
                yield from pool.map(seen, works[start : start + 64])

    return cached_images(rows, root, cache, schema, decode, progress, "images-", hands)

"""Rows of the manifest to decoded images, resized once and read from one memory-mapped file.

Fine-tuning reads each image many times, and decoding a JPEG costs more than a step on it. A cache
folder belongs to one way of making images; its file ``pixels.u8`` has a row per image content,
uint8 (H, W, 3), see ``row_cache.py``.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.feature_cache import Work
from sign_ensemble.data.images import geometry, read_image
from sign_ensemble.data.row_cache import CachedArray, RowSchema, cached_rows
from sign_ensemble.data.shards import Progress


def pixels_of_rows(
    rows: pa.Table,
    root: Path,
    data: DataConfig,
    cache: StoragePath,
    progress: Progress | None = None,
) -> CachedArray:
    """Decoded images of these rows; decodes only what is missing.

    Args:
        rows: Manifest rows with path and sha256.
        root: Folder that the paths are relative to.
        data: How images are read.
        cache: Folder of all caches.
        progress: Called with (images done, images missing).

    Raises:
        UserError: the cache cannot be written or is damaged.
    """
    key: dict[str, object] = {**geometry(data), "dtype": "uint8"}
    name = "images-" + hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    wanted = rows.column("sha256").to_pylist()
    path_of = dict(zip(wanted, rows.column("path").to_pylist(), strict=True))

    def make(missing: Sequence[tuple[str, int]]) -> Iterator[NDArray[np.uint8]]:
        works = [Work(str(root / path_of[sha]), sha, row) for sha, row in missing]
        return decoded(works, data)

    schema = RowSchema("pixels.u8", (data.size, data.size, 3), "uint8", key)
    return cached_rows(cache / name, schema, wanted, make, progress)


def decoded(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.uint8]]:
    """Each image in turn, (H, W, 3), decoding a few ahead."""

    def read(work: Work) -> NDArray[np.uint8]:
        return read_image(Path(work.path), data)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(works), 64):
            yield from pool.map(read, works[start : start + 64])

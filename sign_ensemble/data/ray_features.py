"""Frozen features over a Ray cluster, with Ray Data.

Workers decode and convolve; the features come back in order and are written by the process that
holds the cache's lock. Paths must be readable on every node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.device import compute_with
from sign_ensemble.data.feature_cache import compute_here
from sign_ensemble.data.row_cache import Work


class Convolve:
    """A Ray Data actor that holds the convolutions and turns paths into features."""

    def __init__(self, data: DataConfig, threads: int) -> None:
        compute_with(threads)
        self.data = data

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The row numbers of a batch of paths, and the features of these rows."""
        works = [
            Work(str(path), str(sha), int(row))
            for path, sha, row in zip(batch["path"], batch["sha256"], batch["row"], strict=True)
        ]
        values = np.stack(list(compute_here(works, self.data)))
        return {"row": batch["row"], "values": values}


def compute_on_cluster(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float16]]:
    """:func:`compute_here` by one actor per CPU or GPU, in the order of ``works``."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = gpus or max(1, int(resources.get("CPU", 1)) - 1)
    items = [{"path": w.path, "sha256": w.sha256, "row": w.row} for w in works]
    rows = ray.data.from_items(items, override_num_blocks=max(1, min(len(items) // 32, 1000)))
    done = rows.map_batches(
        Convolve,
        fn_constructor_args=(data, 1),
        batch_size=32,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=None if gpus else 1,
        num_gpus=1 if gpus else None,
    )
    expected = iter(works)
    for batch in done.iter_batches(batch_size=32, batch_format="numpy"):
        for row, values in zip(batch["row"], batch["values"], strict=True):
            if int(row) != next(expected).row:
                raise RuntimeError("Ray Data returned features in another order")
            yield np.asarray(values, np.float16)

"""Hands and frozen features over a Ray cluster, with Ray Data.

Workers decode and compute; what they find comes back in order and is written by the process that
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
from sign_ensemble.data.feature_cache import Compute, compute_here, hands_here
from sign_ensemble.data.row_cache import Work


class Reader:
    """A Ray Data actor that turns paths into hands or features."""

    def __init__(self, make: Compute, data: DataConfig, threads: int) -> None:
        compute_with(threads)
        self.make, self.data = make, data

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The row numbers of a batch of paths, and what these rows are."""
        columns = (batch[name] for name in ("path", "sha256", "row", "values", "mirrored"))
        works = [
            Work(str(path), str(sha256), int(row), np.asarray(values, np.float32), bool(mirrored))
            for path, sha256, row, values, mirrored in zip(*columns, strict=True)
        ]
        return {"row": batch["row"], "values": np.stack(list(self.make(works, self.data)))}


def on_cluster(make: Compute, works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[Any]]:
    """``make`` by one actor per CPU or GPU, in the order of ``works``."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = gpus or max(1, int(resources.get("CPU", 1)) - 1)
    items = [vars(work) for work in works]
    rows = ray.data.from_items(items, override_num_blocks=max(1, min(len(items) // 32, 1000)))
    done = rows.map_batches(
        Reader,
        fn_constructor_args=(make, data, 1),
        batch_size=32,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=None if gpus else 1,
        num_gpus=1 if gpus else None,
    )
    expected = iter(works)
    for batch in done.iter_batches(batch_size=32, batch_format="numpy"):
        for row, values in zip(batch["row"], batch["values"], strict=True):
            if int(row) != next(expected).row:
                raise RuntimeError("Ray Data returned rows in another order")
            yield values


def compute_on_cluster(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float16]]:
    """:func:`compute_here` over the cluster."""
    return (np.asarray(values, np.float16) for values in on_cluster(compute_here, works, data))


def hands_on_cluster(works: Sequence[Work], data: DataConfig) -> Iterator[NDArray[np.float32]]:
    """:func:`hands_here` over the cluster."""
    return (np.asarray(values, np.float32) for values in on_cluster(hands_here, works, data))

"""OpenCV, loaded when it is first needed, and images shared out among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import ModuleType

import torch


@lru_cache(maxsize=1)
def opencv() -> ModuleType:
    """OpenCV, which takes a tenth of a second to load, on one thread: callers have their own."""
    import cv2

    cv2.setNumThreads(1)
    return cv2


def in_parts(images: int, do: Callable[[slice], None]) -> None:
    """Do something with so many images, a part of them on each of torch's threads."""
    threads = torch.get_num_threads()
    each = max(1, -(-images // threads))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(do, [slice(start, start + each) for start in range(0, images, each)]))

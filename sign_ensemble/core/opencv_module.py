"""OpenCV, loaded when it is first needed."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=1)
def opencv() -> ModuleType:
    """OpenCV, which takes a tenth of a second to load, on one thread: callers have their own."""
    import cv2

    cv2.setNumThreads(1)
    return cv2

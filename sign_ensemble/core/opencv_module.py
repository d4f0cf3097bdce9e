"""OpenCV, imported on first use."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=1)
def opencv() -> ModuleType:
    """OpenCV (a tenth of a second to import) on one thread: callers use threads of their own."""
    import cv2

    cv2.setNumThreads(1)
    return cv2

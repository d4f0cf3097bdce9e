"""How a process comes by its memory."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT, KEPT_PIECE = 1 << 28, 1 << 25  # bytes; a piece's is the most that glibc sets of itself


def spare_page_faults() -> None:
    """Have this process touch fewer new pages: for use before torch's first tensor.

    A training step that frees its gradients and makes them again finds each page of 4 KiB empty
    again, and the kernel fills it: a fifth of a step of a large head, a tenth of a pass through the
    convolutions (``benchmarks/page_faults.py``; of fine-tuning nothing that was measurable). So
    torch is told to ask for pages of 2 MiB (its own switch, which Linux alone heeds), and glibc to
    keep 256 MiB of what was freed in pieces of up to 32 MiB. Both are as they were where the
    environment names them (THP_MEM_ALLOC_ENABLE, MALLOC_TRIM_THRESHOLD_).
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform != "linux" or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, KEPT_PIECE)
        set_option(M_TRIM_THRESHOLD, KEPT)


COLLECTED = 50_000  # new objects between two collections; Python's own number is 700 or 2,000


def spare_collections() -> None:
    """Have this process look for garbage in cycles less often: for use before its imports.

    The engines' modules are 300,000 objects that stay. Python looks through them again and again
    while they are loaded, a tenth of the time that takes, and once more when it ends.
    """
    gc.set_threshold(COLLECTED, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)

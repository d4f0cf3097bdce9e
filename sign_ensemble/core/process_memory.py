"""How a process comes by its memory."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def modules_stay() -> Iterator[None]:
    """For the length of a block of imports no garbage is looked for; what it has loaded is never
    looked through again.

    The engines' modules are 300,000 objects. Python would look through them again and again while
    they are loaded, a tenth of the time that takes, and at every large collection afterwards.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def end_without_collections() -> None:
    """Have this process end without looking through all that it has loaded, .7 s of a command."""
    atexit.register(gc.freeze)

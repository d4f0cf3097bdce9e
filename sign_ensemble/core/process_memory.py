"""Memory of a process: fewer page faults, and no garbage collection among loaded modules."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT_BYTES, LARGEST_PIECE = 1 << 28, 1 << 25  # the latter is glibc's own limit


def spare_page_faults() -> None:
    """Have freed memory reused instead of returned; to be called before torch's first tensor.

    A training step frees and allocates its gradients again; if the kernel had them in between, each
    page faults again, a fifth of a step of a large head (``docs/design-log.md``). So torch
    asks for pages of 2 MiB, and glibc keeps 256 MiB of freed pieces of up to 32 MiB. The user's
    THP_MEM_ALLOC_ENABLE and MALLOC_TRIM_THRESHOLD_ take precedence.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform != "linux" or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGEST_PIECE)
        set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def imports_without_gc() -> Iterator[None]:
    """Import in this block without garbage collection.

    torch, Ray and the others make 300,000 objects, which Python would traverse many times while
    they load, in every large collection afterwards and once more at exit: about a second of a
    command (docs/design-log.md).
    """
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()

"""Memory goes back to the kernel.

Law: only asks the C library; where it can't be asked (musl, another kernel) nothing happens. glibc raises the size
from which it maps blocks on their own each time such a block is freed, up to 32 MiB; after one generation of a large
cluster the next one would be carved out of its heap and never be given back.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

MMAP_THRESHOLD_BYTES = 1 << 20
ARENAS = 2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Parameters of mallopt(3)."""


def _library() -> Any:
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None


def bound_heap() -> bool:
    """Map large blocks on their own, always, and keep threads from having heaps of their own; tell whether it took."""
    library = _library()
    if not hasattr(library, "mallopt"):
        return False
    took = library.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
    return bool(took and library.mallopt(_M_ARENA_MAX, ARENAS))


def give_back() -> bool:
    """Return what the heap holds but does not use; tell whether anything was.

    A full collection empties the interpreter's free lists: each tuple kept there for later keeps a whole arena.
    """
    gc.collect()
    library = _library()
    return bool(hasattr(library, "malloc_trim") and library.malloc_trim(0))

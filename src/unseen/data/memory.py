"""Memory that a process has used stays with it, so that the next batch need not ask for it again."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_memory"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def keep_memory() -> bool:
    """Tell glibc to keep freed blocks of any size.

    By default each large tensor is mapped when it is made and unmapped when it is freed, and its pages are
    cleared once more by the kernel: two fifths of a training step of EfficientNet-Lite0 on the machine that
    this was measured on (docs/benchmarks.md). The price is that a process does not shrink. With another
    allocator or system nothing happens.

    Returns:
        Whether this process will keep its memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))

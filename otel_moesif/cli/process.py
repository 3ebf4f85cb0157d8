"""What a collector asks of the operating system before it starts."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress

# mallopt(3).
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20
_SETTING_OF_OPERATORS = "MALLOC_MMAP_THRESHOLD_"


def prepare() -> None:
    """Take all the open files that are granted, and give large buffers back as soon as they are free."""
    _take_all_files_granted()
    _give_large_buffers_back()


def _take_all_files_granted() -> None:
    """Raise the soft limit of open files to the hard one: a connection is a file, and 1,024 are soon used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # macOS grants less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _give_large_buffers_back() -> None:
    """Keep glibc from taking large buffers off its heap.

    It begins to once it has seen some freed ("dynamic mmap threshold" of mallopt(3)); from then on a body
    that grows while it is inflated is copied, and leaves holes: 98 MiB for 65, measured.
    """
    if _SETTING_OF_OPERATORS in os.environ:
        return
    with suppress(AttributeError, OSError):  # other C libraries have no such call, and no need of it
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)

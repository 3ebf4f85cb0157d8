"""What large messages leave behind, given back to the system.

gRPC's library collects a message in pieces of some KiB, from heaps of several threads, and glibc returns of a
heap only what is free at its end. So a burst of 64 messages of 19 MiB left 640 to 840 MiB that nobody used
(measured); asking for them took 70 ms, on a thread and without Python's lock.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

_LARGE_BYTES = 1 << 20
# Less is not worth it.
_LEAST_BYTES = 32 << 20
# While they go on coming, it would be asked for again at once.
_QUIET_SECONDS = 2.0


class Leavings:
    """Knows when there is something to give back; `note` may be called from any thread.

    Args:
        clock: Seconds, as ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bytes = 0
        self._last = 0.0

    def note(self, size: int) -> None:
        """A message of that size has come."""
        if size >= _LARGE_BYTES:
            self._bytes += size
            self._last = self._clock()

    def due(self) -> bool:
        """Whether it is time to `give_back`; says so once."""
        if self._bytes < _LEAST_BYTES or self._clock() - self._last < _QUIET_SECONDS:
            return False
        self._bytes = 0
        return True


def give_back() -> None:
    """Return free memory to the system; blocks. Without glibc there is no such call, and no need of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))

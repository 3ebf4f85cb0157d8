"""Ports for servers that must know theirs before they start, or must get it back after a restart."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _FALLBACK = 10_000, 32_768

# Kept until this process ends: see `free_port`. Drawn anew in each process, whatever a test does to `random`.
_taken: list[socket.socket] = []
_random = random.SystemRandom()


def free_port() -> int:
    """A port of the loopback addresses where nobody listens, and that nobody gets before the caller listens.

    Three things take a port between its choice and its use, or between two starts of a server:

    - The kernel gives ephemeral ones to whoever binds port 0 or connects, even to who tries to connect to
      this very port: TCP can connect to itself. So it is one below the ephemeral ports.
    - Another test in this process chooses it. None is given twice.
    - A test in another process chooses it. A UDP socket on the same number, open as long as this process
      lives, is the sign that it is taken; it is in no TCP server's way.
    """
    candidates = range(_LOWEST, _first_ephemeral())
    for _ in itertools.repeat(None, len(candidates)):
        port = _random.choice(candidates)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            sign = socket.socket(type=socket.SOCK_DGRAM)
            try:
                sign.bind(("127.0.0.1", port))
            except OSError:
                sign.close()
                continue
            _taken.append(sign)
            return port
    raise AssertionError(f"no free port among {candidates.start} to {candidates.stop - 1}")


def _first_ephemeral() -> int:
    """The lowest port that the kernel gives away by itself; where that is not to be known, Linux's."""
    with contextlib.suppress(OSError):
        lowest = int(_EPHEMERAL.read_text().split()[0])
        if lowest > _LOWEST:
            return lowest
    return _FALLBACK

"""Verdicts that are remembered for a while, under a digest of the credentials instead of themselves."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Verdicts(Generic[T]):
    """Bounded in number and time; what was asked for longest ago leaves first.

    Args:
        limit: Most that are remembered.
        clock: Seconds, as ``time.monotonic``.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def digest(self, credentials: str) -> bytes:
        """Under what they are remembered."""
        return hmac.digest(self._key, credentials.encode(errors="surrogatepass"), "sha256")

    def get(self, digest: bytes) -> T | None:
        """The verdict, unless it was never given, is too old or has made room."""
        if (entry := self._known.get(digest)) is None:
            return None
        until, verdict = entry
        if self._clock() >= until:
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return verdict

    def put(self, digest: bytes, verdict: T, seconds: float) -> None:
        """Remember a verdict for so long."""
        self._known[digest] = (self._clock() + seconds, verdict)
        self._known.move_to_end(digest)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Forget all, since what they were judged by has changed."""
        self._known.clear()

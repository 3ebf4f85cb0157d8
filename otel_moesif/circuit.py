"""The circuit breaker of one sender: while a backend is down, one batch asks for all how it is.

Closed: every batch is sent. After a failure it is open: the batches in flight queue up, and the first of
them is sent when the backoff is over, as a probe. If the probe succeeds, the circuit is closed again; if not,
the next batch in the queue is the next probe, so that one which the backend chokes on holds up no others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from otel_moesif.errors import RetryableError
from otel_moesif.settings import RetrySettings

RETRYABLE = (RetryableError, OSError, TimeoutError)


class Circuit:
    """Decides when the next attempt makes sense.

    Args:
        settings: Backoff between attempts.
        stopping: Set when nobody waits any more: then one last probe is made at once.
        jitter: Gives a number from 0 to 1.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        settings: RetrySettings,
        stopping: asyncio.Event,
        jitter: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._jitter = jitter
        self._clock = clock
        self._turn = asyncio.Lock()  # fair: first come, first served
        self._failures = 0
        self._open_until = 0.0
        self._last: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Whether the backend failed, and did not succeed since."""
        return self._failures > 0

    async def call(self, export: Callable[[], Awaitable[int | None]]) -> int | None:
        """Export when it makes sense.

        Returns:
            What ``export`` gave.

        Raises:
            Exception: What ``export`` raised; or, when it is time to stop, what the last probe raised.
        """
        if self.is_open:
            async with self._turn:
                if self.is_open:
                    if self._stopping.is_set() and self._last:
                        raise self._last
                    await self._wait()
                    return await self._try(export, probe=True)
        return await self._try(export, probe=False)

    async def _wait(self) -> None:
        """Until the backoff is over; batches that were on their way may make it longer meanwhile."""
        await self.pause(self._open_until - self._clock())
        while (left := self._open_until - self._clock()) > 0 and not self._stopping.is_set():
            await self.pause(left)

    def bound(self, attempt: int) -> float:
        """Upper bound of the wait after an attempt (the first is 1), in seconds."""
        settings = self._settings
        growth = settings.multiplier ** min(attempt - 1, 64)
        return min(settings.max_interval.total_seconds(), settings.initial_interval.total_seconds() * growth)

    async def wait_on_its_own(self, attempt: int) -> None:
        """Let a batch wait that failed while others succeeded: it, and not the backend, is the trouble."""
        if attempt > self._failures:
            await self.pause(self._jitter() * self.bound(attempt))

    async def pause(self, seconds: float) -> None:
        """Wait, unless it is time to stop; at least others get their turn."""
        await asyncio.sleep(0)
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _try(self, export: Callable[[], Awaitable[int | None]], *, probe: bool) -> int | None:
        try:
            sent = await export()
        except RETRYABLE as error:
            # Batches that were on their way when the circuit opened tell nothing new.
            self._failures += 1 if probe or not self._failures else 0
            self._last = error
            wait = self._jitter() * self.bound(self._failures)
            floor = error.retry_after if isinstance(error, RetryableError) else None
            self._open_until = max(self._open_until, self._clock() + max(wait, floor or 0.0))
            raise
        self._failures = 0
        self._open_until = 0.0
        return sent

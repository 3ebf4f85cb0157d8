"""Says that something fails, and that it works again, without filling the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_SILENT_SECONDS = 60.0


class Trouble:
    """One thing that is tried again and again.

    Each kind of failure is said once, until it is over; what comes and goes (a journal that is full but for
    what was just delivered) is said once a minute.

    Args:
        logger: Where.
        over: What is said when it works again.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self, logger: logging.Logger, over: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._over = over
        self._clock = clock
        self._said: str | None = None
        self._silent_until: dict[str, float] = {}

    def fails(self, kind: str, message: str, *args: object, level: int = logging.ERROR) -> None:
        """It failed.

        Args:
            kind: One of few texts.
            message: For the log.
            args: Its arguments.
            level: How bad it is.
        """
        now = self._clock()
        if kind != self._said and now >= self._silent_until.get(kind, now):
            self._logger.log(level, message, *args)
            self._said = kind
            self._silent_until[kind] = now + _SILENT_SECONDS

    def works(self) -> None:
        """It did not fail."""
        if self._said is not None:
            self._logger.info(self._over)
            self._said = None

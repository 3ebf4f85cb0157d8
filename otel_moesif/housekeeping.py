"""What the journal needs from time to time, in a thread of its own, so that nobody waits for it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

from otel_moesif.journal.journal import Journal
from otel_moesif.journal.settings import Fsync, JournalSettings
from otel_moesif.trouble import Trouble

logger = logging.getLogger(__name__)

# The log is looked at so often that it does not grow far beyond the length at which it is copied.
_TEND_SECONDS = 0.25
_FORGET_SECONDS = 10.0


class Housekeeping:
    """Syncs, shortens, shrinks and forgets.

    Args:
        journal: What is kept in order.
        settings: How durable it is, and what it keeps.
    """

    def __init__(self, journal: Journal, settings: JournalSettings) -> None:
        self._journal = journal
        self._tasks = [(_TEND_SECONDS, journal.database.tend)]
        if settings.fsync is Fsync.INTERVAL:
            self._tasks.append((settings.fsync_interval.total_seconds(), journal.database.sync))
        if settings.keep_raw or journal.has_kept():
            self._tasks.append((_FORGET_SECONDS, journal.forget_kept))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def shutdown(self) -> None:
        """Stop, after what is just being done; safe unstarted and twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        trouble = [Trouble(logger, "journal: it is kept in order again") for _ in self._tasks]
        due = [time.monotonic() + seconds for seconds, _ in self._tasks]
        while not self._stopping.wait(max(0.0, min(due) - time.monotonic())):
            for number, (seconds, task) in enumerate(self._tasks):
                if due[number] <= time.monotonic():
                    try:
                        task()
                        trouble[number].works()
                    except (sqlite3.Error, OSError) as error:
                        why = error.strerror if isinstance(error, OSError) else error
                        trouble[number].fails("", "journal: %s; trying again", why)
                    due[number] = time.monotonic() + seconds

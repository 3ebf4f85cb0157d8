"""A journal opened beside its collector: who may write when, and what must not be touched.

The collector holds an exclusive lock on ``journal.lock`` as long as it runs. Where none runs, a visitor holds
a shared one while it opens the file and while it writes, so that no collector checks, repairs or swaps a file
that is being changed.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otel_moesif.errors import OtelMoesifError
from otel_moesif.journal.connection import write_once
from otel_moesif.journal.schema import VERSION
from otel_moesif.journal.swap import NAME
from otel_moesif.journal.wal import inspect

# The collector's own transactions take milliseconds; a checkpoint or a step of the vacuum somewhat longer.
BUSY_SECONDS = 30.0
# The collector's writers poll for SQLite's lock at growing intervals (sqlite3.c, sqliteDefaultBusyCallback:
# 1, 2, 5, 10, 15, 20, 25 ms ...). Between two of a visitor's transactions there is room for a poll or more.
_PAUSE_SECONDS = 0.03
_POLL_SECONDS = 0.001
_PRIMARY = 0xFF
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# What a swap that was interrupted leaves (swap.py); the next start completes it.
_UNFINISHED = ("journal.salvaged.db", "journal.upgraded.db")
_REPAIR = "start the collector once, it repairs it"


class VisitError(OtelMoesifError):
    """What was asked for is not possible, in one line. Exit code 1."""


class Visit:
    """A connection to a journal that another process may be using.

    Args:
        directory: ``service.journal.directory``.
        busy_seconds: How long to wait for other writers.

    Raises:
        VisitError: There is no journal, or it is damaged, or not one that this version understands.
    """

    def __init__(self, directory: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.directory = directory
        self.path = directory / NAME
        self._busy_seconds = busy_seconds
        if not self.path.exists() and not self._is_unfinished():
            raise VisitError(f"there is no journal in {directory} (service.journal.directory)")
        with self._without_start() as running:
            if not running:
                self._refuse_damaged()
            self._connection = self._open()
            if running:  # whoever closes last copies the log in any case
                self._connection.execute("pragma wal_autocheckpoint = 0")

    def close(self) -> None:
        """Give it free."""
        self._connection.close()

    @property
    def running(self) -> bool:
        """Whether a collector has the journal open."""
        with self._without_start() as running:
            return running

    def read(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a query.

        Raises:
            VisitError: The journal is busy or damaged.
        """
        with self._told():
            return self._connection.execute(query, parameters).fetchall()

    def read_some(self, query: str, parameters: Sequence[object], most: Callable[[Any], bool]) -> list[Any]:
        """The rows of a query until ``most`` says that it is enough.

        Nothing stays open afterwards: a reader who waits keeps the collector's log from beginning anew.
        """
        found = []
        with self._told():
            cursor = self._connection.execute(query, parameters)
            try:
                for row in cursor:
                    found.append(row)
                    if most(row):
                        break
            finally:
                cursor.close()
        return found

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read within is of one moment."""
        with self._told():
            self._connection.execute("begin")
            try:
                yield
            finally:
                self._connection.execute("rollback")

    @contextmanager
    def transaction(self) -> Iterator[tuple[sqlite3.Connection, bool]]:
        """All that is done within is stored, or nothing; also says whether a collector runs.

        Raises:
            VisitError: The journal is busy, damaged, or was made anew since it was opened.
        """
        with self._without_start() as running, self._told():
            if self._identity() != self._opened:
                raise VisitError(f"{self.path} was made anew meanwhile; try again")
            self._begin()
            try:
                yield self._connection, running
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise

    def in_steps(self, step: Callable[[sqlite3.Connection, bool], int | None]) -> int:
        """Transactions, each short, with room for the collector's between them, until there is no more to do.

        Args:
            step: Does a part and says how much that was; None at the end.

        Returns:
            The sum.
        """
        total = 0
        while True:
            began = time.monotonic()
            with self.transaction() as (connection, running):
                done = step(connection, running)
            if done is None:
                return total
            total += done
            if running:
                time.sleep(max(_PAUSE_SECONDS, time.monotonic() - began))

    # -- inside ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin to write, in a gap between two of the collector's transactions.

        Under load these gaps are short, and SQLite's own waiting, up to 100 ms at a time, would miss most.
        """
        end = time.monotonic() + self._busy_seconds
        self._connection.execute("pragma busy_timeout = 0")
        try:
            while True:
                try:
                    self._connection.execute("begin immediate")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                        raise
                else:
                    return
                time.sleep(_POLL_SECONDS)
        finally:
            self._connection.execute(f"pragma busy_timeout = {self._busy_seconds * 1000:.0f}")

    def _open(self) -> sqlite3.Connection:
        with self._told():
            self._opened = self._identity()
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, timeout=self._busy_seconds, isolation_level=None)
            try:
                # What is asked for here may be lost by a power cut; asking again does no harm.
                connection.execute("pragma synchronous = normal")
                write_once(connection)
                (version,) = connection.execute("pragma user_version").fetchone()
                self._check(version)
            except BaseException:
                connection.close()
                raise
        return connection

    def _check(self, version: int) -> None:
        if version > VERSION:
            raise VisitError(f"{self.path} was written by a newer version of otel-moesif; use that one")
        if 0 < version < VERSION:
            raise VisitError(
                f"{self.path} was written by an older version of otel-moesif; start the collector once, "
                "it brings it up to date"
            )
        if version != VERSION:
            raise VisitError(f"{self.path} is no journal yet; {_REPAIR}")

    def _refuse_damaged(self) -> None:
        """SQLite would ignore the damaged part of a log, and delete it on closing; the collector saves it."""
        if self._is_unfinished():
            raise VisitError(f"{self.path} is being made anew; start the collector once, it completes that")
        try:
            damaged = inspect(self.path.with_name(f"{NAME}-wal")).damaged
        except OSError as error:
            raise VisitError(f"cannot read {self.path}: {error.strerror}") from None
        if damaged:
            raise VisitError(f"{self.path} is damaged; {_REPAIR}")

    def _is_unfinished(self) -> bool:
        return any((self.directory / name).exists() for name in _UNFINISHED)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _without_start(self) -> Iterator[bool]:
        """Whether a collector runs; if not, none starts within."""
        try:
            lock = os.open(self.directory / "journal.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no collector was ever here, or this is a copy of its files
            yield False
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                running = False
            except BlockingIOError:
                running = True
            yield running
        finally:
            os.close(lock)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite finds wrong, as one line for people."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
            if code == sqlite3.SQLITE_BUSY:
                raise VisitError(f"{self.path} is busy; try again") from None
            if code in _DAMAGED:
                raise VisitError(f"{self.path} is damaged ({error}); {_REPAIR}") from None
            raise VisitError(f"cannot use {self.path}: {error}") from None

"""The journal's SQLite file: its connections, who may write when, and what happens when the disk fails.

Threads: any. One lock orders the writers, which spares them SQLite's busy polling; another one shares the
reading connection, a third the one that tends the file. Who takes two of them takes the third before the
writers', and the writers' before the reader's.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from otel_moesif.errors import StartError
from otel_moesif.journal.connection import (
    BUSY_MS,
    Role,
    connect,
    create_if_new,
    free_pages,
    growth,
    no_room,
    pages,
    sync,
)
from otel_moesif.journal.lock import lock
from otel_moesif.journal.reserve import Reserve
from otel_moesif.journal.room import Made, drop_kept
from otel_moesif.journal.salvage import Salvaged, needs_salvage, salvage, upgrade
from otel_moesif.journal.settings import Fsync, JournalSettings
from otel_moesif.journal.wal import PAGE_BYTES
from otel_moesif.trouble import Trouble

logger = logging.getLogger("otel_moesif.journal")

# Error codes, sqlite.org/rescode.html: the low byte is the primary one.
_PRIMARY = 0xFF
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
# Free pages are given back to the disk when there are so many of them, and so many at a time: the writers
# wait meanwhile.
_VACUUM_FROM = 4096
_VACUUM_PAGES = 1024
# The reserve is not taken back before whoever needed it has tried again (they do after a second).
_RESERVE_SECONDS = 2.0
# A repair that had no room copies the whole file in vain: it is not tried with every request.
_REPAIR_SECONDS = 5.0
# How many times its usual length the log may have before whoever wants to add to it has to copy it first.
_LONGEST_LOG = 3


class Database:
    """The open journal file; its directory belongs to one collector at a time.

    Args:
        settings: Where, how durable, how large.

    Attributes:
        salvages: How often the file was damaged and had to be made anew.
        unreadable: How many rows were lost by that.

    Raises:
        StartError: The directory cannot be used, or another process uses it.
    """

    def __init__(self, settings: JournalSettings) -> None:
        self._settings = settings
        self.directory = settings.directory
        self.salvages = self.unreadable = 0
        self._write_lock = threading.RLock()
        self._reader_lock = threading.RLock()
        self._tend_lock = threading.Lock()
        self._generation = 0
        self._closed = False
        self._unusable = ""
        self._repair_from = 0.0
        self._trouble = Trouble(logger, "journal: it is usable again")
        self._room = Trouble(logger, "journal: there is room on the disk again")
        self._kept = Trouble(logger, "journal: converted requests are kept for a replay again")
        self._reserve_from = 0.0
        self._full = False
        self._lock_file = lock(self.directory)
        try:
            self.reserve = Reserve(self.directory, settings.log_bytes)
            self._open()
        except sqlite3.Error as error:
            self._lock_file.close()
            raise StartError(f"journal: cannot open {self.path}: {error}") from None
        except OSError as error:
            self._lock_file.close()
            raise StartError(f"journal: cannot use {self.directory}: {error.strerror or error}") from None
        except BaseException:
            self._lock_file.close()
            raise
        if not self.reserve.take():
            with suppress(sqlite3.Error):  # what an earlier run has left in the log
                self.checkpoint()
            text = "journal: %s has less than %d MiB left; senders are told to retry until there is more"
            self._room.fails("", text, self.directory, self.reserve.size >> 20, level=logging.WARNING)

    @property
    def path(self) -> Path:
        """The database file."""
        return self.directory / "journal.db"

    @contextmanager
    def transaction(self, role: Role) -> Iterator[sqlite3.Connection]:
        """One writer at a time: all that is done within is stored, or nothing.

        Raises:
            sqlite3.Error: Nothing was stored. If the file turned out to be damaged, it is repaired by then,
                and the next try will do.
        """
        generation = self._generation
        try:
            with self._write_lock:
                self._check_usable()
                generation, connection = self._generation, self._writers[role]
                try:
                    connection.execute("begin immediate")
                    before = pages(connection)
                    yield connection
                    self._cover(connection, before)
                    connection.execute("commit")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("rollback")
                    raise
        except sqlite3.Error as error:
            self._failed(error, generation, role)
            raise

    def read(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a query.

        Raises:
            sqlite3.Error: As in `transaction`.
        """
        return list(self.rows(query, parameters))

    def rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Any]:
        """The rows of a query, one by one; other readers wait until the iterator ends or is closed.

        Raises:
            sqlite3.Error: As in `transaction`.
        """
        generation = self._generation
        try:
            with self._reader_lock:
                self._check_usable()
                generation = self._generation
                cursor = self._reader.execute(query, parameters)
                try:
                    yield from cursor
                finally:
                    cursor.close()
        except sqlite3.Error as error:
            self._failed(error, generation, None)
            raise

    def tend(self) -> None:
        """What has to be done from time to time: shorten the log, give room back, take the reserve back."""
        with suppress(sqlite3.Error):  # the disk's state; whoever has data to store says so
            if self._log_size() > self.reserve.log_bytes or not self.reserve.held:
                self.checkpoint()
            if self._full:
                self._drop_kept()
            free = self.read("pragma freelist_count")[0][0]
            if free >= _VACUUM_FROM or (free and not self.reserve.held):
                self._give_back(min(free, _VACUUM_PAGES))
        if not self.reserve.held and time.monotonic() >= self._reserve_from:
            self._full = not self.reserve.take()
            if not self._full:
                self._room.works()
                self._kept.works()

    def checkpoint(self) -> None:
        """Copy the log into the database, so that it begins anew.

        First without the lock, which takes long and gets most of it; then, with it, the little that came
        meanwhile. Without the second step, a log that is written to all the time would never begin anew.

        When the disk is full, at once and with what was set aside for it, before anybody takes the room.
        """
        with self._tend_lock:
            if not self.reserve.held:
                self._empty_log()
                return
            self._tender.execute("pragma wal_checkpoint(passive)").fetchall()
            with self._write_lock:
                self._tender.execute("pragma wal_checkpoint(passive)").fetchall()
                self.reserve.fit(growth(self._tender, self.path))

    def shorten_log(self) -> None:
        """Copy the log into the database if it is so long that housekeeping does not keep up.

        Raises:
            sqlite3.Error: It cannot be copied; the log must not grow any further.
        """
        if self._log_size() > _LONGEST_LOG * self.reserve.log_bytes:
            self.checkpoint()

    def sync(self) -> None:
        """Put on disk what was committed so far, for `Fsync.INTERVAL`."""
        sync(self._log)

    def close(self) -> None:
        """Close the connections and give the directory free; safe twice."""
        with self._tend_lock, self._write_lock, self._reader_lock:
            if not self._closed:
                self._closed = True
                self._close()
                self._lock_file.close()

    # -- inside ---------------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self.path.with_name("journal.db-wal")

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def _cover(self, connection: sqlite3.Connection, before: int) -> None:
        """Set aside what the file is going to grow by, if a transaction makes it larger.

        Raises:
            sqlite3.OperationalError: There is no room for it.
        """
        if pages(connection) > before and not self.reserve.cover(growth(connection, self.path)):
            raise no_room()

    def _empty_log(self) -> None:
        """Copy all of the log, and give its room to the disk; who calls has the lock that tends the file."""
        with self._write_lock, self._reader_lock:
            self.reserve.give_up()
            self._tender.execute("pragma busy_timeout = 0")  # a visitor that reads: as far as it goes
            try:
                self._tender.execute("pragma wal_checkpoint(truncate)").fetchall()
            finally:
                self._tender.execute(f"pragma busy_timeout = {BUSY_MS}")

    def _drop_kept(self) -> None:
        """What is kept for a replay is the first to leave: as much as is given back to the disk at a time."""
        if self.read("select exists (select 1 from kept)")[0][0]:
            made = Made()
            with self.transaction(Role.CONVERTER) as connection:
                while free_pages(connection) < _VACUUM_PAGES and drop_kept(connection, made):
                    pass
            if made.kept:
                text = "journal: the disk is full: requests that were kept for a replay make room"
                self._kept.fails("", text, level=logging.WARNING)

    def _give_back(self, most: int) -> None:
        """Give free pages back to the disk; where it is full, in steps for which the log has room."""
        step = most if self.reserve.held else max(1, self.reserve.log_bytes // PAGE_BYTES // 8)
        for _ in range(0, most, step):
            with self._tend_lock, self._write_lock:
                # a script, since `execute` takes one step of this statement, which is one page
                self._tender.executescript(f"pragma incremental_vacuum({step})")
            self.checkpoint()

    def _open(self) -> None:
        """Check the file, and make all connections to it.

        A disk that is full to the last block gets the room of an earlier run's reserve.
        """
        try:
            self._make_usable()
        except (OSError, sqlite3.OperationalError):
            self.reserve.give_up()
            self._make_usable()
        durable = {Fsync.COMMIT: "full", Fsync.INTERVAL: "normal", Fsync.OFF: "off"}[self._settings.fsync]
        # A power cut takes from the end of the log, and only what came after the last full commit: conversion
        # and delivery step back together, and are repeated. So nothing but the intake waits for the disk.
        relaxed = "off" if self._settings.fsync is Fsync.OFF else "normal"
        create_if_new(self.path)
        self._writers = {Role.INTAKE: self._connect(durable)}
        self._writers |= {role: self._connect(relaxed) for role in (Role.CONVERTER, Role.SENDERS)}
        self._tender = self._connect(relaxed)
        self._reader = self._connect(relaxed)

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        return connect(self.path, synchronous, self.reserve.log_bytes)

    def _make_usable(self) -> None:
        """Mend a damaged file, bring an older one up to date."""
        if reason := needs_salvage(self.directory):
            self._report(salvage(self.directory, reason))
        if upgraded := upgrade(self.directory):
            if not upgraded.complete:
                self._report(upgraded)
            else:
                logger.info("journal: %s", upgraded)

    def _close(self) -> None:
        for connection in (self._reader, self._tender, *reversed(self._writers.values())):
            connection.close()

    def _failed(self, error: sqlite3.Error, generation: int, role: Role | None) -> None:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in _DAMAGED or self._unusable:
            self._repair(generation, self._unusable or str(error))
        elif code in _NO_ROOM and role not in {None, Role.INTAKE}:
            self._reserve_from = time.monotonic() + _RESERVE_SECONDS
            self._full |= code == sqlite3.SQLITE_FULL
            self._room.fails("", "journal: %s: using the reserve to deliver what is stored", error)
            with self._tend_lock, suppress(sqlite3.Error):
                self._empty_log()

    def _repair(self, generation: int, reason: str) -> None:
        """Make the file anew from what is readable, once, whoever noticed the damage first.

        Where there is no room for that, later: whoever wants to use the file tries again.
        """
        with self._tend_lock, self._write_lock, self._reader_lock:
            if generation != self._generation or self._closed or time.monotonic() < self._repair_from:
                return
            self._unusable = reason
            with suppress(sqlite3.Error):
                self._close()
            try:
                self._report(salvage(self.directory, reason))
                self._open()
            except (OSError, sqlite3.Error) as error:
                self._repair_from = time.monotonic() + _REPAIR_SECONDS
                self.reserve.give_up()
                why = error.strerror if isinstance(error, OSError) else error
                self._trouble.fails("", "journal: %s; cannot make it anew: %s; trying again", reason, why)
                return
            self._unusable = ""
            self._generation += 1
        self._trouble.works()

    def _check_usable(self) -> None:
        if self._unusable:
            raise sqlite3.OperationalError(f"{self._unusable}; it could not be made anew yet")

    def _report(self, salvaged: Salvaged) -> None:
        self.salvages += 1
        self.unreadable += salvaged.unreadable
        logger.error("journal: %s", salvaged)

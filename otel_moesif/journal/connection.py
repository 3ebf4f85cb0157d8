"""What every connection to a journal has in common, and what can be asked on each."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from otel_moesif.journal.schema import create
from otel_moesif.journal.swap import make_private
from otel_moesif.journal.wal import PAGE_BYTES

BUSY_MS = 5000  # how long a connection waits for a visitor; the sqlite3 module's own default


class Role(StrEnum):
    """Who writes."""

    INTAKE = "intake"
    CONVERTER = "converter"
    SENDERS = "senders"


def connect(path: Path, synchronous: str, log_bytes: int) -> sqlite3.Connection:
    """One of the collector's own connections.

    Args:
        path: The database.
        synchronous: What a commit waits for, sqlite.org/pragma.html#pragma_synchronous.
        log_bytes: A log that grew while somebody read for long is cut to this when it begins anew; else it
            stayed as long.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # A text that the disk has changed shall not stop whoever reads the row; its checksum tells.
    connection.text_factory = lambda text: text.decode(errors="replace")
    connection.execute("pragma journal_mode = wal")
    connection.execute(f"pragma synchronous = {synchronous}")
    connection.execute("pragma wal_autocheckpoint = 0")
    connection.execute(f"pragma journal_size_limit = {log_bytes}")
    connection.execute(f"pragma busy_timeout = {BUSY_MS}")
    write_once(connection)
    return connection


def write_once(connection: sqlite3.Connection) -> None:
    """Have a connection write each page when it commits, and deleted rows not at all.

    ``cache_spill``: a transaction beyond the page cache (2 MB) would write pages before it commits, and some
    of them twice; on a full disk, what it has written when it fails takes the room of those that free some.
    ``secure_delete``, which some builds of SQLite have on: a delete would write all that it frees, as zeros.
    """
    connection.execute("pragma cache_spill = off")
    connection.execute("pragma secure_delete = off")


def create_if_new(path: Path) -> None:
    """Make the tables, on a connection that has not yet written anything: auto_vacuum wants that."""
    make_private(path)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        if not connection.execute("pragma user_version").fetchone()[0]:
            create(connection)
    finally:
        connection.close()


def sync(log: Path) -> None:
    """Put on disk what was committed so far."""
    with suppress(FileNotFoundError):
        file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def pages(connection: sqlite3.Connection) -> int:
    """How many pages the database has, also within a transaction."""
    return int(connection.execute("pragma page_count").fetchone()[0])


def free_pages(connection: sqlite3.Connection) -> int:
    """How many of them hold nothing."""
    return int(connection.execute("pragma freelist_count").fetchone()[0])


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    return (pages(connection) - free_pages(connection)) * PAGE_BYTES


def growth(connection: sqlite3.Connection, path: Path) -> int:
    """By how many bytes the file is going to be larger when the log is copied."""
    try:
        size = path.stat().st_size
    except OSError:  # somebody has deleted it; what is open goes on
        return 0
    return pages(connection) * PAGE_BYTES - size


def no_room() -> sqlite3.OperationalError:
    """As SQLite says it."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error

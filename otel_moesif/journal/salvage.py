"""A damaged journal: noticed before it is used, and made anew from whatever of it can still be read.

Nothing is lost without a word: what cannot be read is counted, what is no longer as it was written goes to
the dead letters, and the old files are set aside. What was deleted in the part of the log that is damaged
may be delivered again: the receiving side knows it by its id.
"""

from __future__ import annotations

import logging
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from otel_moesif.errors import StartError
from otel_moesif.journal.remake import Salvaged, plausible_cursor, remake
from otel_moesif.journal.rescue import CONSTANT, connect, definitions, tables_of, template
from otel_moesif.journal.schema import VERSION
from otel_moesif.journal.swap import NAME, discard_unfinished, finish_swap
from otel_moesif.journal.wal import PAGE_BYTES, View, WalState, inspect

__all__ = ["Salvaged", "needs_salvage", "salvage", "upgrade"]

logger = logging.getLogger("otel_moesif.journal")

# Error codes, sqlite.org/rescode.html: the low byte is the primary one.
_PRIMARY = 0xFF
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# A higher version than this is not ours but noise.
_LAST_VERSION = 1000


def needs_salvage(directory: Path) -> str | None:
    """Check a journal before it is used; nobody must have it open.

    Args:
        directory: Where it lies. A swap that was interrupted is completed first.

    Returns:
        What is wrong, for people; None if it is sound, or there is none.

    Raises:
        StartError: A newer version has written it.
        OSError: It cannot be read.
        sqlite3.OperationalError: SQLite cannot open it, for another reason than damage.
    """
    finish_swap(directory)
    discard_unfinished(directory)
    path = directory / NAME
    log = inspect(directory / f"{NAME}-wal")
    if _version(path, log) > VERSION:
        raise StartError(f"journal: {path} was written by a newer version of otel-moesif")
    if log.damaged:
        return str(log)
    if not path.exists():
        return f"{NAME} is missing, but its log is there" if log.valid else None
    if not path.stat().st_size:
        return f"{NAME} is empty"
    if log.torn:
        logger.warning(
            "journal: the last transaction in %s is incomplete and does not count (%d frames);"
            " a kill or a power cut leaves it so",
            log.path.name,
            log.torn,
        )
    if fault := _header_fault(_first_page(path, log)):
        return fault
    try:
        return _fault(path)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGED:
            return f"{NAME} is damaged: {error}"
        raise


def salvage(directory: Path, reason: str) -> Salvaged:
    """Make the journal anew from all that is readable, and set the old files aside; nobody must have it open.

    Args:
        directory: Where it lies. There must be room for two more of it.
        reason: What is wrong, for the log.

    Raises:
        OSError: There is no room, or the directory cannot be written. The old files are as they were, or
            `needs_salvage` completes what was begun.
        sqlite3.OperationalError: The same.
    """
    result = Salvaged(reason)
    remake(directory, result)
    return result


def upgrade(directory: Path) -> Salvaged | None:
    """Bring the journal of an older version up to date; to be called after `needs_salvage`.

    Returns:
        What it has become; None if it is up to date, or there is none.

    Raises:
        OSError: As `salvage`.
        sqlite3.OperationalError: As `salvage`.
    """
    path = directory / NAME
    version = _version(path, inspect(directory / f"{NAME}-wal"))
    if not 0 < version < VERSION:
        return None
    result = Salvaged(f"{NAME} is of version {version}")
    remake(directory, result, upgrade=True)
    return result


# -- checking -------------------------------------------------------------------------------------------


def _first_page(path: Path, log: WalState) -> bytes:
    """The page that begins with the database's header."""
    frames, _ = log.pages(View.COMMITTED)
    if 1 in frames:
        return next(content for _, content in log.read({1: frames[1]}))
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return file.read(PAGE_BYTES)


def _version(path: Path, log: WalState) -> int:
    """The journal's ``user_version``; 0 where there is none, or noise."""
    page = _first_page(path, log)
    if len(page) < 100 or page[:16] != template().page[:16]:
        return 0
    (version,) = struct.unpack_from(">I", page, 60)
    return version if version < _LAST_VERSION else 0


def _header_fault(page: bytes) -> str | None:
    """What SQLite would not notice, or take for another program's file."""
    expected = template().page
    new = not any(page[40:48] + page[56:64])  # neither tables nor encoding until the first transaction
    sound = page[18:20] in {b"\1\1", b"\2\2"} and all(
        page[part] == expected[part] or (new and part.start > 40) for part in CONSTANT
    )
    return None if sound else f"the header of {NAME} is damaged"


def _fault(path: Path) -> str | None:
    # Read-only: else closing it would copy the log into the file. After a crash at the very first start there
    # may be a rollback journal, which only a writer can take back.
    mode = "rw" if path.with_name(f"{NAME}-journal").exists() else "ro"
    with closing(connect(path, f"mode={mode}")) as connection:
        for (text,) in connection.execute("pragma quick_check(1)"):
            if text != "ok":
                return f"{NAME} is damaged: {' '.join(str(text).split())}"
        tables = tables_of(connection)
        if tables is None:
            new = path.stat().st_size <= PAGE_BYTES and not definitions(connection)
            return None if new else f"the tables of {NAME} are not those of a journal"
        if not 0 < connection.execute("pragma user_version").fetchone()[0] <= VERSION:
            return f"the header of {NAME} is damaged"
        # What lies before an exporter's cursor is taken for delivered: a cursor beyond all events is noise.
        last = dict(connection.execute("select name, seq from sqlite_sequence").fetchall())
        (cursor,) = connection.execute("select max(chunk) from cursors").fetchone()
        if cursor is not None and not plausible_cursor(cursor, last.get("events", 0)):
            return f"{NAME} is damaged: a cursor is beyond the last event"
        for table in set(tables) - {"cursors"}:
            query = f"select max(id) from {table}"  # noqa: S608 - our own names
            (highest,) = connection.execute(query).fetchone()
            if highest is not None and highest > last.get(table, 0):
                return f"{NAME} is damaged: {table} has higher ids than were given"
    return None

"""A new journal, filled with what is readable of a damaged one, or of an older version's."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from otel_moesif.journal.rescue import LAST_ID, Rescue, Row, template
from otel_moesif.journal.schema import checksum, create
from otel_moesif.journal.swap import NAME, SALVAGING, discard_unfinished, make_private, swap
from otel_moesif.journal.wal import View, WalState, inspect

_DAMAGED_ROW = "damaged in the journal"
_SIGNALS = {"traces", "logs"}
_KINDS = {*_SIGNALS, "events", "held"}
# Columns that version 1 had not; the time of storing is that of the upgrade then.
_MISSING = {"receiver": "", "response": "", "active": 1}
_NUMBERS = {"count", "attempts", "chunk", "row", "active", "done_to", "last", "total", "done", "crc"}
# What a backend answered may have held bytes that are no text.
_FREE_TEXT = {"reason", "response"}


@dataclass
class Salvaged:
    """What became of a damaged (or old) journal.

    Attributes:
        reason: What was wrong.
        set_aside: Where the old database lies now; None if there was none, or nothing is lost with it.
        rows: By table, how many rows were saved, dead letters made of damaged rows included.
        events: How many events are in those of ``events``.
        damaged: Rows that are no longer as they were written; they are in the dead letters.
        unreadable: At least so many rows could not be read; where nobody can tell how many, each thing
            that is wrong counts as one.
        tables: Tables of which an unknown part could not be read.
        frames: Damaged frames of the write-ahead log: each one is a page that may be an older one now.
    """

    reason: str
    set_aside: Path | None = None
    rows: Counter[str] = field(default_factory=Counter)
    events: int = 0
    damaged: int = 0
    unreadable: int = 0
    tables: set[str] = field(default_factory=set)
    frames: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything was read, and as it was written."""
        return not (self.damaged or self.unreadable or self.frames)

    def __str__(self) -> str:
        saved = ", ".join(f"{count} {table}" for table, count in self.rows.items() if count) or "nothing"
        parts = [f"{self.reason}; made anew with {saved} ({self.events} events)"]
        if self.damaged:
            parts.append(f"{self.damaged} damaged rows are in the dead letters")
        if self.unreadable:
            parts.append(f"{self.unreadable} or more rows are unreadable")
        if self.tables:
            parts.append(f"not all of {', '.join(sorted(self.tables))} could be read")
        if "cursors" in self.tables:
            parts.append("an exporter whose cursor is lost gets stored events again")
        if self.frames:
            parts.append(f"{self.frames} frames of the log are damaged")
        if self.set_aside:
            parts.append(f"the old file is {self.set_aside}")
        return "; ".join(parts)


def remake(directory: Path, result: Salvaged, *, upgrade: bool = False) -> None:
    """Make a journal anew.

    Args:
        directory: Where it lies; nobody must have it open.
        result: Is filled in.
        upgrade: The old files are deleted rather than set aside, if all of them was read.

    Raises:
        OSError: There is no room, or the directory cannot be written.
        sqlite3.OperationalError: The same.
    """
    discard_unfinished(directory)
    log = inspect(directory / f"{NAME}-wal")
    if log.damaged:
        result.frames = max(1, log.lost)
    try:
        make_private(directory / SALVAGING)
        with closing(sqlite3.connect(directory / SALVAGING, isolation_level=None)) as connection:
            create(connection)
            # The file counts only when it is complete: nothing needs a log until then.
            for pragma in ("journal_mode = delete", "journal_mode = off", "synchronous = off"):
                connection.execute(f"pragma {pragma}")
            connection.execute("begin")
            _Copying(connection, result).run(directory, log)
            connection.execute("commit")
            connection.execute("pragma journal_mode = wal")
        result.set_aside = swap(directory, keep_old=not (upgrade and result.complete))
    except BaseException:
        discard_unfinished(directory)
        raise


class _Copying:
    def __init__(self, connection: sqlite3.Connection, result: Salvaged) -> None:
        self._connection = connection
        self._result = result
        self._now = time.time()
        self._stored: dict[str, set[int]] = {table: set() for table in template().tables}
        self._damaged: dict[tuple[str, int], Row] = {}
        self._failed: dict[str, set[int]] = {}
        self._highest: dict[str, int] = {}
        self._cursors: dict[str, Row] = {}
        self._cursors_whole = False

    def run(self, directory: Path, log: WalState) -> None:
        """Copy everything, from each view of the log: what the newest one has lost, an older one may have."""
        faults: list[str] = []
        for view in (View.COMMITTED, View.PREFIX, View.WRITTEN) if log.damaged else (View.COMMITTED,):
            with closing(Rescue(directory, log, view)) as rescue:
                if view is View.COMMITTED:
                    faults = rescue.faults()
                self._copy(rescue, view)
        self._count()
        self._put_cursors()
        self._put_sequences()
        self._put_damaged()
        if faults and self._result.complete:
            self._result.unreadable = 1  # a row may be hidden behind what is wrong, and nothing else tells

    def _copy(self, rescue: Rescue, view: View) -> None:
        for table, highest in rescue.highest.items():
            self._highest[table] = max(highest, self._highest.get(table, 0))
        for table in rescue.tables:
            # What has no checksum is taken from where no damaged page is used, as new as possible.
            if table == "cursors":
                if view is not View.WRITTEN and not self._cursors_whole:
                    self._take_cursors(rescue)
            elif table != "replays" or view is View.COMMITTED:
                for row in rescue.rows(table):
                    self._take(table, row)
        for table, failed in rescue.failed.items():
            self._failed.setdefault(table, set()).update(failed)
        self._result.tables |= rescue.broken

    def _take(self, table: str, row: Row) -> None:
        id_ = row["id"]
        if id_ in self._stored[table]:
            return
        if not 0 < id_ < LAST_ID or not _fits(row) or ("crc" in row and checksum(row["body"]) != row["crc"]):
            self._damaged.setdefault((table, id_), row)
            return
        self._put(table, row)
        self._stored[table].add(id_)

    def _take_cursors(self, rescue: Rescue) -> None:
        rows = rescue.keyed("cursors")
        self._cursors_whole = "cursors" not in rescue.broken
        for row in rows:
            last = self._highest.get("events", LAST_ID)
            if not _fits(row) or not plausible_cursor(row["chunk"], last):
                self._result.tables.add("cursors")
                continue
            known = self._cursors.get(row["exporter"])
            # Rather once more than not at all.
            if known is None or (row["chunk"], row["row"]) < (known["chunk"], known["row"]):
                self._cursors[row["exporter"]] = row

    def _put(self, table: str, row: Row) -> None:
        columns = template().tables[table]
        row = {"time": self._now, **_MISSING, **row}
        if "crc" in columns and "crc" not in row:
            row["crc"] = checksum(row["body"])
        values = f"({', '.join(columns)}) values ({', '.join('?' * len(columns))})"
        self._connection.execute(f"insert into {table} {values}", [row[column] for column in columns])
        self._result.rows[table] += 1
        if table == "events":
            self._result.events += row["count"]

    def _count(self) -> None:
        for table, failed in self._failed.items():
            read = self._stored[table] | {id_ for name, id_ in self._damaged if name == table}
            self._result.unreadable += len(failed - read)
        self._result.unreadable += len(self._result.tables)

    def _put_cursors(self) -> None:
        for row in self._cursors.values():
            self._put("cursors", row)

    def _put_sequences(self) -> None:
        """See to it that no id is given a second time: the exporters' cursors refer to them."""
        cursor = max((row["chunk"] for row in self._cursors.values()), default=0)
        given = {table: max(ids, default=0) for table, ids in self._stored.items()}
        for table, id_ in self._damaged:
            given[table] = max(given[table], id_ if id_ < LAST_ID else 0)
        given["events"] = max(given["events"], cursor)
        # A table of which it is not known any more goes on after all others.
        most = max(*given.values(), *self._highest.values(), 0)
        self._connection.execute("delete from sqlite_sequence")
        self._connection.executemany(
            "insert into sqlite_sequence (name, seq) values (?, ?)",
            [
                (table, max(id_, self._highest.get(table, most)))
                for table, id_ in given.items()
                if table != "cursors"
            ],
        )

    def _put_damaged(self) -> None:
        """Make dead letters of rows that are not as they were written, where no view had them intact."""
        for (table, id_), row in self._damaged.items():
            if id_ in self._stored[table]:
                continue
            letter = _letter(table, row)
            if letter is None:
                self._result.unreadable += 1
            else:
                self._put("dead_letters", {"id": None, "time": self._now, **letter})
                self._result.damaged += 1


def plausible_cursor(chunk: object, last: int) -> bool:
    """Whether a cursor may stand there: behind the last event at most."""
    return isinstance(chunk, int) and 0 <= chunk <= last + 1


def _fits(row: Row) -> bool:
    """Whether every value is of the kind that the journal writes; damage may be anything."""
    return all(_fits_column(column, value) for column, value in row.items())


def _fits_column(column: str, value: object) -> bool:
    match column:
        case "body":
            return isinstance(value, bytes)
        case "time":
            return isinstance(value, float) and value >= 0
        case "signal":
            return value in _SIGNALS
        case "kind":
            return value in _KINDS
        case _ if column in _NUMBERS or column == "id":
            return isinstance(value, int) and (column == "id" or 0 <= value < LAST_ID)
        case _:
            return isinstance(value, str) and (
                column in _FREE_TEXT or "\N{REPLACEMENT CHARACTER}" not in value
            )


def _letter(table: str, row: Row) -> Row | None:
    """A dead letter for a damaged row, with what of it makes sense; None if it is of no use to anybody."""
    body = row.get("body")
    if isinstance(body, str):
        body = body.encode()
    if table == "held" or not isinstance(body, bytes):
        return None
    text = {name: value for name, value in row.items() if isinstance(value, str)}
    kind = "events" if table == "events" else text.get("kind", text.get("signal"))
    count = row.get("count")
    return {
        "origin": text.get("origin") or text.get("exporters", "").strip(",") or text.get("receiver", ""),
        "kind": kind if kind in _KINDS else "traces",
        "receiver": text.get("receiver", ""),
        "reason": f"{_DAMAGED_ROW}: {text['reason']}" if text.get("reason") else _DAMAGED_ROW,
        "response": text.get("response", ""),
        "attempts": 0,
        "count": count if isinstance(count, int) and 0 <= count < 1 << 32 else 1,
        "body": body,
    }

"""The journal as another process may use it, whether its collector runs or not: for the command line.

A visitor takes no part in the collector's work. It reads, deletes what nobody works on, and leaves requests
(``inbox``, ``replays``) that the collector takes up: within a second if it runs, else with its next start.
All of it is done in short steps, since the collector's commits wait meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from otel_moesif.journal.prune import give_back, prune_exporter, prune_kept
from otel_moesif.journal.room import join
from otel_moesif.journal.rows import DeadLetter
from otel_moesif.journal.schema import checksum
from otel_moesif.journal.status import Status, read_status
from otel_moesif.journal.visit import BUSY_SECONDS, Visit, VisitError

__all__ = ["DamagedLetter", "Letters", "Progress", "VisitError", "Visitor"]

# One step: so many rows, or bytes.
_STEP_ROWS = 256
_STEP_BYTES = 4 << 20
# How the reason of a dead letter begins whose body the disk had changed before it became one.
_DAMAGED = "damaged in the journal"
_COLUMNS = "origin, kind, reason, {}, attempts, count, receiver, response, time, id"


@dataclass(frozen=True)
class DamagedLetter(DeadLetter):
    """A dead letter whose body the disk has changed; to read it may end in more than an exception."""


@dataclass(frozen=True)
class Letters:
    """Which dead letters are meant; nothing given: all.

    Attributes:
        origin: Only those of this exporter or pipeline.
        ids: Only these.
        before: Only those that were given up before, seconds since the epoch.
    """

    origin: str | None = None
    ids: Sequence[int] = ()
    before: float | None = None

    def conditions(self) -> tuple[str, list[object]]:
        """For a query: text that begins with ``where``, and its values."""
        conditions = ["id > ?", "id <= ?"]
        values: list[object] = []
        if self.origin is not None:
            conditions.append("origin = ?")
            values.append(self.origin)
        if self.ids:
            conditions.append(f"id in ({', '.join('?' * len(self.ids))})")
            values += self.ids
        if self.before is not None:
            conditions.append("time < ?")
            values.append(self.before)
        return f"where {' and '.join(conditions)}", values


@dataclass(frozen=True)
class Progress:
    """How far a replay is: requests done, of how many; ``over`` when the collector has done with it."""

    done: int
    total: int
    over: bool


class Visitor:
    """Opens a journal beside its collector; a context manager.

    Args:
        directory: ``service.journal.directory``.
        busy_seconds: How long to wait for other writers.

    Raises:
        VisitError: There is no journal, or it is damaged, or not one that this version understands. Every
            method raises it, when the journal stays busy or turns out to be damaged.
    """

    def __init__(self, directory: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self._visit = Visit(directory, busy_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._visit.close()

    @property
    def running(self) -> bool:
        """Whether a collector has the journal open."""
        return self._visit.running

    # -- dead letters ---------------------------------------------------------------------------------

    def count_letters(self, which: Letters | None = None) -> int:
        """How many dead letters there are."""
        where, values = (which or Letters()).conditions()
        query = f"select count(*) from dead_letters {where}"  # noqa: S608 - only our own words; so in all below
        return int(self._visit.read(query, [0, self._last_letter(), *values])[0][0])

    def dead_letters(
        self, which: Letters | None = None, *, newest: int | None = None, bodies: bool = True
    ) -> Iterator[DeadLetter]:
        """Dead letters, oldest first. Those that come while they are read are left out.

        Args:
            which: Only these.
            newest: Only so many of them, the newest.
            bodies: Whether to read them, too; they may be large.
        """
        where, values = (which or Letters()).conditions()
        after, last = 0, self._last_letter()
        if newest is not None:
            tail = f"select id from dead_letters {where} order by id desc limit ?"  # noqa: S608
            found = self._visit.read(tail, [0, last, *values, newest])
            after = found[-1][0] - 1 if found else last
        columns = _COLUMNS.format("body" if bodies else "x''")
        query = f"select {columns}, crc from dead_letters {where} order by id"  # noqa: S608
        while rows := self._visit.read_some(query, [after, last, *values], _Enough(body=3)):
            for *row, crc in rows:
                letter = DeadLetter(*row)
                damaged = letter.reason.startswith(_DAMAGED) or (bodies and checksum(letter.body) != crc)
                yield DamagedLetter(*row) if damaged else letter
            after = letter.id

    def purge(self, which: Letters | None = None) -> int:
        """Delete dead letters; gives how many."""
        where, values = (which or Letters()).conditions()
        last = self._last_letter()
        some = f"select id from dead_letters {where} order by id limit {_STEP_ROWS}"  # noqa: S608

        def step(connection: sqlite3.Connection, _: bool) -> int | None:
            query = f"delete from dead_letters where id in ({some})"  # noqa: S608
            return connection.execute(query, [0, last, *values]).rowcount or None

        return self._visit.in_steps(step)

    def try_again(self, which: Letters | None = None) -> int:
        """Have dead letters tried again; what fails again becomes a dead letter again.

        What the disk has damaged cannot be tried again, and stays.

        Returns:
            How many dead letters the collector takes up.
        """
        where, values = (which or Letters()).conditions()
        last = self._last_letter()  # those that fail again come after it
        values += [f"{_DAMAGED}%"]
        where += " and reason not like ?"
        query = f"select id, length(body) from dead_letters {where} order by id"  # noqa: S608

        def step(connection: sqlite3.Connection, _: bool) -> int | None:
            size = 0
            ids = []
            for id_, length in connection.execute(query, [0, last, *values]):
                ids.append((id_,))
                size += length
                if len(ids) >= _STEP_ROWS or size >= _STEP_BYTES:
                    break
            connection.executemany(
                "insert into inbox (kind, receiver, origin, count, crc, body)"
                " select kind, receiver, origin, count, crc, body from dead_letters where id = ?",
                ids,
            )
            connection.executemany("delete from dead_letters where id = ?", ids)
            return len(ids) or None

        return self._visit.in_steps(step)

    def _last_letter(self) -> int:
        return int(self._visit.read("select coalesce(max(id), 0) from dead_letters")[0][0])

    # -- replay ---------------------------------------------------------------------------------------

    def replay(self, since: float, until: float, exporters: Sequence[str] = ()) -> tuple[int, int]:
        """Have kept requests converted again.

        Args:
            since: From when on they were accepted, seconds since the epoch.
            until: Up to when.
            exporters: Who gets the events; nobody named: whoever the configuration names.

        Returns:
            The replay's number, and how many requests it has to do.

        Raises:
            VisitError: None were kept from then, or an exporter is in no pipeline.
        """
        known = [name for (name,) in self._visit.read("select exporter from cursors where active")]
        if unknown := [name for name in exporters if name not in known]:
            raise VisitError(
                f"no pipeline has {', '.join(unknown)} (exporters: {', '.join(known) or 'none'})"
            )
        query = "select min(id), max(id), count(*) from kept where time >= ? and time < ?"
        ((first, last, count),) = self._visit.read(query, (since, until))
        if not count:
            raise VisitError(
                "no requests are kept from that time (service.journal.keep_raw says how long they are)"
            )
        with self._visit.transaction() as (connection, _):
            cursor = connection.execute(
                "insert into replays (done_to, last, total, done, exporters) values (?, ?, ?, 0, ?)",
                (first - 1, last, count, join(exporters)),
            )
            return int(cursor.lastrowid or 0), count

    def progress(self, replay: int) -> Progress:
        """How far a replay is."""
        for done, total in self._visit.read("select done, total from replays where id = ?", (replay,)):
            return Progress(done, total, over=False)
        return Progress(0, 0, over=True)

    def cancel(self, replay: int) -> None:
        """Do no more of a replay.

        Raises:
            VisitError: There is none of that number, or it is done.
        """
        with self._visit.transaction() as (connection, _):
            if not connection.execute("delete from replays where id = ?", (replay,)).rowcount:
                raise VisitError(f"there is no replay {replay}, or it is done")

    # -- status and room ------------------------------------------------------------------------------

    def status(self) -> Status:
        """What is in the journal."""
        return read_status(self._visit)

    def prune_exporter(self, exporter: str) -> int:
        """As `otel_moesif.journal.prune.prune_exporter`."""
        return prune_exporter(self._visit, exporter)

    def prune_kept(self) -> int:
        """As `otel_moesif.journal.prune.prune_kept`."""
        return prune_kept(self._visit)

    def give_back(self) -> int:
        """As `otel_moesif.journal.prune.give_back`."""
        return give_back(self._visit)


class _Enough:
    """Says when a step has enough rows.

    Args:
        body: In which column the bytes are that count.
    """

    def __init__(self, body: int) -> None:
        self._body = body
        self._rows = self._bytes = 0

    def __call__(self, row: Any) -> bool:
        self._rows += 1
        self._bytes += len(row[self._body])
        return self._rows >= _STEP_ROWS or self._bytes >= _STEP_BYTES

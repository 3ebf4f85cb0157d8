"""What is in a journal, for whoever runs the collector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_moesif.journal.room import split, waiting
from otel_moesif.journal.rows import Position
from otel_moesif.journal.visit import Visit

_BESIDE = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Backlog:
    """What waits for one exporter.

    Attributes:
        exporter: Its id.
        active: Whether it is in the configuration that ran last, or runs.
        events: How many wait.
        oldest: When the oldest of them was stored, seconds since the epoch; None if none waits.
    """

    exporter: str
    active: bool
    events: int
    oldest: float | None


@dataclass(frozen=True)
class ReplayState:
    """A replay that is not done.

    Attributes:
        id: Its number.
        done: How many requests were converted again.
        total: How many there are to do.
        exporters: Who gets the events; nobody named: everybody.
    """

    id: int
    done: int
    total: int
    exporters: Sequence[str]


@dataclass(frozen=True)
class SetAside:
    """A damaged journal that was made anew: its old files, and their bytes."""

    path: Path
    bytes: int


@dataclass(frozen=True)
class Status:
    """What is in the journal.

    Attributes:
        running: Whether a collector has it open.
        bytes_on_disk: Of the database and its log.
        bytes_free: How many of the database's hold nothing: used again, or given back to the disk.
        bytes_reserve: Held for the day on which the disk is full.
        raw: Requests that wait for conversion.
        oldest_raw: When the oldest of them came, seconds since the epoch.
        backlogs: By exporter.
        kept: Converted requests that are kept for a replay.
        kept_since: When the oldest of them came.
        letters: Dead letters.
        dead_letters: How many events and requests are in them.
        inbox: Dead letters that wait to be tried again.
        replays: Those that are not done.
        set_aside: Files of damaged journals.
    """

    running: bool
    bytes_on_disk: int
    bytes_free: int
    bytes_reserve: int
    raw: int
    oldest_raw: float | None
    backlogs: Sequence[Backlog]
    kept: int
    kept_since: float | None
    letters: int
    dead_letters: int
    inbox: int
    replays: Sequence[ReplayState]
    set_aside: Sequence[SetAside]


def read_status(visit: Visit) -> Status:
    """All of it, of one moment.

    Raises:
        VisitError: The journal is busy or damaged.
    """
    directory = visit.directory
    with visit.snapshot():
        letters, dead = visit.read("select count(*), coalesce(sum(count), 0) from dead_letters")[0]
        raw, oldest_raw = visit.read("select count(*), min(time) from raw")[0]
        kept, kept_since = visit.read("select count(*), min(time) from kept")[0]
        return Status(
            running=visit.running,
            bytes_on_disk=sum(_size(file) for file in directory.glob("journal.db*")),
            bytes_free=_one(visit, "pragma freelist_count") * _one(visit, "pragma page_size"),
            bytes_reserve=_size(directory / "journal.reserve"),
            raw=raw,
            oldest_raw=oldest_raw,
            backlogs=read_backlogs(visit),
            kept=kept,
            kept_since=kept_since,
            letters=letters,
            dead_letters=dead,
            inbox=_one(visit, "select count(*) from inbox"),
            replays=[
                ReplayState(id_, done, total, split(exporters))
                for id_, done, total, exporters in visit.read(
                    "select id, done, total, exporters from replays order by id"
                )
            ],
            set_aside=_set_aside(directory),
        )


def read_backlogs(visit: Visit) -> list[Backlog]:
    """What waits, for each exporter that has a cursor or is named with events."""
    rows = visit.read("select exporter, chunk, row, active from cursors")
    cursors = {name: Position(chunk, row) for name, chunk, row, _ in rows}
    active = {name: bool(flag) for name, *_, flag in rows}
    events = dict.fromkeys(cursors, 0)
    oldest: dict[str, float] = {}
    for id_, stored, exporters, count in visit.read(
        "select id, time, exporters, count from events order by id"
    ):
        for name in split(exporters):
            left = waiting(id_, count, cursors.get(name, Position()))
            if left:
                events[name] = events.get(name, 0) + left
                oldest.setdefault(name, stored)
    return [Backlog(name, active.get(name, False), n, oldest.get(name)) for name, n in events.items()]


def _set_aside(directory: Path) -> list[SetAside]:
    # a log may be there without its database
    names = {f"{file.name.partition('.db')[0]}.db" for file in directory.glob("journal-corrupt-*.db*")}
    return [
        SetAside(directory / name, sum(_size(directory / f"{name}{suffix}") for suffix in _BESIDE))
        for name in sorted(names)
    ]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _one(visit: Visit, query: str) -> Any:
    return visit.read(query)[0][0]

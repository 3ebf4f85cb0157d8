"""Rows that are kept back between two batches: in memory, and in the journal for the next start."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

SINCE, PIECE = "since", "piece"


@dataclass
class Change:
    """What has to be stored so that the journal has what memory will have.

    Attributes:
        frames: What is kept back from now on, by slot.
        fresh: The slot of each piece for the journal.
        bodies: Those pieces, Arrow IPC.
        replaced: For each of them, which piece of the journal it takes the place of; None: its rows are new.
        released: Numbers of pieces of which no row waits any more, or whose rows that wait have a new piece.
    """

    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    replaced: list[int | None] = field(default_factory=list)
    released: list[int] = field(default_factory=list)


class HeldRows:
    """By slot, what waits; the journal has exactly that.

    A piece of which some rows leave is replaced by one of those that stay: what has left does not come back
    after a restart. So a row is written again as often as others that came with it leave, in no batch more
    than all that waits, which its owner bounds (``assembly::max_rows``, ``max_bytes``; 100,000 spans take
    30 ms). Remnants of different pieces are not put together: rows that came at one time mostly leave at one
    time, and what stays for long is not written again for the sake of younger ones.
    """

    def __init__(self) -> None:
        self.frames: dict[str, pl.DataFrame] = {}
        self._moved: set[int] = set()

    def load(
        self, slot: str, pieces: Iterable[tuple[int, pl.DataFrame]], now: int, moved: Iterable[int] = ()
    ) -> None:
        """Take what an earlier run left; its time begins anew, since no clock is comparable across runs.

        Args:
            slot: Whose it is.
            pieces: Of the journal: number, rows.
            now: When their time begins.
            moved: Those of them that the journal has under another slot; they are stored anew with the next
                change.
        """
        parts = [
            rows.with_columns(pl.lit(now, pl.Int64).alias(SINCE), pl.lit(id_, pl.Int64).alias(PIECE))
            for id_, rows in pieces
        ]
        self.frames[slot] = pl.concat(parts, how="diagonal_relaxed")
        self._moved.update(moved)

    def change(self, wanted: Mapping[str, pl.DataFrame], now: int) -> Change:
        """Compare with what shall wait from now on.

        Args:
            wanted: By slot; all of them.
            now: When the new rows' time begins.
        """
        change = Change()
        for slot, given in wanted.items():
            if given.height:
                change.frames[slot] = _with_own_columns(given, now)
        for slot, rows in change.frames.items():
            had, has = _rows_of_pieces(self.frames.get(slot)), _rows_of_pieces(rows)
            stale = [id_ for id_ in has if has[id_] != had.get(id_) or id_ in self._moved]
            anew = rows.filter(pl.col(PIECE).is_null() | pl.col(PIECE).is_in(stale))
            for (old,), part in anew.partition_by(PIECE, as_dict=True, maintain_order=True).items():
                change.fresh.append(slot)
                change.bodies.append(to_ipc(part.drop(SINCE, PIECE)))
                change.replaced.append(old)
            change.released += sorted(had.keys() & stale) + sorted(had.keys() - has.keys())
        for slot in self.frames.keys() - change.frames.keys():
            change.released += sorted(_rows_of_pieces(self.frames[slot]))
        return change

    def stored(self, change: Change, pieces: Iterable[int]) -> None:
        """The journal has it, under these numbers."""
        numbers: dict[str, dict[int | None, int]] = {}
        for slot, old, new in zip(change.fresh, change.replaced, pieces, strict=True):
            numbers.setdefault(slot, {})[old] = new
        self.frames = {
            slot: rows.with_columns(pl.col(PIECE).replace(numbers[slot])) if slot in numbers else rows
            for slot, rows in change.frames.items()
        }
        self._moved.difference_update(change.released)


def _rows_of_pieces(rows: pl.DataFrame | None) -> dict[int, int]:
    """How many rows there are of each piece of the journal."""
    if rows is None:
        return {}
    counts = rows.group_by(PIECE).len().drop_nulls()
    return dict(zip(*counts, strict=True))


def _with_own_columns(rows: pl.DataFrame, now: int) -> pl.DataFrame:
    own = [pl.lit(None, pl.Int64).alias(name) for name in (SINCE, PIECE) if name not in rows.columns]
    return rows.with_columns(own).with_columns(pl.col(SINCE).fill_null(now))


def to_ipc(frame: pl.DataFrame) -> bytes:
    """Held rows for the journal: Arrow IPC, LZ4."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def from_ipc(data: bytes) -> pl.DataFrame:
    """The reverse of `to_ipc`."""
    return pl.read_ipc(io.BytesIO(data))

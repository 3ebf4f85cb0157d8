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
        fresh: Slots with new rows, each one piece for the journal.
        bodies: Those pieces, Arrow IPC.
        released: Numbers of pieces of which no row waits any more.
    """

    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    released: list[int] = field(default_factory=list)


class HeldRows:
    """By slot, what waits.

    A piece stays in the journal as long as one of its rows waits. After a crash its other rows come back too:
    backend spans find no partner, and calls that left already are recognised as known.
    """

    def __init__(self) -> None:
        self.frames: dict[str, pl.DataFrame] = {}

    def load(self, slot: str, pieces: Iterable[tuple[int, pl.DataFrame]], now: int) -> None:
        """Take what an earlier run left; its time begins anew, since no clock is comparable across runs."""
        parts = [
            rows.with_columns(pl.lit(now, pl.Int64).alias(SINCE), pl.lit(id_, pl.Int64).alias(PIECE))
            for id_, rows in pieces
        ]
        self.frames[slot] = pl.concat(parts, how="diagonal_relaxed")

    def change(self, wanted: Mapping[str, pl.DataFrame], now: int) -> Change:
        """Compare with what shall wait from now on.

        Args:
            wanted: By slot; all of them.
            now: When the new rows' time begins.
        """
        change = Change()
        for slot, given in wanted.items():
            if not given.height:
                continue
            rows = _with_own_columns(given, now)
            new = rows.filter(pl.col(PIECE).is_null())
            if new.height:
                change.fresh.append(slot)
                change.bodies.append(to_ipc(new.drop(SINCE, PIECE)))
            change.frames[slot] = rows
        for slot, rows in self.frames.items():
            still = change.frames.get(slot)
            gone = set(rows[PIECE].unique()) - set(still[PIECE].unique() if still is not None else ())
            change.released += sorted(gone)
        return change

    def stored(self, change: Change, pieces: Iterable[int]) -> None:
        """The journal has it, under these numbers."""
        numbers = dict(zip(change.fresh, pieces, strict=True))
        self.frames = {
            slot: rows.with_columns(pl.col(PIECE).fill_null(numbers[slot])) if slot in numbers else rows
            for slot, rows in change.frames.items()
        }


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

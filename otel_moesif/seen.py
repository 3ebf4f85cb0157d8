"""The calls that were seen lately, so that one that is reported again is known: a set of ids that forgets."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl


def keys(transaction_ids: pl.Series) -> pl.Series:
    """Transaction ids (UUIDs as text) as 128-bit numbers; null for what is none."""
    digits = transaction_ids.str.replace_all("-", "", literal=True)
    return digits.str.to_integer(base=16, dtype=pl.UInt128, strict=False)


@dataclass
class _Generation:
    """The ids of one window's time.

    Attributes:
        began: When the first one came; None while there is none. Nanoseconds of the monotonic clock.
        runs: They, sorted run by run; each run is at least twice as long as the next. So an id is sorted
            again only as often as the whole doubles, and there are few runs to look through.
        pieces: Under which numbers the journal has them.
    """

    began: int | None = None
    runs: list[pl.Series] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)


class Seen:
    """Ids of the last while: at least of ``window``, at most of twice that.

    Args:
        window: Nanoseconds for which an id is surely known.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._current = _Generation()
        self._previous = _Generation()

    def __len__(self) -> int:
        return sum(len(run) for run in (*self._previous.runs, *self._current.runs))

    def contains(self, ids: pl.Series) -> pl.Series:
        """For each id (UInt128, without nulls) whether it is known."""
        found = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(ids))
        for run in (*self._previous.runs, *self._current.runs):
            places = run.search_sorted(ids, side="left")
            found = found | (run.gather(places.clip(upper_bound=len(run) - 1)) == ids)
        return found

    def add(self, ids: pl.Series, piece: int, now: int) -> None:
        """Remember ids (UInt128, without nulls).

        Args:
            ids: Which.
            piece: Under which number the journal has them.
            now: Nanoseconds of the monotonic clock.
        """
        generation = self._current
        if generation.began is None:
            generation.began = now
        generation.pieces.append(piece)
        if not len(ids):
            return
        runs = generation.runs
        runs.append(ids.sort())
        while len(runs) > 1 and len(runs[-2]) < 2 * len(runs[-1]):
            runs[-2:] = [pl.concat(runs[-2:]).sort()]

    def expire(self, now: int) -> list[int]:
        """Forget what is old enough; gives the numbers that the journal need not keep any more."""
        released: list[int] = []
        if self._current.began is not None and now - self._current.began >= self._window:
            released += self._previous.pieces
            self._previous, self._current = self._current, _Generation()
        if self._previous.began is not None and now - self._previous.began >= 2 * self._window:
            released += self._previous.pieces
            self._previous = _Generation()
        return released

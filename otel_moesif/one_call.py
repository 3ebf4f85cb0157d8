"""One call, one event: what is reported twice becomes one event, and what is sent again becomes none.

A gateway may report a call as a span and as an access-log record; a client whose acknowledgement was lost
sends a request again. Both give the same transaction id, and here it is let through once per destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from otel_moesif.component import Signal
from otel_moesif.config.model import DeduplicateSettings, Prefer
from otel_moesif.events import Events
from otel_moesif.held import SINCE
from otel_moesif.schema import SCHEMA
from otel_moesif.seen import Seen, keys

NS_PER_S = 1_000_000_000
# Whether calls come in both ways is learned from the calls themselves, and forgotten after so long.
_BOTH_WAYS_FOR = 600 * NS_PER_S


@dataclass
class Admitted:
    """What one batch becomes.

    Attributes:
        events: To be delivered.
        ids: Of those events, to be remembered; UInt128.
        waiting: Events that wait for the preferred report, with the columns of held rows.
        known: How many events were of calls that had made one already.
        twice: How many reports gave way to the preferred one.
        due: When the first of the waiting ones leaves, nanoseconds of the monotonic clock.
    """

    events: Events
    ids: pl.Series
    waiting: pl.DataFrame
    known: int = 0
    twice: int = 0
    due: int | None = None


class OneCall:
    """Lets each call through once.

    Args:
        settings: What is preferred, and for how long.
        both: Whether spans and logs go to this destination at all.
    """

    def __init__(self, settings: DeduplicateSettings, *, both: bool) -> None:
        self._prefers_logs = settings.prefer is Prefer.LOG
        self._wait = _ns(settings.wait) if both else 0
        self._seen = Seen(_ns(settings.window))
        self._gone: list[int] = []
        self._both_until = 0

    def admit(
        self,
        produced: Sequence[tuple[Signal, Events]],
        waiting: pl.DataFrame | None,
        now: int,
        *,
        ending: bool = False,
    ) -> Admitted:
        """Choose which events go on.

        Remembers none of them: `remember` does, once the journal has what this gives.

        Args:
            produced: Events, and from which signal they were made.
            waiting: What was given as waiting last time.
            now: Nanoseconds of the monotonic clock.
            ending: Nothing comes any more: nothing waits any longer.
        """
        frames = [events.frame.with_columns(_log=signal is Signal.LOGS) for signal, events in produced]
        fresh = pl.concat(frames) if frames else SCHEMA.to_frame().with_columns(_log=pl.lit(value=False))
        # After a restart, something may wait again that has left: a piece of the journal comes back whole.
        reports = pl.concat([waiting, fresh], how="diagonal") if waiting is not None else fresh
        reports = reports.with_columns(keys(reports["transactionId"]).alias("_key"))
        known = self._known(reports["_key"])
        again = int(known.sum())
        late = False
        if again:
            # The preferred report of a call that has made its event: the other one was first.
            late = bool((known & (reports["_log"] == self._prefers_logs)).any())
            reports = reports.filter(~known)
        chosen = self._choose(reports)
        twice = reports.height - chosen.height
        if late or (twice and reports["_log"].n_unique() > 1):
            self.comes_both_ways(now)
        left, stay = self._part(chosen, now, wait=0 if ending or now >= self._both_until else self._wait)
        due = None if not stay.height else self._wait + (_oldest(stay, now))
        events = Events(left.select(SCHEMA.names()))
        return Admitted(events, left["_key"].drop_nulls(), stay.drop("_key"), again, twice, due)

    def remember(self, ids: pl.Series, piece: int, now: int) -> None:
        """These calls have made their event; ``piece`` is where the journal says so."""
        self._seen.add(ids, piece, now)

    def comes_both_ways(self, now: int) -> None:
        """Calls come in both ways, as far as anybody knows: what waits for the preferred report may wait."""
        self._both_until = now + _BOTH_WAYS_FOR

    def expire(self, now: int) -> list[int]:
        """Forget what is old.

        Returns:
            The pieces that the journal need not keep any more; the same again, until it has `released` them.
        """
        self._gone += self._seen.expire(now)
        return list(self._gone)

    def released(self) -> None:
        """The journal has let go of what `expire` gave."""
        self._gone.clear()

    def _known(self, ids: pl.Series) -> pl.Series:
        if not ids.null_count():
            return self._seen.contains(ids)
        inside = self._seen.contains(ids.fill_null(0))
        return inside & ids.is_not_null()

    def _choose(self, reports: pl.DataFrame) -> pl.DataFrame:
        """One report per call: the preferred one, else the first; what has no id is a call of its own."""
        named = reports["_key"]
        if named.n_unique() == len(named) and not named.null_count():
            return reports
        ordered = reports.sort("_log", descending=self._prefers_logs, maintain_order=True)
        nameless = pl.col("_key").is_null()
        return ordered.filter(nameless | pl.col("_key").is_first_distinct())

    def _part(self, chosen: pl.DataFrame, now: int, wait: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What leaves, and what waits for the preferred report."""
        if not wait:
            return chosen, chosen.clear()
        since = pl.col(SINCE).fill_null(now) if SINCE in chosen.columns else pl.lit(now)
        stays = (pl.col("_log") != self._prefers_logs) & pl.col("_key").is_not_null() & (since + wait > now)
        parts = chosen.with_columns(_stays=stays)
        return parts.filter(~pl.col("_stays")).drop("_stays"), parts.filter("_stays").drop("_stays")


def _ns(duration: timedelta) -> int:
    return int(duration.total_seconds() * NS_PER_S)


def _oldest(rows: pl.DataFrame, now: int) -> int:
    since = rows[SINCE].min() if SINCE in rows.columns else None
    return int(since) if isinstance(since, int) else now

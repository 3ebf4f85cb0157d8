"""Profiles of users and companies, from the calls that are seen (apidocs: users and companies API)."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from typing import Literal

import polars as pl
import polars_hash as plh

from otel_moesif.errors import Problem
from otel_moesif.exporters.moesif.metadata import Metadata, known
from otel_moesif.exporters.moesif.settings import ProfileSettings
from otel_moesif.json_shape import JsonShape

REMEMBERED = 1_000_000
"""Ids that are known to have a profile already; 90 bytes each, 120 when they were read from a file."""

TABLE = pl.Schema({"key": pl.UInt64, "sent": pl.Float64})
"""What is remembered: key of an id (`Profiles.keys`), and when its profile was made, in Unix seconds."""

_SLICE = 50_000  # rows that are turned from columns to a dict, or back, before others get the GIL

# By Moesif's names; of companies it wants none of these.
_OF_A_USER = {
    "company_id": known(pl.col("company_id")),
    "ip_address": known(pl.col("userIp")),
    "user_agent_string": pl.coalesce(known(pl.col("userAgentHeader")), known(pl.col("userAgent"))),
}
_OPTIONS = {"user": "users", "company": "companies"}


class Profiles:
    """Makes a profile of each user, or company, at most once in an interval.

    Moesif merges a profile into what it has, so that only what is known is sent and nothing is taken away.
    The interval begins when a profile is made: after a longer outage two of one id may leave in a row. Of
    more than `REMEMBERED` ids within an interval, those that were sent longest ago are sent again early.
    What was sent is remembered in memory; `ProfileFile` takes it over a restart.

    The interval is counted by the wall clock, since it goes on while the process does not. A clock that is
    set forward ends intervals early: an id may be sent once more. When it is set back, what was sent "later"
    than now counts as sent now, so that nothing is sent because of that, and every id is due again an
    interval after the step at the latest.

    Args:
        kind: Of whom; also the name of the id: ``user_id`` or ``company_id``.
        settings: What else is in a profile, and the interval.
        clock: Unix time in seconds.
        remembered: Most ids to remember.
        endpoint: Where profiles go; what one Moesif has, another (the sandbox) may lack.
    """

    def __init__(
        self,
        kind: Literal["user", "company"],
        settings: ProfileSettings,
        clock: Callable[[], float] = time.time,
        remembered: int = REMEMBERED,
        endpoint: str = "",
    ) -> None:
        self.kind = kind
        self.enabled = settings.enabled
        self.remembered = remembered
        self._id = f"{kind}_id"
        self._scope = (endpoint, kind, *sorted(settings.metadata.items()))
        self._metadata = Metadata(settings.metadata, f"{_OPTIONS[kind]}::metadata")
        self._distinct = known(pl.col(self._id)).unique().drop_nulls()
        values = {} if kind == "company" else _OF_A_USER
        columns = [self._id, "requestTimestamp", *self._metadata.columns]
        columns += [name for value in values.values() for name in value.meta.root_names()]
        self._needed = list(dict.fromkeys(columns))
        self._values = [value.alias(f"last {name}") for name, value in values.items()]
        places = [*(f"last {name}" for name in values), *self._metadata.places]
        self._last = [pl.col(place).drop_nulls().last() for place in places]
        members = {name: pl.col(f"last {name}") for name in values}
        self._shape = JsonShape({self._id: pl.col("of"), **members, "metadata": self._metadata.shape()})
        self._memory = _Memory(settings.interval.total_seconds(), clock, remembered)

    def problems(self) -> list[Problem]:
        """What is wrong with the options, all of it."""
        return self._metadata.problems()

    def seen(self, frame: pl.DataFrame, application_id: str = "") -> list[str]:
        """Profiles of those ids in a batch that were not sent lately; they count as sent from here on.

        May be called by several threads at once.

        Args:
            frame: Events, with the text columns ``user_id`` and ``company_id``.
            application_id: Whose they are; what one application has, another may lack.

        Returns:
            JSON objects. A value is the last one that is known, by the time of the calls.
        """
        if not self.enabled or not frame.height:
            return []
        ids = frame.select_seq(self._distinct).to_series()
        keys = self._keys(ids, application_id)
        fresh = self._memory.admit(keys)
        if not fresh:
            return []
        try:
            concerned = frame.get_column(self._id).is_in(ids.gather(fresh).implode())
            return self._texts(frame.select_seq(self._needed).filter(concerned))
        except BaseException:
            self._memory.forget(keys.gather(fresh).to_list())
            raise

    def forget(self, application_id: str, texts: Sequence[str]) -> None:
        """Take back profiles that did not arrive: the next call of each id sends it again.

        Args:
            application_id: As with `seen`.
            texts: What `seen` gave.
        """
        self._memory.forget(self.keys(application_id, texts).to_list())

    def keys(self, application_id: str, texts: Sequence[str]) -> pl.Series:
        """By what the ids of profiles are remembered, as in `TABLE`.

        Args:
            application_id: As with `seen`.
            texts: What `seen` gave.
        """
        ids = pl.Series(self._id, texts, pl.String).str.json_path_match(f"$.{self._id}")
        return self._keys(ids, application_id)

    @property
    def changes(self) -> int:
        """A number that grows whenever there is something else to remember."""
        return self._memory.changes

    def table(self) -> pl.DataFrame:
        """What is remembered, a `TABLE`: what was sent longest ago comes first."""
        return self._memory.table()

    def remember(self, table: pl.DataFrame) -> None:
        """Take up what was remembered before a restart; to be called before anything is seen.

        Args:
            table: A `TABLE`; what is older than an interval does not count any more.
        """
        self._memory.remember(table)

    def _keys(self, ids: pl.Series, application_id: str) -> pl.Series:
        """Ids as 64-bit numbers: that any two of a million are the same has a chance of 1 to 40 million.

        They stand in files, hence not polars' own hash, which differs from one version to the next. Where a
        profile goes, and what is in it, goes into them too: another one is sent at once.
        """
        scope = json.dumps([application_id, self._scope]).encode()
        seed = int.from_bytes(hashlib.sha256(scope).digest()[:8])
        key: pl.Expr = plh.NonCryptographicHashingNameSpace(pl.col("id")).xxhash64(seed=seed)
        return pl.DataFrame([ids.alias("id")]).select_seq(key.alias("key")).to_series()

    def _texts(self, rows: pl.DataFrame) -> list[str]:
        rows = rows.sort("requestTimestamp", maintain_order=True)
        rows = self._metadata.added_to(rows, pl.col(self._id).alias("of"), *self._values)
        last = rows.group_by("of", maintain_order=True).agg(self._last)
        return self._shape.texts(last).to_list()


class _Memory:
    """Which ids were sent within an interval, those that were sent longest ago first.

    A plain dict: to copy a million of an `OrderedDict` would take a second of the GIL.
    """

    def __init__(self, interval: float, clock: Callable[[], float], most: int) -> None:
        self._interval = interval
        self._clock = clock
        self._most = most
        self._sent: dict[int, float] = {}
        self._lock = threading.Lock()
        self.changes = 0

    def admit(self, keys: pl.Series) -> list[int]:
        """Remember distinct ids; gives the positions of those that were not known."""
        sent = self._sent
        with self._lock:
            now = self._clock()
            # Only after the clock was set back. A value that is replaced keeps its place in the order.
            future = [*takewhile(lambda key: sent[key] > now, reversed(sent))]
            sent.update(dict.fromkeys(future, now))
            oldest = now - self._interval
            self._drop([*takewhile(lambda key: sent[key] <= oldest, sent)])
            fresh = [(place, key) for place, key in enumerate(keys.to_list()) if key not in sent]
            sent.update((key, now) for _, key in fresh)
            self._drop([*islice(sent, max(0, len(sent) - self._most))])
            self.changes += bool(fresh or future)
        return [place for place, _ in fresh]

    def forget(self, keys: Sequence[int]) -> None:
        with self._lock:
            self._drop(keys)
            self.changes += 1

    def table(self) -> pl.DataFrame:
        with self._lock:
            keys, times = list(self._sent), list(self._sent.values())
        slices = [slice(first, first + _SLICE) for first in range(0, len(keys) or 1, _SLICE)]
        return pl.concat([pl.DataFrame([keys[part], times[part]], schema=TABLE) for part in slices])

    def remember(self, table: pl.DataFrame) -> None:
        table = table.filter(pl.col("sent") > self._clock() - self._interval)
        with self._lock:
            for part in table.sort("sent").tail(self._most).iter_slices(_SLICE):
                self._sent.update(zip(part["key"].to_list(), part["sent"].to_list(), strict=True))

    def _drop(self, keys: Sequence[int]) -> None:
        for key in keys:
            self._sent.pop(key, None)

"""Attributes of a batch: one long table, looked up key by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl


class Entries:
    """All values of one attribute key in a batch; gathered when first asked for, since most keys never are.

    Args:
        load: Gives (rows, values). Rows: the row of each value, ascending, UInt32. Values: String, Int64,
            Float64 or Boolean if all are of that type, else String.
    """

    def __init__(self, load: Callable[[], tuple[pl.Series, pl.Series]]) -> None:
        self._load = load

    @cached_property
    def columns(self) -> tuple[pl.Series, pl.Series]:
        """Rows and values."""
        return self._load()


@dataclass(frozen=True)
class Source:
    """Who sent a record: one distinct pair of resource and instrumentation scope.

    Attributes:
        resource: Resource attributes; values as Python scalars, lists and dicts.
        scope_name: Name of the instrumentation scope, "" when absent.
        scope_version: Its version.
    """

    resource: Mapping[str, Any] = field(default_factory=dict)
    scope_name: str = ""
    scope_version: str = ""

    @cached_property
    def identity(self) -> tuple[str, str, str]:
        """Tells one sender from another."""
        return self.scope_name, self.scope_version, repr(sorted(self.resource.items()))

    @property
    def name(self) -> str:
        """The sender without its version: scope and service."""
        return f"{self.scope_name} {self.resource.get('service.name', '')}"


@dataclass(frozen=True)
class Records:
    """What spans and log records have in common: a table, its attributes, its sources.

    Attributes:
        frame: One row per record. Column ``row`` is the record's place in the attribute table, ``request``
            the place of its export request in the batch, ``source`` an index into ``sources``.
        entries: Attribute values by key.
        sources: The distinct senders.
        rows: How many rows the attribute table speaks of (``frame`` may have been filtered since).
    """

    frame: pl.DataFrame
    entries: Mapping[str, Entries]
    sources: Sequence[Source]
    rows: int

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def index(self) -> pl.Series:
        """0, 1, 2 … over the rows of the attribute table."""
        return pl.int_range(self.rows, dtype=pl.UInt32, eager=True)

    def keys(self) -> list[str]:
        """The attribute keys that occur in the batch."""
        return list(self.entries)

    def attribute(self, key: str) -> pl.Series:
        """Values of one attribute, aligned with ``frame``; null where a record does not have it.

        Where a record has the key twice, the last one counts. An array of
        scalars is given as its values joined by comma, other arrays and maps as JSON text.
        """
        if key not in self.entries:
            return pl.Series(key, [None], dtype=pl.String).new_from_index(0, len(self))
        rows, values = self.entries[key].columns
        if not rows.equals(self.index):
            places = pl.Series([None], dtype=pl.UInt32).new_from_index(0, self.rows)
            order = pl.int_range(len(values), dtype=pl.UInt32, eager=True)
            values = values.gather(places.scatter(rows, order))
        if len(self) != self.rows:
            values = values.gather(self.frame["row"])
        return values.alias(key)

    def resource(self, key: str) -> pl.Series:
        """Values of one resource attribute as text, aligned with ``frame``."""
        values = [source.resource.get(key) for source in self.sources]
        texts = [None if value is None else str(value) for value in values]
        return pl.Series(key, texts, dtype=pl.String).gather(self.frame["source"])

    def filter(self, predicate: pl.Expr | pl.Series) -> Records:
        """The records for which ``predicate`` over ``frame`` holds."""
        return type(self)(self.frame.filter(predicate), self.entries, self.sources, self.rows)

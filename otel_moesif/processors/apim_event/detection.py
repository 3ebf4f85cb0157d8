"""Which dialect a sender speaks, decided once per sender, or again while it is not recognised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from otel_moesif.attributes import Records, Source
from otel_moesif.dialects.dialect import Dialect

# Senders whose dialect is remembered. A fleet has hundreds; one that puts something of each request into
# its resource (Kong can) only makes the decision be taken anew.
_REMEMBERED = 10_000


class Detection:
    """Groups the records of a batch by dialect.

    Args:
        dialects: Candidates, most specific first; the last one takes what nobody else does.
    """

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = dialects
        self._by_body = [dialect for dialect in dialects if dialect.body]
        # By sender; and the attribute keys on which that was decided.
        self._known: dict[tuple[object, ...], tuple[Dialect, frozenset[str]]] = {}

    def split(self, records: Records) -> Iterator[tuple[Dialect, Records]]:
        """The batch in parts, one per dialect that occurs."""
        for dialect in self._by_body if "body" in records.frame.columns else ():
            mine = records.frame["body"].str.contains(dialect.body).fill_null(value=False)
            if mine.any():
                yield dialect, records.filter(mine)
                records = records.filter(~mine)
        if not len(records):
            return
        spoken = [self._dialect(records, number, source) for number, source in enumerate(records.sources)]
        for dialect in dict.fromkeys(spoken):
            numbers = [number for number, other in enumerate(spoken) if other is dialect]
            whole = len(numbers) == len(spoken)
            yield dialect, records if whole else records.filter(pl.col("source").is_in(numbers))

    def _dialect(self, records: Records, number: int, source: Source) -> Dialect:
        known, before = self._known.get(source.identity, (None, frozenset[str]()))
        if known and known is not self._dialects[-1]:
            return known
        # Not recognised so far: a key that it had not sent yet may tell who it is.
        keys = before | _keys(records, number)
        if known and keys == before:
            return known
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        dialect = next((x for x in self._dialects if x.detect(source, keys)), self._dialects[-1])
        self._known[source.identity] = dialect, keys
        return dialect


def _keys(records: Records, number: int) -> frozenset[str]:
    """The attribute keys that one sender's records have."""
    if len(records.sources) == 1:
        return frozenset(records.entries)
    mine = records.frame.filter(pl.col("source") == number)["row"]
    return frozenset(
        key for key, entries in records.entries.items() if entries.columns[0].is_in(mine.implode()).any()
    )

"""Moesif's limits (apidocs ``_errors.md``): age and size of an event, size of a request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from otel_moesif.exporters.moesif.mapping import Mapping
from otel_moesif.exporters.moesif.settings import EVENT_BYTES
from otel_moesif.processors.properties import COLUMN
from otel_moesif.schema import SCHEMA

OLDEST = timedelta(days=30)
"""Moesif rejects what is older."""
LATE = timedelta(minutes=5)
"""What is older counts as late: alerts and billing may not see it."""

# What is left out of an event that is too long, one after the other: name for its metadata, column.
_DISPENSABLE = (
    (("response.body", "responseBody"),),
    (("request.body", "requestBody"),),
    (("request.headers", "requestHeaders"), ("response.headers", "responseHeaders")),
    (("customProperties", COLUMN),),
)


def too_old(frame: pl.DataFrame, now: datetime) -> list[int]:
    """The rows of events that Moesif would reject for their age."""
    limit = now - OLDEST
    return (
        [] if _all_since(frame, limit) else frame.select_seq(_before(limit).arg_true()).to_series().to_list()
    )


def late(frame: pl.DataFrame, now: datetime) -> int:
    """How many events Moesif takes but counts as late."""
    limit = now - LATE
    return 0 if _all_since(frame, limit) else int(frame.select_seq(_before(limit).sum()).item())


def fitted(texts: pl.Series, frame: pl.DataFrame, mapping: Mapping) -> tuple[pl.Series, list[int]]:
    """Shorten those events that are longer than Moesif takes.

    Of them the response's body is left out, then the request's, then captured headers, then custom
    properties: as little as is enough for each. What was left out stands in the event's metadata as
    ``otelMoesifTrimmed``.

    Args:
        texts: JSON as `Mapping.encode` makes it, one per event.
        frame: What it was made of.
        mapping: What made it.

    Returns:
        The texts, and the rows of those that are too long even so; their texts are the shortest there are.
    """
    rows = _too_long(texts, mapping)
    if not len(rows):
        return texts, []
    frame = frame[rows].with_columns(pl.lit("").alias("left out"), rows.alias("row"))
    for columns in _DISPENSABLE:
        frame = frame.with_columns(_without(columns))
        shorter = mapping.encode(frame.drop("left out", "row"), left_out=frame.select(_marks()).to_series())
        texts = texts.scatter(frame["row"], shorter)
        frame = frame[_too_long(shorter, mapping)]
        if not frame.height:
            return texts, []
    return texts, frame["row"].to_list()


def parts(texts: pl.Series, max_bytes: int) -> Iterator[memoryview]:
    """Split a batch so that each part makes a JSON array of at most so many bytes.

    An event that is longer by itself is a part by itself; no part is empty.

    Args:
        texts: One JSON text per event, each with a comma after it. In Arrow's classic layout of texts (the
            bytes of all of them, and where each begins) the bytes are what is wanted, so none are joined.
        max_bytes: What a part may have, with the brackets that are still to be put around it.

    Yields:
        The texts of some events, with commas between them.
    """
    if not len(texts):
        return
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, buffer = array.buffers()
    content = memoryview(buffer)
    ends = memoryview(offsets).cast("q")[array.offset : array.offset + len(texts) + 1]
    first = 0
    while first < len(texts):
        # two brackets, and no comma after the last one
        most = ends[first] + max_bytes - len("[]") + len(",")
        following = max(bisect_right(ends, most) - 1, first + 1)
        yield content[ends[first] : ends[following] - len(",")]
        first = following


def _all_since(frame: pl.DataFrame, limit: datetime) -> bool:
    """Whether no event can be older: a look at the earliest arrival costs a hundredth of one at each."""
    times = frame["requestTimestamp"]
    earliest = None if times.null_count() else times.cast(pl.Int64).min()
    return isinstance(earliest, int) and earliest >= limit.timestamp() * 1000


def _before(limit: datetime) -> pl.Expr:
    """Of an event that has no time, the time of sending is taken."""
    time = pl.coalesce("requestTimestamp", "responseTimestamp")
    return (time < pl.lit(limit, pl.Datetime("ms", "UTC"))).fill_null(value=False)


def _too_long(texts: pl.Series, mapping: Mapping) -> pl.Series:
    lengths, most = texts.str.len_bytes(), EVENT_BYTES + len(mapping.end)
    longest = lengths.max()
    is_there_any = isinstance(longest, int) and longest > most
    return (lengths > most).arg_true() if is_there_any else pl.Series([], dtype=pl.UInt32)


def _without(columns: tuple[tuple[str, str], ...]) -> list[pl.Expr]:
    marks = [
        pl.when(pl.col(column).is_not_null()).then(pl.lit(f"{name},")).otherwise(pl.lit(""))
        for name, column in columns
    ]
    nothing = [pl.lit(None, SCHEMA[column]).alias(column) for _, column in columns]
    return [pl.concat_str("left out", *marks).alias("left out"), *nothing]


def _marks() -> pl.Expr:
    """The names as a JSON array."""
    names = pl.col("left out").str.strip_suffix(",").str.replace_all(",", '","', literal=True)
    return pl.when(pl.col("left out") != "").then(pl.format('["{}"]', names))

"""A batch of spans."""

from __future__ import annotations

from enum import IntEnum

import polars as pl

from otel_moesif.attributes import Records

SCHEMA = pl.Schema(
    {
        "row": pl.UInt32,
        "request": pl.UInt32,
        "source": pl.UInt32,
        "trace_id": pl.Binary,
        "span_id": pl.Binary,
        "parent_span_id": pl.Binary,
        "trace_state": pl.String,
        "name": pl.String,
        "kind": pl.Int32,
        "start": pl.Int64,
        "end": pl.Int64,
        "status_code": pl.Int32,
        "status_message": pl.String,
    }
)


class SpanKind(IntEnum):
    """opentelemetry/proto/trace/v1/trace.proto, ``Span.SpanKind``."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Spans(Records):
    """One row per span; columns are `SCHEMA`, ``start`` and ``end`` in nanoseconds since the epoch.

    ``parent_span_id`` is empty for a span without a parent.
    """

"""A batch of log records."""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Records

SCHEMA = pl.Schema(
    {
        "row": pl.UInt32,
        "request": pl.UInt32,
        "source": pl.UInt32,
        "trace_id": pl.Binary,
        "span_id": pl.Binary,
        "time": pl.Int64,
        "observed_time": pl.Int64,
        "severity_number": pl.Int32,
        "severity_text": pl.String,
        "event_name": pl.String,
        "body": pl.String,
    }
)


class Logs(Records):
    """One row per log record; columns are `SCHEMA`, times in nanoseconds since the epoch.

    ``body`` is the text of a string body, JSON text for a map or array, null otherwise.
    """

"""One call from several spans: the SERVER span joined with its CLIENT children, also across batches."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from otel_moesif.attributes import Records
from otel_moesif.dialects.dialect import Fields, LogTable, Lookup, SpanTable
from otel_moesif.schema import BY_NAME

# Types of what a dialect gives beside the event's own fields.
_WORKING: dict[str, type[pl.DataType]] = {
    "fault": pl.Boolean,
    "faultType": pl.String,
    "faultReason": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "backendLatency": pl.Float64,
    "requestMediationLatency": pl.Float64,
    "responseMediationLatency": pl.Float64,
}
BACKEND = pl.Schema(
    {
        "trace_id": pl.Binary,
        "parent_span_id": pl.Binary,
        "backend_start": pl.Int64,
        "backend_end": pl.Int64,
        "destination": pl.String,
        "status": pl.Int32,
        "failed": pl.Boolean,
        "sender": pl.String,
    }
)
# A backend span that waits for its call: since when (ns), and the journal's piece that holds it already.
HELD = pl.Schema([*BACKEND.items(), ("since", pl.Int64), ("piece", pl.Int64)])
_LINK = ["trace_id", "parent_span_id"]


def typed(fields: Fields) -> list[pl.Expr]:
    """A dialect's table as columns of the right names and types; what cannot be cast is null."""
    return [
        expression.cast(_WORKING.get(name) or BY_NAME[name].dtype, strict=False).alias(name)
        for name, expression in fields.items()
    ]


class SpanPlan(NamedTuple):
    """A dialect's span table as expressions."""

    is_call: pl.Expr
    call: list[pl.Expr]
    is_backend: pl.Expr
    backend: list[pl.Expr]

    @classmethod
    def of(cls, table: SpanTable, lookup: Lookup) -> SpanPlan:
        """Ask a table for its expressions."""
        backend = table.backend(lookup)
        answer = [
            backend[x].cast(BACKEND[x], strict=False).alias(x) for x in ("destination", "status", "failed")
        ]
        return cls(table.is_call(lookup), typed(table.call(lookup)), table.is_backend(lookup), answer)


class LogPlan(NamedTuple):
    """A dialect's log table as expressions."""

    is_call: pl.Expr
    call: list[pl.Expr]

    @classmethod
    def of(cls, table: LogTable, lookup: Lookup) -> LogPlan:
        """Ask a table for its expressions."""
        return cls(table.is_call(lookup), typed(table.call(lookup)))


def read_spans(
    plan: SpanPlan, spans: Records, extra: list[pl.Expr], lookup: Lookup
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Calls and backend spans of one dialect.

    Args:
        plan: How the gateway spells them.
        spans: The dialect's spans.
        extra: Further columns of a call.
        lookup: Over ``spans``, with the plan's columns.

    Returns:
        Calls (``trace_id``, ``span_id`` … and the dialect's fields), and `BACKEND`.
    """
    senders = pl.Series("sender", [source.name for source in spans.sources], dtype=pl.String)
    ids = ["trace_id", "span_id", "parent_span_id", "start", "end"]
    rows = lookup.frame.with_columns(senders.gather(spans.frame["source"])).lazy()
    calls = rows.filter(plan.is_call).select(*ids, "sender", *plan.call, *extra)
    backends = rows.filter(plan.is_backend).select(
        "trace_id",
        "parent_span_id",
        pl.col("start").alias("backend_start"),
        pl.col("end").alias("backend_end"),
        *plan.backend,
        "sender",
    )
    found, attempts = pl.collect_all([calls, backends])
    return found, attempts


def attach(calls: pl.DataFrame, backends: pl.DataFrame) -> pl.DataFrame:
    """Give each call its last attempt at the backend (by end time: gateways.md, pitfall 4)."""
    last = backends.sort("backend_end").unique(_LINK, keep="last", maintain_order=True)
    return calls.join(
        last.select(*BACKEND.names()[:-1]),
        left_on=["trace_id", "span_id"],
        right_on=_LINK,
        how="left",
        maintain_order="left",
    )


def waiting(backends: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """The backend spans whose call is not among ``calls``."""
    return backends.join(
        calls.select("trace_id", parent_span_id="span_id"), on=_LINK, how="anti", maintain_order="left"
    )

"""One call from several spans: its own span joined with those below it, also across batches."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from otel_moesif.attributes import Records
from otel_moesif.dialects.dialect import Fields, LogTable, Lookup, SpanTable
from otel_moesif.processors.apim_event.weight import of_logs, of_spans
from otel_moesif.schema import BY_NAME

# Types of what a dialect gives beside the event's own fields.
_WORKING: dict[str, type[pl.DataType]] = {
    "fault": pl.Boolean,
    "status": pl.Int32,
    "failed": pl.Boolean,
    "callKey": pl.String,
    "faultType": pl.String,
    "faultReason": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "backendLatency": pl.Float64,
    "requestMediationLatency": pl.Float64,
    "responseMediationLatency": pl.Float64,
}
# What is known of every span below a call; a dialect's own fields come beside it.
CHILD = pl.Schema(
    {
        "trace_id": pl.Binary,
        "parent_span_id": pl.Binary,
        "attempt": pl.Boolean,
        "parallel": pl.Boolean,
        "child_start": pl.Int64,
        "child_end": pl.Int64,
        "status": pl.Int32,
        "failed": pl.Boolean,
        "sender": pl.String,
    }
)
# The converter's own columns of what waits, see `otel_moesif.component.Held`.
_OWN = ("since", "piece")
_LINK = ["trace_id", "parent_span_id"]
# How many spans may stand between a call and a span that says something of it. Gateways have up to five
# (Traefik: router, service, middlewares, proxy); a ring of spans ends here, too.
_DEPTH = 32
_NO_ATTEMPT = (
    ("backend_start", pl.Int64),
    ("backend_end", pl.Int64),
    ("status", pl.Int32),
    ("failed", pl.Boolean),
)
OTHERWISE = "otherwise:"


def typed(fields: Fields, prefix: str = "") -> list[pl.Expr]:
    """A dialect's table as columns of the right names and types; what cannot be cast is null."""
    return [
        expression.cast(_WORKING.get(name) or BY_NAME[name].dtype, strict=False).alias(f"{prefix}{name}")
        for name, expression in fields.items()
    ]


def _with(own: list[pl.Expr], further: list[pl.Expr]) -> list[pl.Expr]:
    """A dialect's columns, and those of the further ones that it has not itself."""
    names = {expression.meta.output_name() for expression in own}
    return [*own, *(expression for expression in further if expression.meta.output_name() not in names)]


class SpanPlan(NamedTuple):
    """A dialect's span table as expressions."""

    is_call: pl.Expr
    call: list[pl.Expr]
    is_backend: pl.Expr
    backend: list[pl.Expr]
    is_detail: pl.Expr
    detail: list[pl.Expr]

    @classmethod
    def of(cls, table: SpanTable, lookup: Lookup) -> SpanPlan:
        """Ask a table for its expressions."""
        own = [*typed(table.call(lookup)), *typed(table.otherwise(lookup), OTHERWISE)]
        backend = [
            pl.lit(value=True).alias("attempt"),
            pl.lit(table.parallel).alias("parallel"),
            *typed(table.backend(lookup)),
        ]
        detail = [pl.lit(value=False).alias("attempt"), *typed(table.detail(lookup))]
        return cls(
            table.is_call(lookup), own, table.is_backend(lookup), backend, table.is_detail(lookup), detail
        )


class LogPlan(NamedTuple):
    """A dialect's log table as expressions."""

    is_call: pl.Expr
    call: list[pl.Expr]

    @classmethod
    def of(cls, table: LogTable, lookup: Lookup) -> LogPlan:
        """Ask a table for its expressions."""
        return cls(table.is_call(lookup), _with(typed(table.call(lookup)), of_logs(lookup)))


def read_spans(
    plan: SpanPlan, spans: Records, extra: list[pl.Expr], lookup: Lookup
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Calls of one dialect, and the spans below them that say something of them.

    Args:
        plan: How the gateway spells them.
        spans: The dialect's spans.
        extra: Further columns of a call.
        lookup: Over ``spans``, with the plan's columns.

    Returns:
        Calls (``trace_id``, ``span_id`` … and the dialect's fields), and children (`CHILD`, and what the
        dialect takes from them).
    """
    senders = pl.Series("sender", [source.name for source in spans.sources], dtype=pl.String)
    weights = of_spans(lookup, spans.frame)
    rows = lookup.frame.with_columns(senders.gather(spans.frame["source"])).lazy()
    ids = ["trace_id", "span_id", "parent_span_id", "start", "end", "sender"]
    calls = rows.filter(plan.is_call).select(*ids, *_with(plan.call, weights), *extra)
    link = [*_LINK, pl.col("start").alias("child_start"), pl.col("end").alias("child_end"), "sender"]
    attempts = rows.filter(plan.is_backend & ~plan.is_call).select(*link, *plan.backend)
    details = rows.filter(plan.is_detail & ~plan.is_call & ~plan.is_backend).select(*link, *plan.detail)
    found, *children = pl.collect_all([calls, attempts, details])
    return found, pl.concat([CHILD.to_frame(), *children], how="diagonal_relaxed")


def climb(children: pl.DataFrame, calls: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Let each child's ``parent_span_id`` name its call, or the highest span above it that is known by now.

    Args:
        children: As `read_spans` gives them, of this and of earlier batches.
        calls: The calls that are known.
        spans: All spans of this batch: what stands between them.
    """
    if not children.height:
        return children
    tops = calls.select("trace_id", parent_span_id="span_id")
    arrived = children.join(tops, on=_LINK, how="semi", maintain_order="left")
    climbing = children.join(tops, on=_LINK, how="anti", maintain_order="left")
    if not climbing.height or not spans.height:
        return children
    steps = spans.select("trace_id", "span_id", above="parent_span_id").filter(pl.col("above") != b"")
    steps = steps.join(climbing.select("trace_id").unique(), on="trace_id", how="semi").unique(
        ["trace_id", "span_id"], keep="first", maintain_order=True
    )
    there = [arrived]
    for _ in range(_DEPTH):
        climbed = climbing.join(
            steps, left_on=_LINK, right_on=["trace_id", "span_id"], how="left", maintain_order="left"
        )
        there.append(climbed.filter(pl.col("above").is_null()).drop("above"))
        moved = climbed.filter(pl.col("above").is_not_null())
        climbing = moved.with_columns(parent_span_id="above").drop("above")
        if not climbing.height:
            break
        there.append(climbing.join(tops, on=_LINK, how="semi", maintain_order="left"))
        climbing = climbing.join(tops, on=_LINK, how="anti", maintain_order="left")
    return pl.concat([*there, climbing])


def attach(calls: pl.DataFrame, children: pl.DataFrame) -> pl.DataFrame:
    """Give each call its last attempt at the backend, and what the other spans below it say.

    The last attempt is the one that ends last (gateways.md, pitfall 4); of backends that are called side by
    side, the longest, with the worst status of them all and failed if one of them has. A field is the call's
    own, else the attempt's, else that of the first other span that has it, else what the dialect says for
    that case.

    Args:
        calls: With ``trace_id`` and ``span_id``.
        children: `CHILD`, and any fields of the event; ``parent_span_id`` names the call.

    Returns:
        The calls, in their order, with ``backend_start``, ``backend_end``, ``status`` and ``failed`` of the
        attempt.
    """
    if not children.height:
        return _merged(calls.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in _NO_ATTEMPT), [])
    length = pl.col("child_end") - pl.col("child_start")
    rank = pl.when("parallel").then(length).otherwise(pl.col("child_end"))
    last = (
        _side_by_side(children.filter("attempt"))
        .sort(rank.fill_null(0), maintain_order=True)
        .unique(_LINK, keep="last", maintain_order=True)
        .rename({"child_start": "backend_start", "child_end": "backend_end"})
        .drop("attempt", "parallel", "sender", *_OWN, strict=False)
    )
    said = [name for name in children.columns if name not in CHILD and name not in _OWN]
    others = children.filter(~pl.col("attempt"))
    with_attempt = _join(calls, last, "@attempt")
    if not others.height or not said:
        return _merged(with_attempt, said)
    first = others.sort("child_start", maintain_order=True).group_by(_LINK, maintain_order=True)
    details = first.agg(pl.col(said).drop_nulls().first())
    return _merged(_join(with_attempt, details, "@detail"), said)


def _side_by_side(attempts: pl.DataFrame) -> pl.DataFrame:
    """Of backends that are called side by side, any one that went wrong makes the answer what it is."""
    if not attempts["parallel"].any():
        return attempts
    worst = [pl.col("status").max(), pl.col("failed").any()]
    return attempts.with_columns(
        pl.when("parallel").then(of_all.over(_LINK)).otherwise(one)
        for of_all, one in zip(worst, ("status", "failed"), strict=True)
    )


def _join(calls: pl.DataFrame, below: pl.DataFrame, suffix: str) -> pl.DataFrame:
    own = {*CHILD, "backend_start", "backend_end"}
    renamed = below.rename({name: f"{name}{suffix}" for name in below.columns if name not in own})
    return calls.join(
        renamed, left_on=["trace_id", "span_id"], right_on=_LINK, how="left", maintain_order="left"
    )


def _merged(calls: pl.DataFrame, said: list[str]) -> pl.DataFrame:
    """One column per field, from all that say it."""
    otherwise = [name for name in calls.columns if name.startswith(OTHERWISE)]
    fields = dict.fromkeys([*said, *(name.removeprefix(OTHERWISE) for name in otherwise)])
    merged = []
    for name in fields:
        sources = [
            x for x in (name, f"{name}@attempt", f"{name}@detail", f"{OTHERWISE}{name}") if x in calls.columns
        ]
        if sources:
            merged.append(pl.coalesce(sources).alias(name))
    drop = [name for name in calls.columns if "@" in name or name.startswith(OTHERWISE)]
    if not drop:
        return calls
    return calls.with_columns(merged).drop(drop)


def without_call(children: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """The spans whose call is not among ``calls``."""
    if not children.height:
        return children
    return children.join(
        calls.select("trace_id", parent_span_id="span_id"), on=_LINK, how="anti", maintain_order="left"
    )

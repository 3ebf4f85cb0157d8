"""The processor: detect the dialect, read its table, join, classify, identify."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cache, partial

import polars as pl
import polars_hash as plh
from pydantic import Field, field_validator

from otel_moesif.component import Context, Processed, ProcessorFactory
from otel_moesif.dialects.dialect import Lookup
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events, json_object
from otel_moesif.logs import Logs
from otel_moesif.processors.apim_event.assembly import (
    BACKEND,
    HELD,
    LogPlan,
    SpanPlan,
    attach,
    read_spans,
    waiting,
)
from otel_moesif.processors.apim_event.detection import Detection
from otel_moesif.processors.apim_event.outcome import is_fault, latencies, outcome
from otel_moesif.processors.apim_event.plans import Plans
from otel_moesif.schema import SCHEMA, TIMESTAMP
from otel_moesif.settings import Duration, Settings
from otel_moesif.spans import Spans

# transaction_id = UUIDv5 of "trace id:span id" in this namespace; its 16 bytes are plain text, which keeps
# the hash in columns.
NAMESPACE = "6f74656c-2d6d-6f65-7369-662f63616c6c"  # b"otel-moesif/call"
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_REMEMBERED_SENDERS = 10_000


class AssemblySettings(Settings):
    """How spans of one call find each other."""

    timeout: Duration = Field(
        timedelta(seconds=30), description="How long a backend span waits for its call's SERVER span"
    )
    max_rows: int = Field(100_000, ge=1, description="How many backend spans may wait at once")


class ApimEventSettings(Settings):
    """Options of ``apim_event``."""

    gateway: str | None = Field(None, description="Dialect of all senders; by default detected per sender")
    properties: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="Further properties of the event: name, and the attribute keys to take it from, in order",
    )

    @field_validator("properties")
    @classmethod
    def _new_names(cls, properties: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        taken = sorted(set(properties) & set(SCHEMA))
        if taken:
            raise ValueError(
                f"{', '.join(taken)}: the event has a field of this name already; choose another"
            )
        return properties

    assembly: AssemblySettings = Field(
        AssemblySettings(), description="How spans of one call find each other"
    )


class ApimEvent:
    """Turns spans or log records into events. Keeps no rows of its own: those that wait are handed back.

    Args:
        settings: The options.
        context: Identity, meter, and the dialects to choose from.

    Raises:
        ConfigError: ``gateway`` names no dialect.
    """

    def __init__(self, settings: ApimEventSettings, context: Context) -> None:
        self._settings = settings
        chosen = [dialect for dialect in context.dialects if settings.gateway in {None, dialect.name}]
        if not chosen:
            known = ", ".join(dialect.name for dialect in context.dialects)
            raise ConfigError([Problem("gateway", f'no dialect "{settings.gateway}" (installed: {known})')])
        self._detection = Detection(chosen)
        self._plans = Plans(settings.properties)
        self._senders: set[str] = set()
        self._dropped = context.meter.create_counter(
            "otelcol_processor_dropped_items", description="Rows that left without becoming part of an event"
        )
        self._attributes = {"processor": str(context.id)}

    def process(self, batch: Spans | Logs) -> Events:
        """As `process_held`, with nothing held."""
        events: Events = self.process_held(batch, None).batch
        return events

    def process_held(self, batch: Spans | Logs, held: pl.DataFrame | None) -> Processed:
        """Make events of all calls in the batch.

        Args:
            batch: Spans or log records.
            held: Backend spans of earlier batches that still wait for their call.

        Returns:
            The events, and the backend spans that wait from now on.
        """
        if isinstance(batch, Logs):
            return Processed(self._of_logs(batch), held)
        return self._of_spans(batch, HELD.to_frame() if held is None else held)

    def _of_spans(self, spans: Spans, held: pl.DataFrame) -> Processed:
        calls, backends = [], []
        for dialect, part in self._detection.split(spans):
            if dialect.spans is None:
                continue
            lookup = Lookup(part)
            plan, extra = self._plans.get(dialect, lookup, partial(SpanPlan.of, dialect.spans))
            found, attempts = read_spans(plan, part, extra, lookup)
            self._remember(attempts)
            proves = (
                pl.lit(value=True) if dialect.spans.absence_proves else pl.col("sender").is_in(self._senders)
            )
            calls.append(self._with_properties(found.with_columns(proves.alias("reports_backends"))))
            backends.append(attempts)
        now = time.time_ns()
        fresh = pl.concat(backends) if backends else BACKEND.to_frame()
        fresh = fresh.with_columns(pl.lit(now).alias("since"), pl.lit(None, pl.Int64).alias("piece"))
        everything = pl.concat([held, fresh.cast(HELD)])
        if not calls:
            return Processed(Events(SCHEMA.to_frame()), self._keep(everything, now))
        found = pl.concat(calls, how="diagonal")
        events = _events(attach(found, everything))
        return Processed(events, self._keep(waiting(everything, found), now))

    def _of_logs(self, logs: Logs) -> Events:
        parts = []
        for dialect, part in self._detection.split(logs):
            if dialect.logs is None:
                continue
            lookup = Lookup(part)
            plan, extra = self._plans.get(dialect, lookup, partial(LogPlan.of, dialect.logs))
            calls = lookup.frame.filter(plan.is_call).select("trace_id", "span_id", *plan.call, *extra)
            parts.append(self._with_properties(calls))
        rows = sum(part.height for part in parts)
        self._count(len(logs) - rows, "not an access-log record")
        return _events(pl.concat(parts, how="diagonal")) if rows else Events(SCHEMA.to_frame())

    def _with_properties(self, calls: pl.DataFrame) -> pl.DataFrame:
        """Put the configured properties together to one JSON object."""
        columns = [name for name in calls.columns if name.startswith("property:")]
        if not columns:
            return calls
        members = [pl.col(name).alias(name.removeprefix("property:")) for name in columns]
        return calls.drop(columns).with_columns(json_object(calls, members).alias("customProperties"))

    def _remember(self, attempts: pl.DataFrame) -> None:
        """Keep in mind who reports backend calls, so that a call without one means something."""
        self._senders.update(attempts["sender"].unique())
        if len(self._senders) > _REMEMBERED_SENDERS:
            self._senders.clear()

    def _keep(self, held: pl.DataFrame, now: int) -> pl.DataFrame:
        """Let go of what waited too long or is too much, oldest first, and count it."""
        oldest = now - int(self._settings.assembly.timeout.total_seconds() * _NS_PER_S)
        kept = held.filter(pl.col("since") > oldest)
        self._count(held.height - kept.height, "backend span without a call")
        bounded = kept.tail(self._settings.assembly.max_rows)
        self._count(kept.height - bounded.height, "too many backend spans waiting")
        return bounded

    def _count(self, rows: int, reason: str) -> None:
        if rows:
            self._dropped.add(rows, {**self._attributes, "reason": reason})


def _events(calls: pl.DataFrame) -> Events:
    """Classify the calls, name them, and keep the event's columns."""
    missing = {
        "fault": pl.Boolean,
        "faultType": pl.String,
        "faultReason": pl.String,
        "failed": pl.Boolean,
        "status": pl.Int32,
        "backend_start": pl.Int64,
        "backend_end": pl.Int64,
        "targetResponseCode": pl.Int32,
        "parent_span_id": pl.Binary,
        "reports_backends": pl.Boolean,
        "backendLatency": pl.Float64,
        "requestMediationLatency": pl.Float64,
        "responseMediationLatency": pl.Float64,
        "proxyResponseCode": pl.Int32,
    }
    calls = calls.with_columns(
        [pl.lit(None, dtype).alias(name) for name, dtype in missing.items() if name not in calls.columns]
    ).with_columns(pl.col("reports_backends").fill_null(value=False))
    calls = (
        calls.lazy()
        .with_columns(is_fault().alias("is_fault"), *_identity())
        .with_columns(*outcome(), *latencies(), *_times())
        .with_columns(_transaction())
        .collect()
    )
    return Events(calls.select(name for name in SCHEMA if name in calls.columns))


@cache
def _identity() -> list[pl.Expr]:
    return [
        _hex("trace_id").alias("traceId"),
        _hex("span_id").alias("spanId"),
        _hex("parent_span_id").alias("parentSpanId"),
    ]


def _hex(column: str) -> pl.Expr:
    text = pl.col(column).bin.encode("hex")
    return pl.when(text != "").then(text)


@cache
def _times() -> list[pl.Expr]:
    return [
        pl.from_epoch(pl.col(column) // _NS_PER_MS, time_unit="ms").cast(TIMESTAMP).alias(name)
        for column, name in (("start", "requestTimestamp"), ("end", "responseTimestamp"))
    ]


@cache
def _transaction() -> pl.Expr:
    """UUIDv5 of trace id and span id; of what tells one call from another where a log has neither."""
    span = pl.concat_str("traceId", pl.lit(":"), "spanId")
    call = pl.concat_str(
        pl.lit("log"),
        pl.col("start").cast(pl.String),
        "correlationId",
        "requestUri",
        "userIp",
        "apiMethod",
        separator=":",
        ignore_nulls=True,
    )
    name = pl.coalesce(span, call)
    return plh.UUIDHashNameSpace(name).uuid5(NAMESPACE).alias("transactionId")


FACTORY = ProcessorFactory(
    "apim_event",
    ApimEventSettings,
    ApimEvent,
    signature={Spans: Events, Logs: Events},
    description="One analytics event per API call, from spans or access logs of any gateway",
)

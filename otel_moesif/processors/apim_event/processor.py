"""The processor: detect the dialect, read its table, join, classify, identify."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import polars as pl
import polars_hash as plh
from pydantic import Field, field_validator

from otel_moesif.component import Context, Held, Processed, ProcessorFactory
from otel_moesif.dialects.dialect import Lookup
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events
from otel_moesif.json_shape import json_object
from otel_moesif.logs import Logs
from otel_moesif.processors.apim_event.agents import with_families
from otel_moesif.processors.apim_event.assembly import LogPlan, SpanPlan, read_spans
from otel_moesif.processors.apim_event.claims import JwtSettings, from_tokens, without_tokens
from otel_moesif.processors.apim_event.detection import Detection
from otel_moesif.processors.apim_event.fields import FieldSettings, check_fields, with_computed, with_fields
from otel_moesif.processors.apim_event.outcome import (
    error_code,
    error_type,
    is_fault,
    latencies,
    no_error,
    outcome,
    plausible,
    sub_type,
)
from otel_moesif.processors.apim_event.plans import TOKEN, Plans
from otel_moesif.processors.apim_event.waiting import AWAITS_DETAIL, WAIT, AssemblySettings, Waiting
from otel_moesif.processors.properties import COLUMN, as_json, with_members
from otel_moesif.schema import SCHEMA, TIMESTAMP
from otel_moesif.settings import Settings
from otel_moesif.spans import Spans

# transaction_id = UUIDv5 of "trace id:span id" in this namespace; its 16 bytes are plain text, which keeps
# the hash in columns.
NAMESPACE = "6f74656c-2d6d-6f65-7369-662f63616c6c"  # b"otel-moesif/call"
_NS_PER_MS = 1_000_000
_LOG_COLUMNS = ("request", "trace_id", "span_id")
_REMEMBERED_SENDERS = 10_000


class ApimEventSettings(Settings):
    """Options of ``apim_event``."""

    gateway: str | None = Field(None, description="Dialect of all senders; by default detected per sender")
    properties: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="Further properties of the event: name, and the attribute keys to take it from in order, "
        "of span or log record, then of the resource",
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

    fields: dict[str, FieldSettings] = Field(
        default_factory=dict,
        description="Fields of the event: attribute keys to take each from, a constant, or an SQL expression",
    )

    @field_validator("fields")
    @classmethod
    def _computable(cls, fields: dict[str, FieldSettings]) -> dict[str, FieldSettings]:
        check_fields(fields)
        return fields

    jwt: JwtSettings | None = Field(None, description="Fields of the event from the claims of a captured JWT")
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
        tokens = settings.jwt.attributes if settings.jwt else ()
        self._plans = Plans(settings.properties, settings.fields, tokens)
        self._waiting = Waiting(settings.assembly)
        self._senders: set[str] = set()
        self._dropped = context.meter.create_counter(
            "otelcol_processor_dropped_items", description="Rows that left without becoming part of an event"
        )
        self._attributes = {"processor": str(context.id)}

    def process(self, batch: Spans | Logs) -> Events:
        """As `process_held`, with nothing held before or after."""
        events: Events = self.process_held(batch, Held({}, 0, ending=True)).batch
        return events

    def process_held(self, batch: Spans | Logs, held: Held) -> Processed:
        """Make events of all calls in the batch.

        Args:
            batch: Spans or log records.
            held: What waits since earlier batches: backend spans for their call, calls for a backend span.

        Returns:
            The events, and what waits from now on.
        """
        if isinstance(batch, Logs):
            return Processed(self._of_logs(batch), {})
        return self._of_spans(batch, held)

    def _of_spans(self, spans: Spans, held: Held) -> Processed:
        calls, children = [], []
        for dialect, part in self._detection.split(spans):
            if dialect.spans is None:
                continue
            lookup = Lookup(part)
            plan, extra = self._plans.get(dialect, lookup, partial(SpanPlan.of, dialect.spans))
            found, below = read_spans(plan, part, extra, lookup)
            self._remember(below.filter("attempt"))
            reports = pl.col("sender").is_in(self._senders)
            proves = pl.lit(value=True) if dialect.spans.absence_proves else reports
            awaits = pl.lit(dialect.spans.awaits_detail)
            wait = pl.when(reports | awaits).then(self._waiting.wait_of(dialect.spans)).otherwise(0)
            found = found.with_columns(
                proves.alias("reports_backends"), wait.alias(WAIT), awaits.alias(AWAITS_DETAIL)
            )
            calls.append(self._with_properties(found))
            children.append(below)
        parted = self._waiting.part(calls, children, spans.frame, held)
        events = self._events(parted.complete) if parted.complete.height else Events(SCHEMA.to_frame())
        for reason, rows in parted.dropped.items():
            self._count(rows, reason)
        return Processed(events, parted.held, parted.due)

    def _of_logs(self, logs: Logs) -> Events:
        # opentelemetry/proto/logs/v1/logs.proto: time_unix_nano is 0 where the source has none
        time = pl.when(pl.col("time") > 0).then(pl.col("time")).otherwise(pl.col("observed_time"))
        logs = replace(logs, frame=logs.frame.with_columns(time.alias("time")))
        parts = []
        for dialect, part in self._detection.split(logs):
            if dialect.logs is None:
                continue
            lookup = Lookup(part)
            plan, extra = self._plans.get(dialect, lookup, partial(LogPlan.of, dialect.logs))
            calls = lookup.frame.filter(plan.is_call).select(*_LOG_COLUMNS, *plan.call, *extra)
            parts.append(self._with_properties(calls))
        rows = sum(part.height for part in parts)
        self._count(len(logs) - rows, "not an access-log record")
        return self._events(pl.concat(parts, how="diagonal")) if rows else Events(SCHEMA.to_frame())

    def _events(self, calls: pl.DataFrame) -> Events:
        """Classified events of calls, with the fields that the user wants otherwise."""
        events = _events(with_families(with_fields(calls, self._settings.fields)))
        return Events(with_computed(events.frame, self._settings.fields))

    def _with_properties(self, calls: pl.DataFrame) -> pl.DataFrame:
        """Put the configured properties together to one JSON object, and read tokens: they go no further."""
        if TOKEN in calls.columns and self._settings.jwt:
            claims = from_tokens(calls[TOKEN], self._settings.jwt)
            calls = calls.drop(TOKEN).with_columns(claims)
            if "requestHeaders" in calls.columns:
                headers = pl.col("requestHeaders")
                calls = calls.with_columns(without_tokens(headers, self._settings.jwt))
        columns = [name for name in calls.columns if name.startswith("property:")]
        if not columns:
            return calls
        if COLUMN not in calls.columns:
            members = [pl.col(name).alias(name.removeprefix("property:")) for name in columns]
            return calls.drop(columns).with_columns(json_object(calls, members).alias(COLUMN))
        texts = calls[COLUMN]
        for name in columns:  # one of the same name, of the gateway's own, gives way
            value = as_json(calls[name])
            texts = with_members(texts, {name.removeprefix("property:"): value}, value.is_not_null())
        return calls.drop(columns).with_columns(texts.alias(COLUMN))

    def _remember(self, attempts: pl.DataFrame) -> None:
        """Keep in mind who reports backend calls, so that a call without one means something."""
        self._senders.update(attempts["sender"].unique())
        if len(self._senders) > _REMEMBERED_SENDERS:
            self._senders.clear()

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
        "errorCode": pl.Int32,
        "errorType": pl.String,
        "errorMessage": pl.String,
        "callKey": pl.String,
        "apiType": pl.String,
    }
    calls = calls.with_columns(
        [pl.lit(None, dtype).alias(name) for name, dtype in missing.items() if name not in calls.columns]
    ).with_columns(pl.col("reports_backends").fill_null(value=False))
    calls = (
        calls.lazy()
        .with_columns(plausible())
        .with_columns(is_fault().alias("is_fault"), *_identity())
        .with_columns(*outcome(), *latencies(), *_times())
        .with_columns(_transaction(numbered="request" in calls.columns))
        .collect()
    )
    if calls["is_fault"].any():
        calls = (
            calls.lazy()
            .with_columns(error_type())
            .with_columns(sub_type())
            .with_columns(error_code())
            .collect()
        )
    else:
        calls = calls.with_columns(no_error())
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
def _transaction(*, numbered: bool) -> pl.Expr:
    """UUIDv5 of trace id and span id, or of the key by which the gateway's spans and logs name a call.

    Where a log has neither, of what tells one call from another. Records that are alike even then are
    different calls if they come in one request; they are numbered within it, the first one not, so that they
    have the same ids if the request is sent again. In different requests nothing tells a like call from
    one that is sent again.

    Args:
        numbered: Whether there is a column ``request``.
    """
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
    if numbered:
        nameless = pl.coalesce("callKey", span).is_null()
        number = pl.int_range(pl.len()).over("request", pl.when(nameless).then(call))
        call = pl.when(number > 0).then(pl.concat_str(call, pl.lit(":#"), number)).otherwise(call)
    name = pl.coalesce("callKey", span, call)
    return plh.UUIDHashNameSpace(name).uuid5(NAMESPACE).alias("transactionId")


FACTORY = ProcessorFactory(
    "apim_event",
    ApimEventSettings,
    ApimEvent,
    signature={Spans: Events, Logs: Events},
    description="One analytics event per API call, from spans or access logs of any gateway",
)

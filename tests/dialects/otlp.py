"""Spans and log records for the dialects' tests, and what ``apim_event`` makes of them."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.metrics import get_meter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context
from otel_moesif.logs import Logs
from otel_moesif.otlp.decode import decode_logs, decode_spans
from otel_moesif.processors.apim_event.detection import Detection
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings
from otel_moesif.spans import Spans

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
MS = 1_000_000
START = 1_750_000_000_000 * MS  # 2025-06-15T15:06:40Z
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = (
    Span.SPAN_KIND_INTERNAL,
    Span.SPAN_KIND_SERVER,
    Span.SPAN_KIND_CLIENT,
    Span.SPAN_KIND_PRODUCER,
    Span.SPAN_KIND_CONSUMER,
)


def fixture(path: str) -> Path:
    """A real payload below ``../shared/fixtures``; the test is skipped where it is absent."""
    file = FIXTURES / path
    if not file.exists():
        pytest.skip(f"../shared/fixtures/{path} is not here")
    return file


def load_spans(path: str) -> Spans:
    """The spans of an OTLP/JSON fixture."""
    return decode_spans([_parsed(path, ExportTraceServiceRequest())])


def load_logs(path: str) -> Logs:
    """The log records of an OTLP/JSON fixture."""
    return decode_logs([_parsed(path, ExportLogsServiceRequest())])


def _parsed(path: str, message) -> bytes:
    document = json.loads(fixture(path).read_text(), object_hook=_base64_ids)
    return json_format.ParseDict(document, message, ignore_unknown_fields=True).SerializeToString()


def _base64_ids(mapping: dict) -> dict:
    """OTLP/JSON has ids in hex, protobuf's JSON has bytes in base64."""
    for key in mapping.keys() & {"traceId", "spanId", "parentSpanId"}:
        mapping[key] = base64.b64encode(bytes.fromhex(mapping[key])).decode()
    return mapping


@dataclass(frozen=True)
class One:
    """One span. Times are milliseconds after `START`; ``parent`` 0 means none."""

    kind: int = SERVER
    id: int = 1
    parent: int = 0
    start: float = 0
    end: float = 100
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = "span"
    status: int = 0
    trace: int = 1
    trace_state: str = ""


@dataclass(frozen=True)
class Record:
    """One log record. ``trace`` and ``span`` 0 mean none; ``time`` is milliseconds after `START`."""

    body: Any = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    trace: int = 0
    span: int = 0
    time: float = 0


def make_spans(*specs: One, resource: Mapping[str, Any] | None = None, scope: str = "") -> Spans:
    """Hand-written spans of one sender; ``resource`` is ``{"service.name": "gateway"}`` by default."""
    return decode_spans([span_request(*specs, resource=resource, scope=scope)])


def span_request(*specs: One, resource: Mapping[str, Any] | None = None, scope: str = "") -> bytes:
    """An export request of one sender; several make a batch: ``decode_spans([a, b])``."""
    message = ExportTraceServiceRequest()
    sender = message.resource_spans.add()
    _put(sender.resource.attributes, {"service.name": "gateway"} if resource is None else resource)
    scoped = sender.scope_spans.add()
    scoped.scope.name = scope
    for spec in specs:
        one = scoped.spans.add(
            trace_id=spec.trace.to_bytes(16, "big"),
            span_id=spec.id.to_bytes(8, "big"),
            parent_span_id=spec.parent.to_bytes(8, "big") if spec.parent else b"",
            kind=spec.kind,
            name=spec.name,
            trace_state=spec.trace_state,
            start_time_unix_nano=START + round(spec.start * MS),
            end_time_unix_nano=START + round(spec.end * MS),
        )
        one.status.code = spec.status
        _put(one.attributes, spec.attributes)
    return message.SerializeToString()


def make_logs(*specs: Record, resource: Mapping[str, Any] | None = None, scope: str = "") -> Logs:
    """Hand-written log records of one sender; ``resource`` is ``{"service.name": "gateway"}`` by default."""
    return decode_logs([log_request(*specs, resource=resource, scope=scope)])


def log_request(*specs: Record, resource: Mapping[str, Any] | None = None, scope: str = "") -> bytes:
    """An export request of one sender; several make a batch: ``decode_logs([a, b])``."""
    message = ExportLogsServiceRequest()
    sender = message.resource_logs.add()
    _put(sender.resource.attributes, {"service.name": "gateway"} if resource is None else resource)
    scoped = sender.scope_logs.add()
    scoped.scope.name = scope
    for spec in specs:
        one = scoped.log_records.add(
            trace_id=spec.trace.to_bytes(16, "big") if spec.trace else b"",
            span_id=spec.span.to_bytes(8, "big") if spec.span else b"",
            time_unix_nano=START + round(spec.time * MS),
            observed_time_unix_nano=START + round(spec.time * MS),
        )
        if spec.body is not None:
            one.body.CopyFrom(_any(spec.body))
        _put(one.attributes, spec.attributes)
    return message.SerializeToString()


def _put(target, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        target.add(key=key).value.CopyFrom(_any(value))


def _any(value: Any) -> AnyValue:
    """None makes an empty value; bool before int, since a bool is one."""
    found = AnyValue()
    match value:
        case bool():
            found.bool_value = value
        case int():
            found.int_value = value
        case float():
            found.double_value = value
        case str():
            found.string_value = value
        case bytes():
            found.bytes_value = value
        case Mapping():
            found.kvlist_value.SetInParent()
            _put(found.kvlist_value.values, value)
        case Sequence():
            found.array_value.values.extend(_any(item) for item in value)
    return found


def apim_event(**options) -> ApimEvent:
    """The processor with all built-in dialects."""
    context = Context(ComponentId("apim_event"), logging.getLogger(), get_meter("t"), otel_moesif_dialects())
    return ApimEvent(ApimEventSettings(**options), context)


def events(batch: Spans | Logs, **options) -> list[dict[str, Any]]:
    """The events of a batch, by start; columns that a dialect does not give are None."""
    return apim_event(**options).process(batch).frame.sort("requestTimestamp", maintain_order=True).to_dicts()


def event(batch: Spans | Logs, **options) -> dict[str, Any]:
    """The only event of a batch."""
    (found,) = events(batch, **options)
    return found


def dialects_of(batch: Spans | Logs) -> list[str]:
    """Names of the dialects that are detected in a batch."""
    return [dialect.name for dialect, _ in Detection(otel_moesif_dialects()).split(batch)]


def given(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event that an expectation names: ``assert given(event, x) == x``."""
    return {name: found.get(name) for name in expected}

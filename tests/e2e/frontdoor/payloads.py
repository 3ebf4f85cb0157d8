"""Requests with calls, whole and spoiled."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.collector import transaction_id

BAD_ID, BAD_TEXT, TOO_DEEP = "bad id", "bad text", "too deep"
# Message levels; protobuf's parsers go 100 down, each list costs two, and five are around the attributes.
DEEP = 60


@dataclass
class Calls:
    """A request with SERVER spans.

    Attributes:
        body: Serialized.
        good: Transaction ids of the calls that can be taken.
    """

    body: bytes
    good: list[str] = field(default_factory=list)


def calls(count: int = 3, spoil: str = "", path: str = "/orders") -> Calls:
    """So many good calls and, with ``spoil``, a bad one in their middle."""
    spans, good = [], []
    for number in range(count):
        if spoil and number == count // 2:
            spans.append(_spoiled(_span(path), spoil))
        span = _span(path)
        spans.append(span.SerializeToString())
        good.append(transaction_id(int.from_bytes(span.trace_id, "big"), int.from_bytes(span.span_id, "big")))
    message: Any = ExportTraceServiceRequest()
    resource = message.resource_spans.add().resource
    resource.attributes.add(key="service.name").value.string_value = "gateway"
    inner = delimited(1, resource.SerializeToString()) + delimited(
        2, b"".join(delimited(2, s) for s in spans)
    )
    return Calls(delimited(1, inner), good)


def only_bad() -> bytes:
    """A request whose one call can not be taken."""
    return delimited(1, delimited(2, delimited(2, _spoiled(_span("/"), BAD_ID))))


def as_json(request: Calls) -> dict[str, Any]:
    """The same as OTLP/JSON: with ids in hex."""
    document = json_format.MessageToDict(ExportTraceServiceRequest.FromString(request.body))
    for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        del span["traceId"], span["spanId"]
    message = ExportTraceServiceRequest.FromString(request.body)
    found = message.resource_spans[0].scope_spans[0].spans
    for span, given in zip(document["resourceSpans"][0]["scopeSpans"][0]["spans"], found, strict=True):
        span["traceId"], span["spanId"] = given.trace_id.hex(), given.span_id.hex()
        span["kind"] = int(given.kind)
    return document


def records(count: int = 3, *, spoil: bool = False) -> bytes:
    """Log records; one more, with a trace id of three bytes, if ``spoil``."""
    message: Any = ExportLogsServiceRequest()
    found = message.resource_logs.add().scope_logs.add().log_records
    for number in range(count):
        found.add(time_unix_nano=time.time_ns()).body.string_value = f"line {number}"
    if spoil:
        found.add(time_unix_nano=time.time_ns(), trace_id=b"abc")
    return bytes(message.SerializeToString())


def delimited(number: int, content: bytes) -> bytes:
    """A field of protobuf's wire type 2."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def nested(depth: int) -> bytes:
    """An AnyValue of lists in lists."""
    value = b""
    for _ in range(depth):
        value = delimited(5, delimited(1, value))  # array_value.values
    return value


def span_with(attributes: bytes) -> bytes:
    """A request with one call that has these attributes (serialized fields of the span) besides."""
    span = _span("/orders").SerializeToString() + attributes
    return delimited(1, delimited(2, delimited(2, span)))


def _span(path: str) -> Span:
    now, ids = time.time_ns(), os.urandom(24)
    span = Span(
        trace_id=ids[:16],
        span_id=ids[16:],
        name="GET /orders/{id}",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=now - 20_000_000,
        end_time_unix_nano=now,
    )
    for key, text in (
        ("http.request.method", "GET"),
        ("http.route", "/orders/{id}"),
        ("url.scheme", "https"),
        ("url.path", path),
        ("server.address", "api.example.org"),
        ("user_agent.original", "frontdoor/1.0"),
    ):
        span.attributes.add(key=key).value.string_value = text
    span.attributes.add(key="http.response.status_code").value.int_value = 200
    return span


def _spoiled(span: Span, how: str) -> bytes:
    if how == BAD_ID:
        span.span_id = b"\1\2\3"
        return bytes(span.SerializeToString())
    text = delimited(1, b"spoiled")
    value = nested(DEEP) if how == TOO_DEEP else delimited(1, b"\xff\xfe not UTF-8")
    return bytes(span.SerializeToString()) + delimited(9, text + delimited(2, value))

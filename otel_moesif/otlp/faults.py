"""What is wrong with records, as protobuf's messages show them.

The bytes of one signal's request can be those of another's: the field numbers of resources and scopes are the
same, and those of the records may fit by accident. Protobuf puts a field whose number it knows, but not with
that wire type, among the unknown ones. From that a stranger is known (opentelemetry-proto 1.x, trace.proto,
logs.proto, metrics.proto):

- A span or a metric among the log records has text as its first field (trace id, name), where a log record
  has a time of eight bytes. So no record without a time, but with a field that does not fit, is a log record.
- A log record or a profile among the spans has no trace id of 16 bytes: there it has a number, or less.
- A metric among the spans can have a name of 16 and a description of 8 letters, but never a start nor an end.
  So no record without either that reads as a metric with points is a span.

New fields of a later OTLP have numbers that are not known here, and are no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.component import Signal
from otel_moesif.otlp.limits import Limits

# Reasons: what the client and the counter are told.
MALFORMED = "malformed"
UTF8 = "invalid UTF-8"
DEPTH = "nested too deeply"
IDS = "bad trace or span id"
ATTRIBUTES = "too many attributes"
LENGTH = "attribute too long"
OTHER = "of another signal"

# One look at more would keep Python's global lock too long.
_MOST_PARTS = 8192
_LEAST_ATTRIBUTE = 2  # bytes: a tag and a length

_trace_ids = attrgetter("trace_id")
_span_ids = attrgetter("span_id")
_attributes = attrgetter("attributes")


def _reads_as(stranger: Any, record: bytes) -> bool:
    try:
        message = stranger.FromString(record)
    except DecodeError:
        return False
    if _misfits(message):
        return False
    return _has_points(message) if stranger is Metric else bool(message.ListFields())


def _has_points(metric: Any) -> bool:
    """Whether there are points, the first of which has the time that it has to have."""
    kind = metric.WhichOneof("data")
    points: Any = getattr(metric, kind).data_points if kind else ()
    return bool(points) and points[0].time_unix_nano > 0


def _misfits(message: Any) -> bool:
    """Whether a field has a number that the message knows, and a wire type that it does not have there."""
    known = message.DESCRIPTOR.fields_by_number
    return any(field.field_number in known for field in UnknownFieldSet(message))


def _is_metric(span: Any) -> bool:
    return _reads_as(Metric, span.SerializeToString())


@dataclass(frozen=True)
class Form:
    """How the records of one signal are told from anything else.

    Attributes:
        request: The message that a client sends.
        items: What its records are called.
        resources: Name of its one field.
        scopes: That of a resource's field with the scopes.
        records: That of a scope's field with the records.
        attributes: Number of a record's field with the attributes.
        trace_lengths: Lengths that a trace id may have.
        span_lengths: Lengths that a span id may have.
        no_ids: Ids that are none.
        times: Fields one of which a record has.
        is_stranger: Whether a record with good ids and without times is another signal's.
        strangers: Other signals' records that could be taken for this one's.
    """

    request: Any
    items: str
    resources: str
    scopes: str
    records: str
    attributes: int
    trace_lengths: frozenset[int]
    span_lengths: frozenset[int]
    no_ids: frozenset[bytes]
    times: tuple[str, str]
    is_stranger: Callable[[Any], bool]
    strangers: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The request's name in the specification."""
        return str(self.request.DESCRIPTOR.name)


FORMS: Mapping[Signal, Form] = {
    Signal.TRACES: Form(
        request=ExportTraceServiceRequest,
        items="spans",
        resources="resource_spans",
        scopes="scope_spans",
        records="spans",
        attributes=9,
        trace_lengths=frozenset({16}),
        span_lengths=frozenset({8}),
        no_ids=frozenset({bytes(16), bytes(8)}),
        times=("start_time_unix_nano", "end_time_unix_nano"),
        is_stranger=_is_metric,
        strangers=(LogRecord, Metric),
    ),
    Signal.LOGS: Form(
        request=ExportLogsServiceRequest,
        items="log records",
        resources="resource_logs",
        scopes="scope_logs",
        records="log_records",
        attributes=6,
        trace_lengths=frozenset({0, 16}),
        span_lengths=frozenset({0, 8}),
        no_ids=frozenset(),
        times=("time_unix_nano", "observed_time_unix_nano"),
        is_stranger=_misfits,
        strangers=(Span, Metric),
    ),
}
_ITEMS = {Span: "spans", LogRecord: "log records", Metric: "metrics"}


def _are_clean(form: Form, records: Sequence[Any], attributes: int | None) -> bool:
    """Whether all records of a scope can be taken, without looking at each in Python.

    A scope whose first record is another signal's is not clean; one whose first record is not, is no scope of
    another signal's request.

    Args:
        form: Of their signal.
        records: Messages.
        attributes: Most attributes of one record; None: there are not so many bytes.
    """
    if not records:
        return True
    records = list(records)  # each message once, not once per look
    trace_ids, span_ids = set(map(_trace_ids, records)), set(map(_span_ids, records))
    return (
        form.trace_lengths.issuperset(map(len, trace_ids))
        and form.span_lengths.issuperset(map(len, span_ids))
        and form.no_ids.isdisjoint(trace_ids)
        and form.no_ids.isdisjoint(span_ids)
        and (attributes is None or max(map(len, map(_attributes, records))) <= attributes)
        and not _is_stranger(form, records[0])
    )


def count_if_clean(form: Form, request: Any, limits: Limits, longest: int) -> int | None:
    """The number of a request's records, if all can be taken; None if that has to be found out one by one.

    Args:
        form: Of the signal.
        request: Its message.
        limits: See `Limits`.
        longest: No record has more bytes.
    """
    resources = getattr(request, form.resources)
    scopes = [
        getattr(scope, form.records) for resource in resources for scope in getattr(resource, form.scopes)
    ]
    count = sum(map(len, scopes))
    if len(resources) + len(scopes) + count > min(_MOST_PARTS, limits.parts):
        return None
    most = limits.attributes if longest > _LEAST_ATTRIBUTE * limits.attributes else None
    if most is not None and any(len(part.resource.attributes) > most for part in resources):
        return None
    return count if all(_are_clean(form, records, most) for records in scopes) else None


def fault_of(form: Form, record: Any, attributes: int) -> str:
    """Why one record cannot be taken; empty if it can."""
    if (
        len(record.trace_id) not in form.trace_lengths
        or len(record.span_id) not in form.span_lengths
        or not form.no_ids.isdisjoint((record.trace_id, record.span_id))
    ):
        return IDS
    if len(record.attributes) > attributes:
        return ATTRIBUTES
    return OTHER if _is_stranger(form, record) else ""


def fault_of_parse(error: DecodeError) -> str:
    """The fault for which protobuf refuses a message."""
    reason = str(error)
    return UTF8 if "UTF-8" in reason else DEPTH if "Depth" in reason else MALFORMED


def items_of_stranger(form: Form, record: bytes) -> str:
    """What a record that cannot be taken is in truth, for example ``metrics``; empty if nothing known."""
    return next((_ITEMS[stranger] for stranger in form.strangers if _reads_as(stranger, record)), "")


def _is_stranger(form: Form, record: Any) -> bool:
    """Whether a record is another signal's although its ids are good; see the module."""
    return not any(getattr(record, name) for name in form.times) and form.is_stranger(record)

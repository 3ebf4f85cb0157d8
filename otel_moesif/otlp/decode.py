"""Bytes to columns: the only module that knows how.

`decode_spans` and `decode_logs` turn many requests, checked one by one (`check`), into one table with ptars
(protobuf wire format to Arrow in Rust, about 3.3 µs a span with 20 attributes). These signatures are the
seam for a faster decoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import polars as pl
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_moesif.attributes import Entries, Source
from otel_moesif.errors import InvalidData
from otel_moesif.logs import SCHEMA as LOG_SCHEMA
from otel_moesif.logs import Logs
from otel_moesif.otlp import projection_pb2 as projection
from otel_moesif.reserved import RESERVED
from otel_moesif.spans import SCHEMA as SPAN_SCHEMA
from otel_moesif.spans import Spans

# ptars holds the GIL while it decodes; a piece of this size keeps it for about 5 ms, so that the event
# loop can answer in between.
_PIECE_BYTES = 1 << 20

_handlers = ptars.HandlerPool([projection.DESCRIPTOR])


def _format(name: str) -> tuple[Any, Any]:
    """How ptars, and how protobuf itself, reads a message of the projection."""
    descriptor = projection.DESCRIPTOR.message_types_by_name[name]
    return _handlers.get_for_message(descriptor), GetMessageClass(descriptor)


_TRACES = _format("TracesRequest")
_LOGS = _format("LogsRequest")


def _reason(error: DecodeError) -> str:
    """Upb's reason without its preamble, for example ``Wire format was corrupt``."""
    return str(error).rpartition(": ")[2] or "malformed protobuf"


def decode_spans(requests: Sequence[bytes]) -> Spans:
    """Decode checked trace export requests into one table.

    Raises:
        InvalidData: One of them is malformed; which one is not said.
    """
    records = _records(_TRACES, requests, "scope_spans", "spans")
    status, values = records.values.field("status"), records.values
    frame = pl.DataFrame(
        {
            "row": pl.int_range(len(values), dtype=pl.UInt32, eager=True),
            "request": records.request,
            "source": records.source,
            "trace_id": _series(values.field("trace_id")),
            "span_id": _series(values.field("span_id")),
            "parent_span_id": _series(values.field("parent_span_id")),
            "trace_state": _series(values.field("trace_state")),
            "name": _series(values.field("name")),
            "kind": _series(values.field("kind")),
            "start": _series(values.field("start_time_unix_nano")),
            "end": _series(values.field("end_time_unix_nano")),
            "status_code": _series(status.field("code")),
            "status_message": _series(status.field("message")),
        },
    ).cast(SPAN_SCHEMA, strict=False)
    return Spans(frame, _entries(values.field("attributes")), records.sources, frame.height)


def decode_logs(requests: Sequence[bytes]) -> Logs:
    """Decode checked log export requests into one table.

    Raises:
        InvalidData: One of them is malformed; which one is not said.
    """
    records = _records(_LOGS, requests, "scope_logs", "log_records")
    values = records.values
    frame = pl.DataFrame(
        {
            "row": pl.int_range(len(values), dtype=pl.UInt32, eager=True),
            "request": records.request,
            "source": records.source,
            "trace_id": _series(values.field("trace_id")),
            "span_id": _series(values.field("span_id")),
            "time": _series(values.field("time_unix_nano")),
            "observed_time": _series(values.field("observed_time_unix_nano")),
            "severity_number": _series(values.field("severity_number")),
            "severity_text": _series(values.field("severity_text")),
            "event_name": _series(values.field("event_name")),
            "body": _values(values.field("body")).cast(pl.String),
        },
    ).cast(LOG_SCHEMA, strict=False)
    return Logs(frame, _entries(values.field("attributes")), records.sources, frame.height)


class _Records(NamedTuple):
    values: Any  # pa.StructArray of spans or log records
    request: pl.Series
    source: pl.Series
    sources: list[Source]


def _records(form: tuple[Any, Any], requests: Sequence[bytes], scopes: str, records: str) -> _Records:
    """Flatten request → resource → scope → record, and number the distinct senders."""
    handler, message = form
    try:
        pieces = _decoded(handler, requests)
    except ValueError:
        # Within unknown groups protobuf takes what ptars does not: a field whose number is 0.
        pieces = _decoded(handler, [_known_fields(message, request) for request in requests])
    table = pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
    resource_lists = table.column(0)
    resources = resource_lists.flatten()
    scope_lists = resources.field(scopes)
    scoped = scope_lists.flatten()
    record_lists = scoped.field(records)
    in_scope = pc.list_parent_indices(record_lists)
    in_resource = pc.list_parent_indices(scope_lists)
    in_request = pc.list_parent_indices(resource_lists)

    resource_numbers = resources.field("resource").dictionary_encode()
    scope_numbers = scoped.field("scope").dictionary_encode()
    pairs = pl.DataFrame(
        {
            "request": _series(in_request.take(in_resource)),
            "resource": _series(resource_numbers.indices.take(in_resource)),
            "scope": _series(scope_numbers.indices),
        }
    )
    distinct = pairs.select("resource", "scope").unique(maintain_order=True).with_row_index("source")
    pairs = pairs.join(
        distinct, on=["resource", "scope"], how="left", nulls_equal=True, maintain_order="left"
    )
    place = _series(in_scope)
    return _Records(
        record_lists.flatten(),
        pairs["request"].gather(place),
        pairs["source"].gather(place),
        [
            _source(resource_numbers.dictionary[resource].as_py(), scope_numbers.dictionary[scope].as_py())
            for resource, scope in distinct.select("resource", "scope").iter_rows()
        ],
    )


def _decoded(handler: Any, requests: Sequence[bytes]) -> list[Any]:
    return [handler.list_to_record_batch(piece) for piece in _pieces(requests)]


def _known_fields(message: Any, request: bytes) -> bytes:
    known = _parse(message, request)
    known.DiscardUnknownFields()
    return bytes(known.SerializeToString())


def _pieces(requests: Sequence[bytes]) -> Iterator[list[bytes]]:
    piece: list[bytes] = []
    size = 0
    for request in requests:
        if piece and size + len(request) > _PIECE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(request)
        size += len(request)
    yield piece


def _source(resource: bytes, scope: bytes) -> Source:
    attributes = _parse(Resource, resource).attributes
    instrumentation = _parse(InstrumentationScope, scope)
    return Source(
        {item.key: _plain(item.value) for item in attributes}, instrumentation.name, instrumentation.version
    )


def _entries(attributes: Any) -> dict[str, Entries]:
    """The long attribute table, cut into one piece per key by one sort of the key's numbers."""
    rows = pc.list_parent_indices(attributes)
    flat = attributes.flatten()
    if not len(flat):
        return {}
    numbers = flat.field("key").dictionary_encode()
    order = pc.sort_indices(numbers.indices)  # stable: rows stay in order within a key
    counts = _series(numbers.indices).value_counts().sort("").get_column("count")
    entries, start = {}, 0
    values = flat.field("value")
    for key, count in zip(numbers.dictionary.to_pylist(), counts, strict=True):
        if not key.startswith(RESERVED):  # nobody may claim to be somebody else: of a resource it is ours
            entries[key] = Entries(partial(_gather, order.slice(start, count), rows, values))
        start += count
    return entries


def _gather(places: Any, rows: Any, values: Any) -> tuple[pl.Series, pl.Series]:
    return _series(rows.take(places)).cast(pl.UInt32), _values(values.take(places))


def _values(values: Any) -> pl.Series:
    """Values of the column's one type, or as text where types are mixed; an empty AnyValue is null."""
    scalars = [values.field(name) for name in ("string_value", "int_value", "double_value", "bool_value")]
    present = [scalar for scalar in scalars if scalar.null_count < len(scalar)]
    nested = [
        (values.field(name), parse)
        for name, parse in (("array_value", _array), ("kvlist_value", _map), ("bytes_value", bytes.hex))
        if values.field(name).null_count < len(values)
    ]
    if not nested and len(present) <= 1:
        return _series(present[0] if present else scalars[0])
    texts = [_series(scalar).cast(pl.String) for scalar in present]
    texts += [_parsed(_series(array), parse) for array, parse in nested]
    return pl.select(pl.coalesce(texts)).to_series()


def _parsed(column: pl.Series, parse: Callable[[bytes], str]) -> pl.Series:
    """Map raw submessages to text, each distinct one once."""
    distinct = column.drop_nulls().unique()
    texts = pl.Series([parse(raw) for raw in distinct], dtype=pl.String)
    return column.replace_strict(distinct, texts, default=None, return_dtype=pl.String)


def _array(raw: bytes) -> str:
    """Scalars joined by comma, as same-name headers are; anything else as JSON."""
    items = [_plain(value) for value in _parse(ArrayValue, raw).values]
    if any(isinstance(item, list | dict) for item in items):
        return json.dumps(items, ensure_ascii=False)
    return ", ".join("" if item is None else str(item) for item in items)


def _map(raw: bytes) -> str:
    items = {item.key: _plain(item.value) for item in _parse(KeyValueList, raw).values}
    return json.dumps(items, ensure_ascii=False)


def _parse(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise InvalidData(f"malformed {message.DESCRIPTOR.name}: {_reason(error)}") from None


def _plain(value: AnyValue) -> Any:
    """An attribute value as a Python scalar, list or dict; bytes as hex, an empty value as None."""
    match value.WhichOneof("value"):
        case "array_value":
            return [_plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _plain(item.value) for item in value.kvlist_value.values}
        case "bytes_value":
            return value.bytes_value.hex()
        case None:
            return None
        case kind:
            return getattr(value, kind)


def _series(array: Any) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)  # noqa: S101 - what pl.from_arrow gives for an array
    return series

"""OTLP in JSON to OTLP in protobuf, which is all that the rest of the collector knows.

Source: the specification's "JSON Protobuf Encoding" (opentelemetry.io/docs/specs/otlp): protobuf's own JSON,
but with trace and span ids in hex and not in base64; unknown fields are ignored, 64-bit integers may be text
or numbers. It demands numbers for enums and lowerCamelCase for names; here protobuf's other spellings are
taken as well, the short names of kinds and status codes that tools print (``Server``, ``Error``), and the
names that scopes had before OTLP 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.otlp.json_text import decode, has_more_values, load
from otel_moesif.otlp.json_wire import Count, Encode, Encoders, LeftOut, WrongValue

Object: TypeAlias = MutableMapping[str, Any]

_MESSAGES: Mapping[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
# Where the records stand: of the request, of each resource, of each scope.
_LISTS: Mapping[Signal, tuple[str, str, str]] = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
}
# At the top of a request of some signal, whichever.
_FOREIGN = frozenset(
    f"resource{separator}{signal}"
    for signal in ("Spans", "Logs", "Metrics", "Profiles")
    for separator, signal in (("", signal), ("_", signal.lower()))
)
# The names before opentelemetry-proto 0.15.
_OLD_SCOPES = {
    "instrumentationLibrarySpans": "scopeSpans",
    "instrumentationLibraryLogs": "scopeLogs",
    "instrumentationLibrary": "scope",
}


@dataclass
class Transcoded:
    """A request in protobuf.

    Attributes:
        request: Serialized.
        rejected: Spans or log records that were left out, since a value in them, or in the scope or the
            resource that they are in, is impossible.
        message: What is wrong with the first that was left out; nothing of what stands in it.
    """

    request: bytes = b""
    rejected: int = 0
    message: str = ""


def transcode(signal: Signal, document: bytes, max_values: int) -> Transcoded:
    """One export request in JSON, from somebody who cannot be trusted, as the same request in protobuf.

    Args:
        signal: Which of the OTLP services it was sent to.
        document: JSON, UTF-8.
        max_values: Most objects, lists and members in it. Python's objects take up to a hundred times the
            room of what they were read from, so the bytes alone are no bound.

    Raises:
        InvalidData: It is no JSON, or not such a request; says where, but nothing of what is in it.
        TooLarge: It has too many values.
    """
    text = decode(document)
    if has_more_values(text, max_values):
        raise TooLarge(
            f"JSON of more than {max_values} values: send fewer at once, or protobuf", "too many values"
        )
    found = _load(signal, text)
    if signal not in signals_of(found) and not found.keys().isdisjoint(_FOREIGN):
        raise InvalidData(f"not a valid {_name(signal)}: it is a request of another signal")
    left_out = LeftOut()
    request = _encode(signal, found, left_out)
    message = f"not a valid {_name(signal)}: {left_out.first}" if left_out.first else ""
    if message and left_out.records == _in_request(signal, found):
        raise InvalidData(message)
    return Transcoded(request, left_out.records, message)


def from_json(signal: Signal, document: bytes | str) -> bytes:
    """One export request in JSON as the same request in protobuf, or not at all.

    Args:
        signal: Which of the OTLP services it is for.
        document: JSON, UTF-8.

    Raises:
        InvalidData: It is no JSON, or not such a request; says where, but nothing of what is in it.
    """
    return from_object(signal, _load(signal, document if isinstance(document, str) else decode(document)))


def from_object(signal: Signal, document: Object) -> bytes:
    """As `from_json`, from JSON that is parsed already; changes its argument.

    Raises:
        InvalidData: It is not such a request.
    """
    return _encode(signal, document, None)


def signals_of(document: Mapping[str, Any]) -> list[Signal]:
    """Whose requests a JSON object can be, by its keys."""
    return [signal for signal, (top, *_) in _LISTS.items() if not document.keys().isdisjoint(_spellings(top))]


def _load(signal: Signal, text: str) -> Object:
    found = load(text)
    if not isinstance(found, dict):
        raise InvalidData(f"not a valid {_name(signal)}: not an object")
    return found


def _encode(signal: Signal, document: Object, left_out: LeftOut | None) -> bytes:
    top, below, _ = _LISTS[signal]
    for resource in _objects(document, top):
        _rename(resource)
        for scope in _objects(resource, below):
            _rename(scope)
    try:
        return _encoder(signal)(document, 0, left_out)
    except WrongValue as error:
        raise InvalidData(f"not a valid {_name(signal)}: {error}") from None


@cache
def _encoder(signal: Signal) -> Encode:
    request = _MESSAGES[signal].DESCRIPTOR
    resource, scope, record = (part.message_type for part in _parts(request, _LISTS[signal]))
    optional: dict[str, Count] = {
        resource.full_name: partial(_in_resource, signal),
        scope.full_name: partial(_in_scope, signal),
        record.full_name: lambda _: 1,
    }
    return Encoders(optional).message(request)


def _parts(message: Descriptor, names: tuple[str, ...]) -> Iterator[FieldDescriptor]:
    """The fields of these names, each of the message that the one before it holds."""
    for name in names:
        field = message.fields_by_camelcase_name[name]
        yield field
        message = field.message_type


def _name(signal: Signal) -> str:
    return str(_MESSAGES[signal].DESCRIPTOR.name)


def _in_request(signal: Signal, document: Object) -> int:
    """How many records there are."""
    return sum(_in_resource(signal, resource) for resource in _objects(document, _LISTS[signal][0]))


def _in_resource(signal: Signal, resource: object) -> int:
    return sum(_in_scope(signal, scope) for scope in _objects(resource, _LISTS[signal][1]))


def _in_scope(signal: Signal, scope: object) -> int:
    return sum(map(len, _lists(scope, _LISTS[signal][2])))


def _objects(owner: object, name: str) -> Iterator[Object]:
    """The objects of a list; what is no list or no object is left to be refused later."""
    return (item for items in _lists(owner, name) for item in items if isinstance(item, dict))


def _lists(owner: object, name: str) -> Iterator[list[Any]]:
    """An object's list of that name, in either spelling."""
    if isinstance(owner, dict):
        yield from (items for key in _spellings(name) if isinstance(items := owner.get(key), list))


def _rename(owner: Object) -> None:
    for old, new in _OLD_SCOPES.items():
        for key in _spellings(old):
            if key in owner and owner.keys().isdisjoint(_spellings(new)):
                owner[new] = owner.pop(key)


@cache
def _spellings(name: str) -> frozenset[str]:
    """A field's name in lowerCamelCase and as in the .proto file."""
    return frozenset({name, re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)})

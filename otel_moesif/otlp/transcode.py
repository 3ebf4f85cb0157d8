"""OTLP in JSON to OTLP in protobuf, which is all that the rest of the collector knows.

Source: the specification's "JSON Protobuf Encoding" (opentelemetry.io/docs/specs/otlp): protobuf's own JSON,
but with trace and span ids in hex and not in base64; unknown fields are ignored, 64-bit integers may be text
or numbers. It demands numbers for enums and lowerCamelCase for names; here protobuf's other spellings are
taken as well, the short names of kinds and status codes that tools print (``Server``, ``Error``), and the
names that scopes had before OTLP 1.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.otlp.json_wire import Encode, Encoders, LeftOut, WrongValue

Object: TypeAlias = MutableMapping[str, Any]

_MESSAGES: Mapping[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
_RECORDS: Mapping[Signal, Any] = {Signal.TRACES: Span, Signal.LOGS: LogRecord}
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
        rejected: Spans or log records that were left out, since a value in them is impossible.
        message: What is wrong with the first of those; nothing of what stands in it.
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
    if sum(map(document.count, (b"{", b"[", b","))) > max_values:
        raise TooLarge(
            f"JSON of more than {max_values} values: send fewer at once, or protobuf", "too many values"
        )
    found = _load(signal, document)
    if signal not in signals_of(found) and not found.keys().isdisjoint(_FOREIGN):
        raise InvalidData(f"not a valid {_name(signal)}: it is a request of another signal")
    wrong: list[WrongValue] = []
    request = _encode(signal, found, wrong)
    message = f"not a valid {_name(signal)}: {wrong[0]}" if wrong else ""
    if wrong and len(wrong) == _count(signal, found):
        raise InvalidData(message)
    return Transcoded(request, len(wrong), message)


def from_json(signal: Signal, document: bytes | str) -> bytes:
    """One export request in JSON as the same request in protobuf, or not at all.

    Args:
        signal: Which of the OTLP services it is for.
        document: JSON, UTF-8.

    Raises:
        InvalidData: It is no JSON, or not such a request; says where, but nothing of what is in it.
    """
    return from_object(signal, _load(signal, document))


def from_object(signal: Signal, document: Object) -> bytes:
    """As `from_json`, from JSON that is parsed already; changes its argument.

    Raises:
        InvalidData: It is not such a request.
    """
    return _encode(signal, document, None)


def signals_of(document: Mapping[str, Any]) -> list[Signal]:
    """Whose requests a JSON object can be, by its keys."""
    return [signal for signal, (top, *_) in _LISTS.items() if not document.keys().isdisjoint(_spellings(top))]


def _load(signal: Signal, document: bytes | str) -> Object:
    try:
        found = json.loads(document)
    except json.JSONDecodeError as error:
        raise InvalidData(f"not valid JSON: {error.msg} at character {error.pos}") from None
    except UnicodeDecodeError:
        raise InvalidData("not valid JSON: not in UTF-8") from None
    except (RecursionError, ValueError):  # the latter: a number of thousands of digits
        raise InvalidData("not valid JSON: nested too deeply, or too large a number") from None
    if not isinstance(found, dict):
        raise InvalidData(f"not a valid {_name(signal)}: not an object")
    return found


def _encode(signal: Signal, document: Object, left_out: LeftOut) -> bytes:
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
    return Encoders({_RECORDS[signal].DESCRIPTOR.full_name}).message(_MESSAGES[signal].DESCRIPTOR)


def _name(signal: Signal) -> str:
    return str(_MESSAGES[signal].DESCRIPTOR.name)


def _count(signal: Signal, document: Object) -> int:
    """How many records there are."""
    top, below, last = _LISTS[signal]
    return sum(
        len(records)
        for resource in _objects(document, top)
        for scope in _objects(resource, below)
        for key in _spellings(last)
        if isinstance(records := scope.get(key), list)
    )


def _objects(owner: Object, name: str) -> Iterator[Object]:
    """The objects of a list; what is no list or no object is left to be refused later."""
    for key in _spellings(name):
        items = owner.get(key)
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                yield item


def _rename(owner: Object) -> None:
    for old, new in _OLD_SCOPES.items():
        for key in _spellings(old):
            if key in owner and owner.keys().isdisjoint(_spellings(new)):
                owner[new] = owner.pop(key)


@cache
def _spellings(name: str) -> frozenset[str]:
    """A field's name in lowerCamelCase and as in the .proto file."""
    return frozenset({name, re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)})

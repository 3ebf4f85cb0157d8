"""What a file holds: OTLP in JSON or protobuf, or lines of text, each of which is a log record's body.

The Collector's file exporter (opentelemetry-collector-contrib exporter/fileexporter) writes one JSON document
per line or, with ``format: proto``, each request behind its length in four bytes, big-endian. A request by
itself begins with the tag of its first field, which is a line feed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData
from otel_moesif.otlp.transcode import from_object, signals_of

# A document is OTLP, and not the JSON line of some log, if it has one of these keys at its top.
_OTLP = re.compile(r'"resource_?(?:[sS]pans|[lL]ogs|[mM]etrics|[pP]rofiles)"\s*:')
_START = 4096  # characters in which a document's first key is looked for
_TAG = 0x0A
_PREFIX_BYTES = 4
_TRACE_ID_BYTES = 16


def requests_in(data: bytes, observed: int) -> list[tuple[Signal, bytes]]:
    """Read a file's content as export requests.

    Args:
        data: The content.
        observed: When lines of text were seen, nanoseconds since the epoch.

    Returns:
        Serialized requests, in order. Metrics and profiles are left out: they are no API calls.

    Raises:
        InvalidData: It is neither OTLP nor text; says where it is not.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if "\0" in text or (data and not text):
        return list(_protobuf(data))
    if _OTLP.search(text.lstrip()[:_START]) and text.lstrip().startswith(("{", "[")):
        return list(_json(text))
    if data[:1] == bytes([_TAG]) and (found := _request(data)):
        return [found]
    lines = _lines(text)
    if len(lines) > 1 and lines[0].lstrip()[0] in "{[" and _is_json(text):
        raise InvalidData("JSON, but no OTLP: neither resourceSpans nor resourceLogs is at its top")
    return [(Signal.LOGS, _log(lines, observed))] if lines else []


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _json(text: str) -> Iterator[tuple[Signal, bytes]]:
    """One document, or a list of them; else one per line."""
    try:
        yield from _documents(json.loads(text), "")
    except json.JSONDecodeError as error:
        lines = text.splitlines()
        if not _is_json(next(line for line in lines if line.strip())):
            raise InvalidData(f"not valid JSON: {error.msg} in line {error.lineno}") from None
        for number, line in enumerate(lines, 1):
            if line.strip():
                if not _is_json(line):
                    raise InvalidData(f"line {number} is not valid JSON") from None
                yield from _documents(json.loads(line), f"line {number}: ")
    except (RecursionError, ValueError):
        raise InvalidData("not valid JSON: nested too deeply, or too large a number") from None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (RecursionError, ValueError):
        return False
    return True


def _documents(found: object, place: str) -> Iterator[tuple[Signal, bytes]]:
    for document in found if isinstance(found, list) else [found]:
        if not isinstance(document, dict):
            raise InvalidData(f"{place}not an OTLP request: not an object")
        for signal in signals_of(document):
            try:
                yield signal, from_object(signal, document)
            except InvalidData as error:
                raise InvalidData(f"{place}{error}") from None


def _protobuf(data: bytes) -> Iterator[tuple[Signal, bytes]]:
    """One request, or several behind their lengths."""
    if found := _request(data):
        yield found
        return
    start = 0
    while start < len(data):
        end = start + _PREFIX_BYTES + int.from_bytes(data[start : start + _PREFIX_BYTES], "big")
        found = _request(data[start + _PREFIX_BYTES : end])
        if end > len(data) or not found:
            raise InvalidData(
                "neither OTLP (JSON or protobuf) nor text" if not start else f"damaged at byte {start}"
            )
        yield found
        start = end


def _request(data: bytes) -> tuple[Signal, bytes] | None:
    """A request, if its records make sense: each of the two can be parsed as the other, to nonsense."""
    try:
        traces = ExportTraceServiceRequest.FromString(data)
        spans = [x for part in traces.resource_spans for scope in part.scope_spans for x in scope.spans]
        if spans and all(len(span.trace_id) == _TRACE_ID_BYTES for span in spans):
            return Signal.TRACES, data
    except DecodeError:
        pass
    try:
        logs = ExportLogsServiceRequest.FromString(data)
        records = [x for part in logs.resource_logs for scope in part.scope_logs for x in scope.log_records]
        if records and all(x.time_unix_nano or x.observed_time_unix_nano for x in records):
            return Signal.LOGS, data
    except DecodeError:
        pass
    return None


def _log(lines: list[str], observed: int) -> bytes:
    """What the Collector's filelog receiver would make of lines that it does not parse."""
    message = ExportLogsServiceRequest()
    records = message.resource_logs.add().scope_logs.add().log_records
    for line in lines:
        records.add(observed_time_unix_nano=observed).body.string_value = line
    return bytes(message.SerializeToString())

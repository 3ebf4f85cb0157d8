"""A dead letter for people and for programs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from otel_moesif.journal.rows import DeadLetter
from otel_moesif.journal.visitor import DamagedLetter

# JSON encoding of OTLP (opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): ids in hex, not in base64.
_HEX = frozenset({"traceId", "spanId", "parentSpanId"})


class UnreadableError(Exception):
    """Says why a body cannot be read."""


def header(letter: DeadLetter) -> dict[str, Any]:
    """What a dead letter is, without its body."""
    return {
        "id": letter.id,
        "time": iso(letter.time),
        "origin": letter.origin,
        "kind": letter.kind,
        "receiver": letter.receiver,
        "reason": letter.reason,
        "response": letter.response,
        "attempts": letter.attempts,
        "count": letter.count,
    }


def whole(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter with its body: ``events``, ``rows``, ``request`` (base64), or why it is unreadable."""
    found = header(letter)
    encoded = base64.b64encode(letter.body).decode()
    if letter.kind in {"traces", "logs"} and not isinstance(letter, DamagedLetter):
        return found | {"request": encoded}
    try:
        return found | contents(letter)
    except UnreadableError as error:
        return found | {"unreadable": str(error), "body": encoded}


def contents(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter's body, to be read by people.

    Returns:
        ``events``: in the guide's shape, with their ``transactionIds``; ``rows``: what a processor had kept
        back; ``request``: OTLP as JSON.

    Raises:
        UnreadableError: It cannot be read.
    """
    if isinstance(letter, DamagedLetter):
        raise UnreadableError("the disk has damaged it")
    try:
        return _read(letter)
    except Exception as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


def _read(letter: DeadLetter) -> dict[str, Any]:
    if letter.kind == "events":
        from otel_moesif.events import Events  # noqa: PLC0415

        events = Events.from_ipc(letter.body)
        # the guide's shape has no place for it, but it is what the backend knows the call by
        return {"transactionIds": events.frame["transactionId"].to_list(), "events": events.to_dicts()}
    if letter.kind == "held":
        from otel_moesif.held import from_ipc  # noqa: PLC0415

        return {"rows": json.loads(json.dumps(from_ipc(letter.body).to_dicts(), default=_plain))}
    return {"request": _otlp(letter)}


def _otlp(letter: DeadLetter) -> Any:
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest  # noqa: PLC0415
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
        ExportTraceServiceRequest,
    )

    message = ExportTraceServiceRequest() if letter.kind == "traces" else ExportLogsServiceRequest()
    message.ParseFromString(letter.body)
    return _with_hex_ids(MessageToDict(message, use_integers_for_enums=True))


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in value]
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item).hex()
            if key in _HEX and isinstance(item, str)
            else _with_hex_ids(item)
            for key, item in value.items()
        }
    return value


def _plain(value: Any) -> str:
    """What JSON does not know: times, bytes."""
    return value.hex() if isinstance(value, bytes) else str(value)


def iso(seconds: float) -> str:
    """Seconds since the epoch as ``2026-01-20T03:34:36Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(text: str) -> str:
    """Text of others for a terminal: without control characters, lines as they are."""
    return "".join(x if x.isprintable() or x == "\n" else " " for x in text)


def one_line(text: str) -> str:
    """The same in one line."""
    return " ".join(printable(text).split())

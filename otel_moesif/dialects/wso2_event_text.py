"""What an analytics event of WSO2 means: one JSON text, and the columns that its members become.

Such a text is a document with open-ended parts, so it is parsed by Python's own parser: polars'
``json_decode`` fails a whole column for one damaged text, takes lone surrogates for NUL, leaves empty texts
out, and has no type for "any further members". Texts that are alike are read by columns all the same, from
what this says of one of them (`wso2_event_form`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from otel_moesif.credentials import SENSITIVE_HEADERS
from otel_moesif.schema import FIELDS, SCHEMA, Place

# Columns of the event that WSO2 has under the same name; errorCodeInferred is ours.
_SAME = tuple(
    field.name for field in FIELDS if field.place is not Place.BACKEND and field.name != "errorCodeInferred"
)
_MADE = (
    "requestHeaders",
    "responseHeaders",
    "requestBody",
    "responseBody",
    "requestBodyEncoding",
    "responseBodyEncoding",
    "requestUri",
    "userAgentHeader",
    "customProperties",
)
COLUMNS = (*_SAME, *_MADE)
SHAPE = {name: pl.String if name == "requestTimestamp" else SCHEMA[name] for name in COLUMNS}
"""What an event is read into. The time is a text: it comes in several precisions."""

# What a column was made of does not go on under its own name.
_TAKEN = frozenset({*COLUMNS, "subtype", "requestBodyTransferEncoding", "responseBodyTransferEncoding"})
_KINDS = {"apim:response": "response", "apim:faulty": "fault"}
LINE = re.compile(r"apimMetrics:\s*(apim:\w+)\s*,\s*properties\s*:\s*(?=\{)")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_GATEWAY_URL = "x-original-gw-url"  # SimpleMoesifClient: the request's URI, where a policy has put it
_NO_VALUES = (dict, list, type(None))  # in the place of a column


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def event_columns(body: str) -> Mapping[str, Any]:
    """Read one body of a log record.

    Of its values, those of ``apimMetrics``, ``eventType``, ``properties``, ``subType`` and ``subtype`` decide
    what becomes of others; all others are only carried over, in their own types.

    Args:
        body: A line of the analytics log, or an event as JSON.

    Returns:
        The columns of `SHAPE` that the event has, and more; empty where the body is no event.
    """
    event, kind = _event(body)
    if not event:
        return {}
    inner = event.get("properties")
    properties: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}
    columns = {name: value for name, value in properties.items() if type(value) not in _NO_VALUES}
    columns.update((name, value) for name, value in event.items() if type(value) not in _NO_VALUES)
    columns["eventType"] = kind
    columns["subType"] = columns.get("subType") or columns.get("subtype")
    columns["requestUri"] = columns.get(_GATEWAY_URL)
    columns["customProperties"] = _further(event, properties)
    for way in ("request", "response"):
        columns[f"{way}Headers"] = _headers(properties.get(f"{way}Headers"))
        columns[f"{way}Body"] = _text(properties.get(f"{way}Body"))
        columns[f"{way}BodyEncoding"] = columns.get(f"{way}BodyTransferEncoding")
    return columns


def _event(body: str) -> tuple[Mapping[str, Any], str]:
    """The event of one body and its kind; empty where it is none."""
    line = LINE.search(body) if not body.lstrip().startswith("{") else None
    if line:
        return _object(body[line.end() :]), _KINDS.get(line[1], "")
    found = _object(body)
    if "apimMetrics" in found:
        inner = found.get("properties")
        event = _object(inner) if isinstance(inner, str) else inner
        return (event if isinstance(event, Mapping) else {}), _KINDS.get(
            str(found["apimMetrics"]).strip(), ""
        )
    fault = found.get("eventType", "fault" if "errorType" in found else "response") == "fault"
    return found, "fault" if fault else "response"


def _object(text: str) -> Mapping[str, Any]:
    """A JSON object; empty where the text is none, or is damaged."""
    try:
        found = _decoder.decode(text)
        if _SURROGATE.search(text):  # half of a pair cannot be written as UTF-8
            found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _headers(captured: Any) -> list[dict[str, str | None]] | None:
    """Captured headers (``send_headers``), without those that are secrets."""
    if not isinstance(captured, Mapping):
        return None
    names = {name: name.lower() for name in captured}
    return [
        {"key": names[name], "value": _text(value)}
        for name, value in captured.items()
        if names[name] not in SENSITIVE_HEADERS
    ]


def _further(event: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    """What the event has no column for, in its own types; a custom data provider may add anything."""
    there = {name: value for name, value in event.items() if name not in _TAKEN and value is not None}
    there.pop("properties", None)
    there.update((x, value) for x, value in properties.items() if x not in _TAKEN and value is not None)
    if not there:
        return None
    try:
        return _encoder.encode(there)
    except ValueError:  # 1e999
        return None

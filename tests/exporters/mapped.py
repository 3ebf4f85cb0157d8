"""Events as the Moesif exporter sends them, parsed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
from hypothesis import strategies as st

from otel_moesif import Events
from otel_moesif.exporters.moesif.identity import SUFFIX, Identity
from otel_moesif.exporters.moesif.mapping import Mapping
from otel_moesif.exporters.moesif.settings import MoesifSettings
from otel_moesif.schema import SCHEMA

FAULT = {
    "eventType": "fault",
    "proxyResponseCode": 429,
    "targetResponseCode": -1,
    "errorCode": 900803,
    "errorMessage": "APPLICATION_LEVEL_LIMIT_EXCEEDED",
    "errorType": "THROTTLED",
    "backendLatency": ...,
    "responseLatency": ...,
}

TEXTS = [name for name, dtype in SCHEMA.items() if dtype == pl.String and name != "customProperties"]
_SPECIAL = st.sampled_from(
    ['"', "\\", "{}", "{{", "}", '","x":"', "\n", "\x00", "\x1f", "\u2028", "😀", "null"]
)
ANY = st.none() | st.text() | st.lists(_SPECIAL, max_size=3).map("".join)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(TEXTS, ANY)), min_size=1, max_size=4)
"""Any texts, and nothing else: no status, no headers."""

_HEADERS = st.none() | st.lists(st.fixed_dictionaries({"key": ANY, "value": ANY}), max_size=4)
_TIME = st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them so
_CALL = {
    **dict.fromkeys(TEXTS, ANY),
    "transactionId": st.none() | st.uuids().map(str),
    "eventType": st.sampled_from(["response", "fault"]),
    "proxyResponseCode": st.sampled_from([0, 101, 200, 404, 429, 500, 999]),
    "targetResponseCode": st.sampled_from([-1, 0, 200, 503]),
    "errorCode": st.none() | st.integers(0, 999_999),
    "weight": st.none() | st.integers(-1, 1000),
    "isEgress": st.none() | st.booleans(),
    "requestSize": st.none() | st.integers(-1, 2**40),
    "responseLatency": st.none() | st.integers(0, 10**6),
    "requestTimestamp": _TIME,
    "responseTimestamp": _TIME,
    "requestHeaders": _HEADERS,
    "responseHeaders": _HEADERS,
    "requestBodyEncoding": st.sampled_from([None, "json", "base64"]),
    "responseBodyEncoding": st.sampled_from([None, "json", "base64"]),
    "customProperties": st.none() | st.dictionaries(st.text(), ANY, max_size=3).map(json.dumps),
}
CALLS = st.lists(st.fixed_dictionaries(_CALL), min_size=1, max_size=4).map(
    lambda rows: Events(pl.DataFrame(rows, schema={name: SCHEMA[name] for name in _CALL}))
)
"""Events of any kind, answered or not, with headers, bodies, properties."""


def texts(events, **options):
    settings = MoesifSettings(application_id="unused", **options)
    identity = Identity(settings.identity, SUFFIX[settings.compatibility])
    return Mapping(settings).encode(identity.columns(events.frame))


def mapped(events, **options):
    return [json.loads(text) for text in texts(events, **options)]

"""Events as the Moesif exporter sends them, parsed."""

from __future__ import annotations

import json

import polars as pl
from hypothesis import strategies as st

from otel_moesif.exporters.moesif.identity import Identity
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


def texts(events, **options):
    settings = MoesifSettings(application_id="unused", **options)
    return Mapping(settings).encode(Identity(settings.identity).columns(events.frame))


def mapped(events, **options):
    return [json.loads(text) for text in texts(events, **options)]

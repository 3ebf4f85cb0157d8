"""What tests of processors need: a context whose counters can be read, events, and random ones."""

from __future__ import annotations

import json
import logging
import uuid
from datetime import UTC, datetime

import polars as pl
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_moesif import ComponentId, Context, Events
from otel_moesif.schema import SCHEMA


class Counters:
    """A context, and what was counted through it."""

    def __init__(self, name="p"):
        self._reader = InMemoryMetricReader()
        meter = MeterProvider([self._reader]).get_meter("test")
        self.context = Context(ComponentId(name), logging.getLogger(f"otel_moesif.test.{name}"), meter)

    def read(self, instrument, key="reason"):
        data = self._reader.get_metrics_data()
        metrics = (
            [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        )
        points = [p for m in metrics if m.name == instrument for p in m.data.data_points]
        return {point.attributes[key]: point.value for point in points}


def identity(number) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))


def make(*rows) -> Events:
    """Events of rows; whatever is not said is as the schema has it."""
    rows = [{"transactionId": identity(number), **row} for number, row in enumerate(rows)]
    names = dict.fromkeys(name for row in rows for name in row)
    data = {name: [row.get(name) for row in rows] for name in names}
    return Events(pl.DataFrame(data, schema_overrides={name: SCHEMA[name] for name in names}))


def headers(**values):
    return [{"key": key.replace("_", "-"), "value": value} for key, value in values.items()]


def properties(events: Events):
    return [None if text is None else json.loads(text) for text in events.frame["customProperties"]]


def untouched(before: Events, after: Events, *touched: str):
    """Same rows in the same order, same values in all columns but some."""
    rest = [name for name in SCHEMA if name not in touched]
    assert after.frame.schema == SCHEMA
    assert after.frame.select(rest).equals(before.frame.select(rest), null_equal=True)


_TEXT = (
    st.none()
    | st.sampled_from(["UNKNOWN", "", "a", "b", 'q"\\\n', "é😀", "10", "x@y.example"])
    | st.text(max_size=8)
)
_VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text(max_size=4)
    | st.lists(st.integers(0, 3), max_size=2)
)
_OBJECT = st.dictionaries(st.sampled_from(["tier", "plan", "k k", "{}", "é"]), _VALUE, max_size=4)
_HEADERS = st.none() | st.lists(
    st.fixed_dictionaries(
        {
            "key": st.none() | st.sampled_from(["Authorization", "accept", "x"]),
            "value": st.none() | st.text(max_size=6),
        }
    ),
    max_size=3,
)
_ROW = st.fixed_dictionaries(
    {},
    optional={
        "apiName": _TEXT,
        "userName": _TEXT,
        "userIp": st.none() | st.sampled_from(["UNKNOWN", "10.1.2.3", "::1", "2001:db8::7", "x"]),
        "requestUri": st.none()
        | st.sampled_from(["/a?b=c", "https://h/%41?token=1&x=%", "%%%", "?"])
        | st.text(max_size=9),
        "eventType": st.sampled_from(["response", "fault"]),
        "proxyResponseCode": st.none() | st.integers(0, 599),
        "responseLatency": st.none() | st.integers(0, 2**40),
        "weight": st.none() | st.integers(1, 2**31 - 1),
        "responseCacheHit": st.none() | st.booleans(),
        "requestTimestamp": st.none() | st.just(datetime(2026, 1, 2, tzinfo=UTC)),
        "requestHeaders": _HEADERS,
        "requestBody": st.none() | _OBJECT.map(json.dumps) | st.text(max_size=9),
        "requestBodyEncoding": st.sampled_from([None, "json", "base64"]),
        "customProperties": st.none()
        | _OBJECT.map(json.dumps)
        | _OBJECT.map(lambda o: json.dumps(o, ensure_ascii=False)),
        "transactionId": st.none() | st.integers(0, 99).map(identity) | st.just("no uuid"),
    },
)
EVENTS = st.lists(_ROW, max_size=6).map(lambda rows: make(*rows) if rows else Events.none())

"""Moesif's limits (apidocs _errors.md): age, size of events, bodies and requests."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.exporters.moesif.identity import Identity
from otel_moesif.exporters.moesif.limits import fitted, late, parts, too_old
from otel_moesif.exporters.moesif.mapping import Mapping
from otel_moesif.exporters.moesif.settings import BODY_BYTES, EVENT_BYTES, IdentitySettings, MoesifSettings
from tests.exporters.mapped import mapped, texts

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


def test_events_of_more_than_30_days_are_too_old(events):
    days = [NOW - timedelta(days=30), NOW - timedelta(days=30, milliseconds=1), NOW + timedelta(days=400)]
    batch = events(
        *({"requestTimestamp": day} for day in days), {"requestTimestamp": ..., "responseTimestamp": ...}
    )
    assert too_old(batch.frame, NOW) == [1]


def test_an_event_without_a_start_is_as_old_as_its_end(events):
    batch = events({"requestTimestamp": ..., "responseTimestamp": NOW - timedelta(days=31)}, {})
    assert too_old(batch.frame, NOW) == [0, 1]
    assert late(batch.frame, NOW) == 2


def test_events_of_more_than_5_minutes_are_late(events):
    ages = [timedelta(minutes=5), timedelta(minutes=5, milliseconds=1), timedelta(0), timedelta(days=40)]
    assert late(events(*({"requestTimestamp": NOW - age} for age in ages)).frame, NOW) == 2


@pytest.mark.parametrize("age", [timedelta(days=30), timedelta(minutes=5)])
@pytest.mark.parametrize("beyond", [0, 1])
def test_the_earliest_event_decides_whether_any_is_looked_at(events, age, beyond):
    batch = events(
        {"requestTimestamp": NOW}, {"requestTimestamp": NOW - age - timedelta(milliseconds=beyond)}
    )
    assert too_old(batch.frame, NOW) == [1] * (beyond and age == timedelta(days=30))
    assert late(batch.frame, NOW) == (beyond or age == timedelta(days=30))


# -- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 100, 101, 102, 103])
@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (json.dumps({"text": "é" * 200}, ensure_ascii=False), "json"),
        ("ü" * 200, None),
        ("x" * 77, None),
        (base64.b64encode(bytes(range(256))).decode(), "base64"),
        (base64.b64encode(bytes(101)).decode(), "base64"),
    ],
)
def test_a_body_that_is_too_long_is_its_beginning_as_base64_with_its_size_in_the_metadata(
    events, limit, body, encoding
):
    change = {"requestBody": body, "requestBodyEncoding": encoding, "responseBody": body}
    event, plain = mapped(events(change | {"responseBodyEncoding": encoding}, {}), max_body_size=limit)
    whole = base64.b64decode(body) if encoding == "base64" else body.encode()
    for way in ("request", "response"):
        sent = event[way]["body"]
        assert event[way]["transfer_encoding"] == "base64"
        assert len(sent) <= limit
        decoded = base64.b64decode(sent, validate=True)
        assert whole.startswith(decoded)
        assert event["metadata"].get(f"{way}BodyTruncated", len(whole)) == len(whole)
        assert (f"{way}BodyTruncated" in event["metadata"]) == (decoded != whole)
        assert f"{way}BodyTruncated" not in plain["metadata"]


def test_a_mark_is_there_once_whatever_the_properties_say(events):
    change = {"customProperties": '{"requestBodyTruncated":"no","otelMoesifTrimmed":1,"plan":"gold"}'}
    cut, plain = texts(events(change | {"requestBody": "x" * 99}, change), max_body_size=40)
    assert cut.count('"requestBodyTruncated"') == 1
    metadata = json.loads(cut)["metadata"]
    assert (metadata["requestBodyTruncated"], metadata["plan"]) == (99, "gold")
    assert plain.count('"requestBodyTruncated"') == 1


@pytest.mark.parametrize("size", [0, 1])
def test_a_json_body_may_be_exactly_as_long_as_the_limit(events, size):
    body = json.dumps({"a": "é" * 50}, ensure_ascii=False)
    [event] = mapped(events({"requestBody": body}), max_body_size=len(body.encode()) - size)
    assert (event["request"]["transfer_encoding"] == "json") == (size == 0)


def test_without_a_size_for_them_there_are_no_bodies(events):
    [event] = mapped(events({"requestBody": "{}", "responseBody": "x" * 10**6}), max_body_size=0)
    assert not {"body", "transfer_encoding"} & (event["request"].keys() | event["response"].keys())
    assert not [key for key in event["metadata"] if "Truncated" in key]


@settings(max_examples=40, deadline=None)
@given(st.text(), st.integers(1, 40), st.sampled_from(["json", "base64", None]))
def test_whatever_a_body_is_the_event_is_json(body, limit, encoding):
    frame = pl.DataFrame(
        {"requestBody": [body], "requestBodyEncoding": [encoding]},
        schema_overrides={"requestBodyEncoding": pl.String},
    )
    from otel_moesif import Events  # noqa: PLC0415

    [event] = mapped(Events(frame), max_body_size=limit)
    sent = event["request"]["body"]
    if event["request"]["transfer_encoding"] == "base64":
        base64.b64decode(sent, validate=True)
        assert len(sent) <= limit
    else:
        assert sent == json.loads(body)


# -- events that are too long -----------------------------------------------------------------------------


def fit(batch, end=""):
    mapping = Mapping(MoesifSettings(application_id="unused"), end)
    frame = Identity(IdentitySettings()).columns(batch.frame)
    return fitted(mapping.encode(frame), frame, mapping)


def headers(size):
    return [{"key": "x-long", "value": "h" * size}]


def test_an_event_that_is_too_long_loses_as_little_as_is_enough(events):
    near = BODY_BYTES - 10
    body = {"requestBody": json.dumps("r" * near), "responseBody": json.dumps("a" * near)}
    body = {"requestBody": json.dumps(["r" * near]), "responseBody": json.dumps(["a" * near])}
    long = json.dumps({"note": "c" * 900_000})
    found, never = fit(
        events(
            {},
            {**body, "customProperties": json.dumps({"note": "c" * 200_000})},
            {**body, "requestHeaders": headers(700_000)},
            {"requestHeaders": headers(600_000), "responseHeaders": headers(600_000), **body},
            {"customProperties": long, "responseHeaders": headers(200_000)},
            {"customProperties": json.dumps({"note": "c" * 1_100_000})},
            {"apiName": "n" * 1_000_001},
            {},
        )
    )
    assert never == [6]
    sent = [json.loads(text) for text in found]
    assert [event["metadata"].get("otelMoesifTrimmed") for event in sent] == [
        None,
        ["response.body"],
        ["response.body", "request.body"],
        ["response.body", "request.body", "request.headers", "response.headers"],
        ["response.headers"],
        ["customProperties"],
        None,
        None,
    ]
    assert found.str.len_bytes().gt(EVENT_BYTES).to_list() == [False] * 6 + [True, False]
    assert "body" in sent[1]["request"]
    assert "body" not in sent[1]["response"]
    assert sent[1]["metadata"]["note"] == "c" * 200_000
    assert sent[3]["request"]["headers"].keys() == {"User-Agent"}
    assert sent[4]["metadata"]["note"] == "c" * 900_000
    assert sent[0] == sent[7]


def test_bytes_count_not_characters(events):
    found, never = fit(events({"customProperties": json.dumps({"x": "é" * 600_000}, ensure_ascii=False)}))
    assert never == []
    assert json.loads(found[0])["metadata"]["otelMoesifTrimmed"] == ["customProperties"]


def test_events_that_fit_are_left_alone(events):
    batch = events({"requestBody": "{}"}, {})
    found, never = fit(batch)
    assert never == []
    assert found.to_list() == texts(batch).to_list()


def test_what_stands_after_an_event_does_not_count(events):
    rest = EVENT_BYTES - len(texts(events({"apiName": ""}))[0])
    batch = events({"apiName": "n" * rest}, {"apiName": "n" * (rest + 1)})
    found, never = fit(batch, end=",")
    assert found.str.len_bytes().to_list() == [EVENT_BYTES + 1, EVENT_BYTES + 2]
    assert found.str.ends_with("},").all()
    assert never == [1]


# -- parts of a batch -------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=20), st.integers(1, 60), st.integers(0, 5))
def test_parts_are_as_few_as_fit_and_none_is_empty_or_lost(values, most, before):
    # of a slice, and in two pieces: what counts is what the series shows, not what its buffers hold
    every = [json.dumps(value, ensure_ascii=False) + "," for value in ["left out"] * before + values]
    series = pl.concat([pl.Series(every[:7], dtype=pl.String), pl.Series(every[7:], dtype=pl.String)])
    found = [json.loads(b"[" + part + b"]") for part in parts(series.slice(before), most)]
    assert [value for part in found for value in part] == values

    def size(some):
        return len(json.dumps(some, ensure_ascii=False, separators=(",", ":")).encode())

    for part in found:
        assert len(part) == 1 or size(part) <= most
        assert part
    for part, following in itertools.pairwise(found):
        assert size([*part, following[0]]) > most

"""Any event is one for Moesif's own Python client and for the documented model that the sandbox has."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moesifapi.models import EventModel

from otel_moesif import Events
from otel_moesif.schema import BY_NAME
from tests.exporters.mapped import CALLS, ROWS, TEXTS, mapped, texts
from tests.exporters.test_moesif_golden import GOLDEN

SCALARS = (
    *("transaction_id", "user_id", "company_id", "session_token"),
    *("direction", "weight", "metadata"),
)
# stricter than the sandbox, which takes WSO2's paths, too
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]\S*\Z")


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_any_text_is_sent_as_it_is_and_no_null(rows):
    events = Events(pl.DataFrame(rows, schema=dict.fromkeys(TEXTS, pl.String)))
    for text, row in zip(texts(events), rows, strict=True):
        event = json.loads(text)
        request = event["request"]
        for name, sent in {
            "transactionId": event.get("transaction_id"),
            "traceId": event.get("trace_id"),
            "spanId": event.get("span", {}).get("id"),
            "apiName": event["metadata"]["apiName"],
            "apiId": event["metadata"]["apiId"],
            "userName": event["metadata"]["userName"],
            "responseContentType": event["metadata"]["responseContentType"],
        }.items():
            assert sent == (row[name] if row[name] is not None else BY_NAME[name].default), name
        assert request["verb"] == (row["apiMethod"] or BY_NAME["apiMethod"].default)
        for part in (event, request, event["metadata"], event.get("span", {})):
            assert None not in part.values()


@settings(max_examples=60, deadline=None)
@given(CALLS, st.sampled_from(["none", "wso2"]))
def test_the_official_client_reads_every_event(events, compatibility):
    for event in mapped(events, compatibility=compatibility):
        model = EventModel.from_dictionary(event)
        for name in SCALARS:
            if name != "transaction_id" or name in event:  # without one it makes its own
                assert getattr(model, name) == event.get(name), name
        assert model.tags is None
        for name in ("uri", "verb", "headers", "api_version", "ip_address", "body", "transfer_encoding"):
            assert getattr(model.request, name) == event["request"].get(name), name
        assert model.request.time.isoformat()[:19] == event["request"]["time"][:19]
        assert (model.response is None) == ("response" not in event)
        if model.response:
            for name in ("status", "headers", "body", "transfer_encoding"):
                assert getattr(model.response, name) == event["response"].get(name), name
            assert model.response.time.isoformat()[:19] == event["response"]["time"][:19]


@settings(max_examples=60, deadline=None)
@given(CALLS, st.sampled_from(["none", "wso2"]))
def test_the_sandbox_finds_no_fault_in_any_event(events, compatibility):
    model = pytest.importorskip("otel_moesif_sandbox.model")
    if compatibility == "wso2":  # its paths are the gateway's templates, which have no blanks
        paths = [pl.col(name).str.replace_all(r"\s", "_") for name in ("apiContext", "apiResourceTemplate")]
        rooted = pl.format("/{}", pl.col("apiContext")).alias("apiContext")
        events = Events(events.frame.with_columns(paths).with_columns(rooted))
    found = mapped(events, compatibility=compatibility)
    assert model.faults(found) == []
    codes = events.frame["proxyResponseCode"]
    assert [("response" in event) for event in found] == [code != 0 for code in codes]
    if compatibility == "none":
        assert all(ABSOLUTE.match(event["request"]["uri"]) for event in found)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_the_official_client_reads_the_golden_events(path):
    event = json.loads(path.read_text())
    model = EventModel.from_dictionary(event)
    assert model.response.status == event["response"]["status"]
    assert model.request.headers == event["request"]["headers"]

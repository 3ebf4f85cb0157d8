"""Any event is one for Moesif's own Python client and for the documented model that the sandbox has."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from moesifapi.models import EventModel

from otel_moesif import Events
from otel_moesif.schema import BY_NAME
from tests.exporters.mapped import ROWS, TEXTS, mapped, texts


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
            "apiMethod": request["verb"],
            "apiName": event["metadata"]["apiName"],
            "apiId": event["metadata"]["apiId"],
            "userName": event["metadata"]["userName"],
            "responseContentType": event["metadata"]["responseContentType"],
        }.items():
            assert sent == (row[name] if row[name] is not None else BY_NAME[name].default), name
        for part in (event, request, event["metadata"], event.get("span", {})):
            assert None not in part.values()


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_the_official_client_reads_every_event(rows):
    for event in mapped(Events(pl.DataFrame(rows, schema=dict.fromkeys(TEXTS, pl.String)))):
        model = EventModel.from_dictionary(event)
        for name in (
            "transaction_id",
            "user_id",
            "company_id",
            "session_token",
            "direction",
            "weight",
            "metadata",
        ):
            if name != "transaction_id" or name in event:  # without one it makes its own
                assert getattr(model, name) == event.get(name), name
        assert model.tags is None
        for name in ("uri", "verb", "headers", "api_version", "ip_address", "body", "transfer_encoding"):
            assert getattr(model.request, name) == event["request"].get(name), name
        assert model.request.time.isoformat()[:19] == event["request"]["time"][:19]
        if "response" in event:
            assert model.response.status == event["response"]["status"]


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_the_sandbox_finds_no_fault_in_any_event(rows):
    model = pytest.importorskip("otel_moesif_sandbox.model")
    ours = ("transactionId", "apiMethod", "requestUri")  # which receivers and dialects see to
    rows = [{name: None if name in ours else value for name, value in row.items()} for row in rows]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(TEXTS, pl.String))
    # a path cannot hold blanks
    paths = [pl.col(name).str.replace_all(r"\s", "_") for name in ("apiContext", "apiResourceTemplate")]
    assert model.faults(mapped(Events(frame.with_columns(paths)))) == []

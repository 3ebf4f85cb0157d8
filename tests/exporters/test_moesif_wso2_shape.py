"""compatibility: wso2, field by field after SimpleMoesifClient of 2026 (wso2.md section 2.1)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from moesifapi.models import EventModel

from otel_moesif import Events
from tests.exporters.mapped import FAULT, ROWS, TEXTS, mapped

FIXED = {
    "Vary": "Accept-Encoding",
    "Pragma": "no-cache",
    "Expires": "-1",
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "no-cache",
}
METADATA = {
    *("apiId", "apiMethod", "apiName", "apiType", "applicationId", "applicationName", "applicationOwner"),
    *("gatewayType", "keyType", "apiCreator", "apiCreatorTenantDomain", "apiVersion", "correlationId"),
    *("responseCacheHit", "userName", "targetResponseCode", "apiResourceTemplate"),
    # what stands among the properties
    *("apiContext", "commonName", "responseContentType", "subType", "isEgress", "responseSize"),
}
LATENCIES = {"backendLatency", "responseLatency", "requestMediationLatency", "responseMediationLatency"}


@pytest.fixture
def one(events):
    def make(**change):
        [event] = mapped(events(change), compatibility="wso2")
        return event

    return make


def test_a_response(one):
    event = one(
        userName="alice@carbon.super", companyId="acme", sessionToken="k", userAgentHeader="curl/8.5.0"
    )
    metadata = event.pop("metadata")
    assert event == {
        "request": {
            "time": "2022-01-20T03:34:36.451Z",
            "uri": "/pizza/1.0.0/order/{id}",
            "verb": "GET",
            "api_version": "1.0.0",
            "ip_address": "203.0.113.7",
            "headers": {"User-Agent": "curl/8.5.0", "Content-Type": "application/json"},
        },
        "response": {"time": "2022-01-20T03:34:36.524Z", "status": 200, "headers": FIXED},
        "user_id": "alice",
        "transaction_id": "6f1c1b0e-4b8e-5f0a-9a54-0d7f8f3f0a11",
        "weight": 1,
    }
    assert metadata.keys() == METADATA | LATENCIES | {"destination"}
    assert metadata["responseLatency"] == 73
    assert metadata["userName"] == "alice@carbon.super"


def test_a_fault(one):
    event = one(**FAULT, userName="alice@carbon.super")
    assert event["response"]["status"] == 429
    assert event["request"]["uri"] == "/pizza/1.0.0/order/{id}"
    assert event["user_id"] == "alice"
    assert event["request"]["ip_address"] == "203.0.113.7"
    assert event["metadata"].keys() == METADATA | {"errorCode", "errorMessage", "errorType"}


@pytest.mark.parametrize("kind", [{}, FAULT])
def test_what_is_not_known_is_not_available(one, kind):
    unknown = {"apiContext": ..., "apiMethod": ..., "userName": ..., "userIp": ..., "userAgentHeader": ...}
    event = one(**{**kind, **unknown})
    assert event["request"]["uri"] == event["request"]["verb"] == "N/A"
    assert event["user_id"] == "UNKNOWN"
    assert event["request"]["headers"]["User-Agent"] == "UNKNOWN"
    assert event["request"]["ip_address"] == "0.0.0.0"  # noqa: S104 - nothing is bound


def test_the_gateways_url_comes_first(events):
    url = "https://gw.example.com/pizza/1.0.0/order/7?size=xl"
    custom = json.dumps({"x-original-gw-url": url, "tier": "gold"})
    with_url, without = mapped(events({"customProperties": custom}, {}), compatibility="wso2")
    assert with_url["request"]["uri"] == url
    assert with_url["metadata"]["tier"] == "gold"
    assert without["request"]["uri"] == "/pizza/1.0.0/order/{id}"


def test_captured_headers_take_the_place_of_fixed_ones(events):
    captured = {
        "requestHeaders": [{"key": "content-type", "value": "text/xml"}, {"key": "x-a", "value": "1"}],
        "responseHeaders": [{"key": "Cache-Control", "value": "max-age=1"}],
    }
    event, plain = mapped(events({**captured, "userAgentHeader": "curl"}, {}), compatibility="wso2")
    assert event["request"]["headers"] == {"User-Agent": "curl", "content-type": "text/xml", "x-a": "1"}
    expected = {name: value for name, value in FIXED.items() if name != "Cache-Control"}
    assert event["response"]["headers"] == {**expected, "cache-control": "max-age=1"}
    assert plain["response"]["headers"] == FIXED


def test_a_captured_body_brings_its_type(events):
    custom = json.dumps({"requestContentType": "text/plain"})
    with_body, without = mapped(
        events({"customProperties": custom, "requestBody": "hi"}, {"customProperties": custom}),
        compatibility="wso2",
    )
    assert with_body["request"]["headers"]["Content-Type"] == "text/plain"
    assert with_body["request"]["transfer_encoding"] == "base64"
    assert without["request"]["headers"]["Content-Type"] == "application/json"


def test_ids_besides_the_user_are_sent_only_where_they_are_configured(events):
    batch = events({"companyId": "acme", "sessionToken": "s"})
    [event] = mapped(batch, compatibility="wso2", identity={"company_id": ["companyId"]})
    assert event["company_id"] == "acme"
    assert "session_token" not in event


def test_a_call_that_nobody_answered_has_no_response(one):
    assert "response" not in one(proxyResponseCode=0)


def test_a_batch_of_many_events_is_what_its_events_are_one_by_one(events):
    start = datetime(2022, 1, 20, 3, tzinfo=UTC)
    changes = [
        {
            "requestTimestamp": start,
            "userName": f"u{number % 3}@carbon.super" if number % 2 else "UNKNOWN",
            "requestHeaders": [{"key": "x-n", "value": str(number)}] if number % 3 else None,
            **(FAULT if number % 11 == 0 else {}),
        }
        for number in range(300)
    ]
    batch = events(*changes)
    many = mapped(batch, compatibility="wso2")
    assert many == [mapped(batch.slice(number, 1), compatibility="wso2")[0] for number in range(300)]


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_the_official_client_reads_every_event(rows):
    for event in mapped(
        Events(pl.DataFrame(rows, schema=dict.fromkeys(TEXTS, pl.String))), compatibility="wso2"
    ):
        model = EventModel.from_dictionary(event)
        assert model.request.headers == event["request"]["headers"]
        assert model.metadata == event["metadata"]
        assert model.user_id == event["user_id"]
        assert model.weight == event["weight"] >= 1

"""Traefik's access log over OTLP, in hand-written records: no capture of one was found."""

from __future__ import annotations

import uuid

import pytest

from otel_moesif.processors.apim_event.processor import NAMESPACE
from tests.dialects.otlp import (
    MS,
    SERVER,
    START,
    One,
    Record,
    dialects_of,
    event,
    events,
    given,
    make_logs,
    make_spans,
)

SCOPE = "github.com/traefik/traefik"

LOG = {
    "StartUTC": START,
    "StartLocal": START,
    "Duration": 50 * MS,
    "OriginDuration": 30 * MS,
    "Overhead": 20 * MS,
    "RouterName": "orders@file",
    "ServiceName": "shop-orders@file",
    "ServiceURL": "http://10.0.0.2:80/orders/7",
    "ServiceAddr": "10.0.0.2:80",
    "ClientAddr": "10.0.0.9:5123",
    "ClientHost": "192.0.2.7, 10.0.0.9",
    "ClientUsername": "alice",
    "RequestMethod": "GET",
    "RequestPath": "/v1/orders/7?x=1",
    "RequestScheme": "https",
    "RequestHost": "shop.example",
    "RequestAddr": "shop.example:8443",
    "RequestContentSize": 12,
    "OriginStatus": 200,
    "DownstreamStatus": 200,
    "DownstreamContentSize": 345,
    "TLSClientSubject": "CN=device-1,O=Example",
    "TraceId": f"{7:032x}",
    "SpanId": f"{8:016x}",
    "request_User-Agent": "curl/8",
    "request_Authorization": "s3cret",
    "downstream_Content-Type": "application/json",
}
NOT_PROXIED = dict.fromkeys(("OriginStatus", "OriginDuration", "ServiceURL", "ServiceAddr"))


def record(**changes):
    attributes = {k: v for k, v in {**LOG, **changes}.items() if v is not None}
    return Record("192.0.2.7 - alice [..] GET", attributes, trace=7, span=8, time=51)


def logged(**changes):
    return event(make_logs(record(**changes), scope="traefik"))


def test_a_log_record_is_one_event():
    expected = {
        "apiContext": "/v1",
        "apiId": "orders@file",
        "apiMethod": "GET",
        "apiName": "shop-orders",
        "apiResourceTemplate": "/v1/orders/7",
        "applicationName": "alice",
        "backendLatency": 30,
        "commonName": "device-1",
        "correlationId": f"{7:032x}",
        "destination": "http://10.0.0.2:80/orders/7",
        "errorType": None,
        "eventType": "response",
        "gatewayType": "TRAEFIK",
        "proxyResponseCode": 200,
        "requestHeaders": [{"key": "user-agent", "value": "curl/8"}],
        "requestMediationLatency": 20,
        "requestSize": 12,
        "requestUri": "https://shop.example:8443/v1/orders/7?x=1",
        "responseContentType": "application/json",
        "responseLatency": 50,
        "responseMediationLatency": 0,
        "responseSize": 345,
        "targetResponseCode": 200,
        "userAgentHeader": "curl/8",
        "userIp": "192.0.2.7",
        "userName": "alice",
    }
    found = logged()
    assert given(found, expected) == expected
    assert "s3cret" not in repr(found)
    assert found["requestTimestamp"].timestamp() * 1000 == START // MS


def test_spans_and_log_of_a_call_have_one_id():
    served = {"entry_point": "web", "http.request.method": "GET", "http.response.status_code": 200}
    spans = event(make_spans(One(SERVER, 8, trace=7, attributes=served), scope=SCOPE))
    same = str(uuid.uuid5(uuid.UUID(NAMESPACE), f"{7:032x}:{8:016x}"))
    assert {spans["transactionId"], logged()["transactionId"]} == {same}
    # and where only the record or only its attributes have the ids
    assert logged(TraceId=None, SpanId=None)["transactionId"] == same
    bare = Record("", {**LOG})
    assert event(make_logs(bare, scope="traefik"))["transactionId"] == same


@pytest.mark.parametrize(
    ("status", "changes", "kind", "target", "error"),
    [
        (401, NOT_PROXIED, "fault", -1, "AUTH"),
        (403, {**NOT_PROXIED, "OriginStatus": 0, "OriginDuration": 0}, "fault", -1, "AUTH"),
        (404, NOT_PROXIED, "fault", -1, "OTHER"),
        (429, NOT_PROXIED, "fault", -1, "THROTTLED"),
        (503, NOT_PROXIED, "fault", -1, "TARGET_CONNECTIVITY"),
        (502, {"OriginStatus": 502}, "fault", -1, "TARGET_CONNECTIVITY"),
        (504, {"OriginStatus": 504}, "fault", -1, "TARGET_CONNECTIVITY"),
        (499, {"OriginStatus": 499}, "fault", -1, "OTHER"),
        (500, {"OriginStatus": 200}, "fault", 200, "OTHER"),
        (404, {"OriginStatus": 404}, "response", 404, None),
        (500, {"OriginStatus": 500}, "response", 500, None),
        (308, NOT_PROXIED, "response", -1, None),
    ],
)
def test_whose_answer_was_logged(status, changes, kind, target, error):
    found = logged(DownstreamStatus=status, **changes)
    assert (found["eventType"], found["targetResponseCode"], found["errorType"]) == (kind, target, error)


def test_what_was_not_proxied_went_nowhere_and_took_no_time_there():
    found = logged(DownstreamStatus=308, **{**NOT_PROXIED, "OriginDuration": 0, "OriginStatus": 0})
    assert (found["destination"], found["backendLatency"], found["requestMediationLatency"]) == (
        "UNKNOWN",
        0,
        50,
    )


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        (
            "{Scheme:http Opaque: User: Host:10.0.0.2:80 Path:/a RawPath: OmitHost:false}",
            "http://10.0.0.2:80/a",
        ),
        ("{Scheme:http Opaque: User: Host:10.0.0.2:80 Path: RawPath: OmitHost:false}", "http://10.0.0.2:80"),
        ("http://u:p@10.0.0.2:80/a", "http://10.0.0.2:80/a"),
        (None, "10.0.0.2:80"),
    ],
)
def test_the_services_url_in_any_form(url, destination):
    assert logged(ServiceURL=url)["destination"] == destination


def test_missing_values():
    found = logged(ClientUsername="-", ServiceName=None, StartUTC=None, StartLocal=None, Overhead=None,
                   RequestContentSize=-1, ClientHost=None)  # fmt: skip
    expected = {
        "userName": "UNKNOWN",
        "apiName": "orders",
        "requestSize": None,
        "requestMediationLatency": 20,
        "responseLatency": 50,
        "userIp": "10.0.0.9",
    }
    assert given(found, expected) == expected
    assert found["requestTimestamp"].microsecond == 1000


def test_traefiks_own_log_makes_no_events():
    line = Record("Configuration loaded", {"RouterName": "orders@file", "error": "none"})
    logs = make_logs(line, scope="traefik")
    assert (dialects_of(logs), events(logs)) == (["traefik"], [])

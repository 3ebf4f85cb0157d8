"""Kong's access log and runtime log, in hand-written records; the real one is in test_kong.py."""

from __future__ import annotations

import dataclasses
import logging

import polars as pl
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings
from tests.dialects import otlp
from tests.dialects.otlp import Record, dialects_of, event, events, given, make_logs

LOG = {
    "log.type": "access",
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "url.path": "/v1/orders/7",
    "url.full": "https://shop.example/v1/orders/7?x=1",
    "client.address": "192.0.2.7",
    "kong.request.id": "abc",
    "kong.request.started_at": 1_750_000_000_000.0,
    "kong.response.source": "upstream",
    "kong.upstream.status_code": 200,
    "kong.upstream.uri": "/orders/7?x=1",
    "kong.upstream.try.1.ip": "10.0.1.1",
    "kong.service.protocol": "https",
    "kong.service.host": "orders.internal",
    "kong.service.port": 443,
    "kong.route.id": "r-1",
    "kong.route.name": "orders",
    "kong.route.paths.1": "/",
    "kong.route.paths.2": "/v1/orders",
    "kong.route.paths.3": "/v1",
    "kong.latency.total": 50.0,
    "kong.latency.upstream": 30.0,
    "kong.latency.internal": 15.0,
    "kong.auth.consumer.id": "c-1",
    "kong.auth.consumer.username": "alice",
}
# What a plugin's answer lacks.
NO_TRY = {
    "kong.response.source": "kong",
    "kong.upstream.status_code": None,
    "kong.upstream.uri": None,
    "kong.upstream.try.1.ip": None,
    "kong.latency.upstream": -1.0,
}


def record(**more):
    attributes = {**LOG, **{key.replace("__", "."): value for key, value in more.items()}}
    return Record("GET /v1", {k: v for k, v in attributes.items() if v is not None}, time=52)


def logged(changes=None):
    return event(make_logs(record(**(changes or {})), scope="api-access"))


def test_a_log_record_says_who_called_what():
    expected = {
        "apiContext": "/v1/orders",
        "apiId": "r-1",
        "apiName": "orders",
        "apiResourceTemplate": "/v1/orders",  # the longest of the route's paths that fit
        "applicationId": "c-1",
        "applicationName": "alice",
        "backendLatency": 30,
        "destination": "https://orders.internal/orders/7?x=1",
        "requestMediationLatency": 15,
        "responseLatency": 50,
        "responseMediationLatency": 5,
        "userName": "alice",
    }
    assert given(logged(), expected) == expected


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (403, ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (404, ("OTHER", "RESOURCE_NOT_FOUND", 404)),
        (429, ("THROTTLED", "OTHER", 900800)),
        (500, ("OTHER", "UNCLASSIFIED", 500)),
    ],
)
def test_a_logged_answer_of_kongs_own_is_a_fault(status, error):
    found = logged({**NO_TRY, "http.response.status_code": status})
    assert (found["eventType"], found["targetResponseCode"], found["destination"]) == (
        "fault",
        -1,
        "UNKNOWN",
    )
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error


def test_a_logged_success_of_kongs_own_has_no_backend():
    found = logged({**NO_TRY, "http.response.header.x-cache-status": "Hit"})
    assert (found["eventType"], found["targetResponseCode"]) == ("response", -1)
    assert (found["backendLatency"], found["requestMediationLatency"]) == (0, 50)
    assert found["responseCacheHit"] is True


@pytest.mark.parametrize(
    ("source", "upstream", "status", "kind", "target"),
    [
        ("upstream", 503, 503, "response", 503),
        ("upstream", "502, 200", 200, "response", 200),  # Kong before 3.13.0.1
        ("kong", 502, 502, "fault", -1),  # nginx, not the backend
        ("kong", "504, 504", 504, "fault", -1),
        ("kong", 200, 500, "fault", 200),  # a plugin did not like the answer
    ],
)
def test_whose_status_it_was(source, upstream, status, kind, target):
    found = logged(
        {
            "kong.response.source": source,
            "kong.upstream.status_code": upstream,
            "http.response.status_code": status,
        }
    )
    assert (found["eventType"], found["targetResponseCode"]) == (kind, target)


def test_a_record_without_its_start_ends_when_it_was_written():
    found = logged({"kong.request.started_at": None})
    assert (found["requestTimestamp"].microsecond, found["responseLatency"]) == (2000, 50)
    found = logged({"kong.latency.total": None})
    assert found["responseLatency"] == 52


def test_a_header_that_came_several_times_is_one_and_secrets_stay_out_in_any_number():
    found = logged(
        {
            "http.response.header.set-cookie.1": "a=s3cret",
            "http.response.header.set-cookie.2": "b=s3cret",
            "http.request.header.authorization": "s3cret",
            "http.request.header.apikey": "s3cret",
            "http.request.header.accept.1": "a/b",
            "http.request.header.accept.2": "c/d",
        }
    )
    assert "s3cret" not in repr(found)
    assert found["requestHeaders"] == [{"key": "accept", "value": "a/b"}, {"key": "accept", "value": "c/d"}]
    assert found["responseHeaders"] is None


def test_a_grpc_service_is_told_by_its_protocol():
    assert logged({"kong.service.protocol": "grpcs"})["apiType"] == "GRPC"


def test_numbers_may_come_as_texts_beside_another_gateways_integers():
    other = otlp.log_request(Record(attributes={"kong.service.port": "x", "status": 1}), scope="other")
    mine = otlp.log_request(record(**{"kong.service.port": 8080.0}), scope="api-access")
    found = event(otlp.decode_logs([other, mine]))
    assert found["destination"] == "https://orders.internal:8080/orders/7?x=1"


def test_runtime_logs_are_recognised_and_counted_as_no_calls():
    line = Record(
        "init_by_lua*: [kong] init",
        {"request.id": "abc", "introspection.source": "init.lua", "introspection.current.line": 12.0},
    )
    logs = make_logs(line, line, scope="kong-internal")
    assert dialects_of(logs) == ["kong"]
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("t")
    context = Context(ComponentId("apim_event"), logging.getLogger(), meter, otel_moesif_dialects())
    assert len(ApimEvent(ApimEventSettings(), context).process(logs)) == 0
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (metric.name, point.value) == ("otelcol_processor_dropped_items", 2)
    assert point.attributes["reason"] == "not an access-log record"


def test_stream_records_of_the_access_log_are_no_calls():
    tcp = Record("tcp", {"log.type": "access", "kong.subsystem": "stream", "kong.latency.total": 3.0})
    assert events(make_logs(tcp, scope="api-access")) == []


@pytest.mark.parametrize(
    ("protocol", "status", "kind"), [("grpcs", 200, "GRPC"), ("wss", 101, "WS"), ("https", 200, "HTTP")]
)
def test_the_services_protocol_tells_the_kind_of_api(protocol, status, kind):
    codes = {"http.response.status_code": status, "kong.upstream.status_code": status}
    found = logged({"kong.service.protocol": protocol, **codes})
    assert (found["apiType"], found["eventType"]) == (kind, "response")


def test_a_header_that_came_as_a_double_is_the_number_that_it_was():
    found = logged({"http.response.header.x-kong-proxy-latency": 45.0, "http.response.header.x-share": 0.5})
    assert found["responseHeaders"] == [
        {"key": "x-kong-proxy-latency", "value": "45"},
        {"key": "x-share", "value": "0.5"},
    ]


def test_a_record_without_a_time_of_its_own_was_made_when_it_was_observed():
    batch = make_logs(record(**{"kong.request.started_at": None}), scope="api-access")
    found = event(dataclasses.replace(batch, frame=batch.frame.with_columns(time=pl.lit(0, pl.Int64))))
    assert found["responseTimestamp"].isoformat() == "2025-06-15T15:06:40.052000+00:00"


@pytest.mark.parametrize(("threshold", "weight"), [("c", 4), ("8", 2), ("0", 1), ("none", 1)])
def test_a_record_that_was_sampled_stands_for_as_many_as_it_says(threshold, weight):
    assert logged({"sampling.threshold": threshold})["weight"] == weight

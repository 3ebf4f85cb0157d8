"""Envoy's and Envoy Gateway's access log: the configured formats, and hand-written cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from tests.dialects.otlp import One, Record, dialects_of, event, events, fixture, given, make_logs, make_spans

BUILT_IN = {"log_name": "edge", "zone_name": "zone-a", "cluster_name": "edge", "node_name": "edge-1"}
GATEWAY = {**BUILT_IN, "log_name": "otel_envoy_accesslog"}
PODS = {"k8s.namespace.name": "envoy-gateway-system", "k8s.pod.name": "envoy-1"}


def record(**more):
    attributes = {
        "method": "GET",
        "x-envoy-origin-path": "/orders/7?a=b",
        "protocol": "HTTP/1.1",
        "response_code": "200",
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "bytes_received": "3",
        "bytes_sent": "18",
        "duration": "100",
        "x-envoy-upstream-service-time": "70",
        "x-forwarded-for": "203.0.113.9,10.0.0.9",
        "user-agent": "curl/8",
        "x-request-id": "r-1",
        ":authority": "shop.example",
        "upstream_host": "10.0.0.1:80",
        "upstream_cluster": "httproute/default/orders/rule/0",
        "downstream_remote_address": "192.0.2.7:4711",
        "route_name": "httproute/default/orders/rule/0/match/0/shop_example",
        **PODS,
        **{key.replace("__", "-"): value for key, value in more.items()},
    }
    return Record(attributes={key: value for key, value in attributes.items() if value is not None})


LOGGED = {
    "gatewayType": "ENVOY_GATEWAY",
    "eventType": "response",
    "apiName": "default/orders",
    "apiMethod": "GET",
    "apiResourceTemplate": "/orders/7",
    "apiContext": "/orders",
    "apiType": "HTTP",
    "correlationId": "r-1",
    "proxyResponseCode": 200,
    "targetResponseCode": 200,
    "destination": "10.0.0.1:80",
    "responseLatency": 100,
    "backendLatency": 70,
    "requestMediationLatency": 30,
    "responseMediationLatency": 0,
    "userAgentHeader": "curl/8",
    "userIp": "203.0.113.9",
    "regionId": "zone-a",
    "responseSize": 18,
    "requestSize": 3,
    "requestUri": "http://shop.example/orders/7?a=b",
}


def test_envoy_gateways_default_attributes_give_every_field():
    assert given(event(make_logs(record(), resource=GATEWAY)), LOGGED) == LOGGED


def test_older_envoy_gateways_write_the_same_as_json_text():
    text = "{" + ",".join(f'"{key}":"{value}"' for key, value in record().attributes.items()) + "}\n"
    found = event(make_logs(Record(text, PODS), resource=GATEWAY))
    assert given(found, LOGGED) == LOGGED


def test_the_text_format_that_envoy_gateways_tests_configure_is_read():
    config = yaml.safe_load(fixture("gateways/envoy-gateway/accesslog.listeners.yaml").read_text())
    (logger,) = [
        one["typedConfig"]
        for one in config[0]["accessLog"]
        if one["name"] == "envoy.access_loggers.open_telemetry"
    ]
    values = {
        "%START_TIME%": "2026-11-25T17:00:00.123Z",
        "%REQ(:METHOD)%": "POST",
        "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%": "/orders?a=b",
        "%PROTOCOL%": "HTTP/2",
        "%RESPONSE_CODE%": "504",
        "%RESPONSE_FLAGS%": "UT",
        "%BYTES_RECEIVED%": "5",
        "%BYTES_SENT%": "24",
        "%DURATION%": "201",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%": "-",
        "%REQ(X-FORWARDED-FOR)%": "203.0.113.9",
        "%REQ(USER-AGENT)%": 'an "odd" agent',
        "%REQ(X-REQUEST-ID)%": "r-2",
        "%REQ(:AUTHORITY)%": "shop.example",
        "%UPSTREAM_HOST%": "10.0.0.1:80",
        "%ENVIRONMENT(ENVOY_POD_NAMESPACE)%": "envoy-gateway-system",
        "%ENVIRONMENT(ENVOY_POD_NAME)%": "envoy-1",
    }

    def filled(text):
        for operator, value in values.items():
            text = text.replace(operator, value)
        assert "%" not in text
        return text

    attributes = {one["key"]: filled(one["value"]["stringValue"]) for one in logger["attributes"]["values"]}
    resource = {**GATEWAY, "log_name": logger["commonConfig"]["logName"], "cluster_name": "cluster1"}
    found = event(make_logs(Record(filled(logger["body"]["stringValue"]), attributes), resource=resource))
    expected = {
        "gatewayType": "ENVOY_GATEWAY",
        "eventType": "fault",
        "errorType": "TARGET_CONNECTIVITY",
        "errorMessage": "CONNECTION_TIMEOUT",
        "apiMethod": "POST",
        "apiResourceTemplate": "/orders",
        "proxyResponseCode": 504,
        "targetResponseCode": -1,
        "correlationId": "r-2",
        "requestSize": 5,
        "responseSize": 24,
        "requestUri": "http://shop.example/orders?a=b",
    }
    assert given(found, expected) == expected
    assert found["requestTimestamp"].isoformat() == "2026-11-25T17:00:00.123000+00:00"
    assert (found["responseTimestamp"] - found["requestTimestamp"]).total_seconds() == 0.201


@pytest.mark.parametrize(
    ("more", "kind", "codes", "error"),
    [
        ({"response_code": "404"}, "response", (404, 404), None),
        ({"response_code": "403", "response_flags": "UAEX", "response_code_details": "ext_authz_denied"},
         "fault", (403, -1), "AUTH"),
        ({"response_code": "401", "response_code_details": "jwt_authn_access_denied{Jwt_is_missing}"},
         "fault", (401, -1), "AUTH"),
        ({"response_code": "429", "response_flags": "RL", "response_code_details": "local_rate_limited"},
         "fault", (429, -1), "THROTTLED"),
        ({"response_code": "301", "response_code_details": "direct_response", "upstream_host": "-"},
         "response", (301, -1), None),
        ({"response_code": "503", "response_flags": "URX"}, "response", (503, 503), None),
        ({"response_code": "0", "response_flags": "DC", "response_code_details": "downstream_disconnect"},
         "fault", (0, -1), "OTHER"),
        ({"response_code": "200", "response_code_details": "websocket_handshake_unsuccessful"},
         "response", (200, 200), None),
        # the answer had begun when it was broken off
        ({"response_code": "101", "response_flags": "DC", "response_code_details": "downstream_disconnect"},
         "response", (101, 101), None),
        ({"response_code": "500", "response_flags": "DC", "response_code_details": "downstream_disconnect"},
         "response", (500, 500), None),
        ({"response_code_details": "stream_idle_timeout"}, "response", (200, 200), None),
        ({"response_code": "503", "response_code_details": "upstream_reset_after_response_started{remote}"},
         "response", (503, 503), None),
        ({"grpc_status": "NotFound"}, "response", (404, 404), None),
        ({"grpc_status": "NOT_FOUND"}, "response", (404, 404), None),
        ({"grpc_status": "5"}, "response", (404, 404), None),
        ({"grpc_status": "OK"}, "response", (200, 200), None),
        ({"grpc_status": "Unavailable", "response_flags": "UF", "response_code_details": "upstream_reset"},
         "fault", (503, -1), "TARGET_CONNECTIVITY"),
        # without the details: by flag and host
        ({"response_code": "503", "response_code_details": None}, "response", (503, 503), None),
        ({"response_code": "503", "response_code_details": None, "response_flags": "UF"},
         "fault", (503, -1), "TARGET_CONNECTIVITY"),
        ({"response_code": "401", "response_code_details": "-", "upstream_host": "-"},
         "fault", (401, -1), "AUTH"),
    ],
)  # fmt: skip
def test_the_outcome_of_hand_written_records(more, kind, codes, error):
    found = event(make_logs(record(**more), resource=GATEWAY))
    assert (found["eventType"], found["errorType"]) == (kind, error)
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == codes


def test_a_duration_beyond_all_bounds_stops_nobody():
    assert event(make_logs(record(duration="9" * 400), resource=GATEWAY))["responseLatency"] == 0


def test_a_record_without_a_trace_is_told_apart_by_what_it_says():
    batch = make_logs(record(), record(x__request__id="r-2"), resource=GATEWAY)
    assert len({found["transactionId"] for found in events(batch)}) == 2


def test_the_type_of_a_logged_call():
    assert event(make_logs(record(grpc_status="OK"), resource=GATEWAY))["apiType"] == "GRPC"
    assert event(make_logs(record(grpc_status="-"), resource=GATEWAY))["apiType"] == "HTTP"
    assert event(make_logs(record(response_code="101"), resource=GATEWAY))["apiType"] == "WS"


def test_tcp_connections_and_other_records_are_no_calls():
    tcp = record(response_code="0", method="-", x__envoy__origin__path="-", protocol="-")
    assert events(make_logs(tcp, Record("started", PODS), resource=GATEWAY)) == []


def test_a_record_and_a_span_of_one_call_have_one_id():
    logged = replace(record(), trace=1, span=1)
    ids = {
        event(make_spans(One(), scope="envoy"))["transactionId"],
        event(make_logs(logged, resource=GATEWAY))["transactionId"],
    }
    assert len(ids) == 1


# Detection.


@pytest.mark.parametrize(
    ("resource", "attributes", "dialect"),
    [
        (GATEWAY, PODS, "envoy_gateway"),
        ({**GATEWAY, **PODS}, {}, "envoy_gateway"),
        (GATEWAY, {}, "envoy"),  # the name alone is that of Envoy's documentation
        (BUILT_IN, {}, "envoy"),
        ({}, {"response_code": "200", "response_flags": "-"}, "envoy"),
        ({"log_name": "x"}, {"response_code": "200"}, "semconv"),
    ],
)
def test_records_are_known_by_resource_or_keys(resource, attributes, dialect):
    assert dialects_of(make_logs(Record("x", attributes), resource=resource)) == [dialect]

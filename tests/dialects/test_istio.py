"""Istio: tags and the default text of its access log, hand-written after istio's own sources."""

from __future__ import annotations

import pytest

from tests.dialects.otlp import (
    CLIENT,
    SERVER,
    One,
    Record,
    apim_event,
    dialects_of,
    event,
    events,
    given,
    make_logs,
    make_spans,
)

ENVOY = {"service.name": "productpage.default", "telemetry.sdk.name": "envoy"}
TAGS = {
    "istio.canonical_service": "productpage",
    "istio.canonical_revision": "v1",
    "istio.namespace": "default",
    "istio.mesh_id": "cluster.local",
    "istio.cluster_id": "Kubernetes",
}
OUTBOUND = "outbound|9080||reviews.default.svc.cluster.local"


def span(
    kind=SERVER, cluster=OUTBOUND, name="reviews.default.svc.cluster.local:9080/*", status="200", **more
):
    attributes = {
        "guid:x-request-id": "r-1",
        "http.url": "http://reviews:9080/reviews/0",
        "http.method": "GET",
        "component": "proxy",
        "upstream_cluster": cluster,
        "upstream_cluster.name": cluster,
        "http.status_code": status,
        "response_flags": "-",
        "peer.address": "10.0.0.7",
        **TAGS,
        **more,
    }
    return One(kind, attributes=attributes, name=name)


def of(*specs):
    return event(make_spans(*specs, resource=ENVOY, scope="envoy"))


def line(**more):
    """One line in the default format, in the order of ``EnvoyTextLogFormat``."""
    values = {
        "start": "2020-11-25T21:26:18.409Z",
        "request": "GET /status/418?a=b HTTP/1.1",
        "code": "418",
        "flags": "-",
        "details": "via_upstream",
        "termination": "-",
        "reason": "-",
        "received": "0",
        "sent": "135",
        "duration": "14",
        "upstream": "4",
        "forwarded": "203.0.113.9,10.0.0.9",
        "agent": "curl/7.73.0-DEV",
        "id": "84961386-6d84-929d-98bd-c5aee93b5c88",
        "authority": "httpbin:8000",
        "host": "127.0.0.1:80",
        "cluster": "outbound|8000||httpbin.foo.svc.cluster.local",
        "route": "default",
        "server": "-",
        **more,
    }
    return (
        '[{start}] "{request}" {code} {flags} {details} {termination} "{reason}" {received} {sent} {duration}'
        ' {upstream} "{forwarded}" "{agent}" "{id}" "{authority}" "{host}" {cluster} 10.44.1.27:37652'
        " 10.0.45.184:8000 10.44.1.23:46520 {server} {route}\n"
    ).format_map(values)


def logged(text, **more):
    return event(make_logs(Record(text, **more), resource={}))


def test_a_gateways_span_names_the_service_that_is_called():
    backend = {"http.status_code": "200", "upstream_address": "10.0.0.9:9080", **TAGS}
    router = One(CLIENT, 2, 1, 10, 90, backend, f"router {OUTBOUND}; egress")
    found = of(span(), router)
    expected = {
        "gatewayType": "ISTIO",
        "eventType": "response",
        "apiName": "reviews.default",
        "apiMethod": "GET",
        "apiResourceTemplate": "/reviews/0",
        "correlationId": "r-1",
        "destination": "10.0.0.9:9080",
        "backendLatency": 80,
        "userIp": "10.0.0.7",
        "targetResponseCode": 200,
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        (OUTBOUND, "reviews.default"),
        ("outbound|80||httpbin.org", "httpbin.org"),
        ("outbound|9080|v2|reviews.default.svc.cluster.local;", "reviews.default"),
        ("outbound_.9080_._.reviews.default.svc.cluster.local", "reviews.default"),
        ("inbound|9080||", "productpage.default"),
        ("PassthroughCluster", "productpage.default"),
    ],
)
def test_a_cluster_is_read_as_the_service_behind_it(cluster, name):
    assert of(span(cluster=cluster))["apiName"] == name


def test_a_waypoint_knows_both_ends():
    ends = {
        "istio.destination_canonical_service": "reviews",
        "istio.destination_namespace": "shop",
        "istio.source_canonical_service": "frontend",
        "istio.source_namespace": "web",
    }
    found = of(span(cluster="inbound-vip|9080|http|reviews", **ends))
    assert (found["apiName"], found["applicationName"]) == ("reviews.shop", "frontend.web")


def test_a_sidecars_egress_span_is_a_call_of_its_own():
    found = of(span(CLIENT, name="egress reviews:9080"))
    assert (found["apiName"], found["eventType"], found["proxyResponseCode"]) == (
        "reviews.default",
        "response",
        200,
    )


def test_each_proxy_on_the_way_reports_its_call():
    gateway = span()
    router = One(CLIENT, 2, 1, 10, 90, {"http.status_code": "404", **TAGS}, f"router {OUTBOUND} egress")
    sidecar = One(SERVER, 3, 2, 20, 80, span(cluster="inbound|9080||", status="404").attributes, "inbound")
    found = events(make_spans(gateway, router, sidecar, resource=ENVOY, scope="envoy"))
    assert [one["apiName"] for one in found] == ["reviews.default", "productpage.default"]
    assert found[0]["targetResponseCode"] == 404


LINE = {
    "gatewayType": "ISTIO",
    "eventType": "response",
    "apiName": "httpbin.foo",
    "apiMethod": "GET",
    "apiResourceTemplate": "/status/418",
    "apiContext": "/status",
    "correlationId": "84961386-6d84-929d-98bd-c5aee93b5c88",
    "proxyResponseCode": 418,
    "targetResponseCode": 418,
    "destination": "127.0.0.1:80",
    "responseLatency": 14,
    "backendLatency": 4,
    "requestMediationLatency": 10,
    "responseMediationLatency": 0,
    "userAgentHeader": "curl/7.73.0-DEV",
    "userIp": "203.0.113.9",
    "responseSize": 135,
    "requestSize": 0,
    "requestUri": "http://httpbin:8000/status/418?a=b",
}


def test_a_line_of_the_default_format_gives_every_field():
    found = logged(line(), time=99)
    assert given(found, LINE) == LINE
    # The line's own time counts: it may have been read from a file much later.
    assert found["requestTimestamp"].isoformat() == "2020-11-25T21:26:18.409000+00:00"


@pytest.mark.parametrize("resource", [{}, {"k8s.pod.name": "httpbin-1"}, {"service.name": "filelog"}])
def test_a_line_is_known_whoever_sends_it(resource):
    batch = make_logs(Record(line()), Record("something else"), resource=resource)
    assert dialects_of(batch)[0] == "istio"
    assert len(events(batch)) == 1


@pytest.mark.parametrize(
    ("more", "kind", "codes", "error"),
    [
        ({"code": "200"}, "response", (200, 200), None),
        ({"code": "503", "flags": "UH", "details": "no_healthy_upstream", "host": "-", "upstream": "-"},
         "fault", (503, -1), "TARGET_CONNECTIVITY"),
        ({"code": "403", "details": "rbac_access_denied_matched_policy[none]", "upstream": "-"},
         "fault", (403, -1), "AUTH"),
        ({"code": "429", "flags": "RL", "details": "local_rate_limited", "host": "-", "upstream": "-"},
         "fault", (429, -1), "THROTTLED"),
        ({"code": "404", "flags": "NR", "details": "route_not_found", "host": "-", "cluster": "-"},
         "fault", (404, -1), "OTHER"),
        ({"code": "301", "details": "direct_response", "host": "-"}, "response", (301, -1), None),
        ({"code": "101"}, "response", (101, 101), None),
        ({"code": "503", "flags": "UF,URX", "details": "upstream_reset_before_response_started{remote_reset}",
          "reason": "delayed_connect_error:_111"}, "fault", (503, -1), "TARGET_CONNECTIVITY"),
        ({"code": "0", "flags": "DC", "details": "downstream_remote_disconnect"}, "fault", (0, -1), "OTHER"),
    ],
)  # fmt: skip
def test_the_outcome_of_hand_written_lines(more, kind, codes, error):
    found = logged(line(**more))
    assert (found["eventType"], found["errorType"]) == (kind, error)
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == codes


def test_a_sidecar_names_the_service_by_what_was_asked_of_it():
    asked = "outbound_.8000_._.httpbin.foo.svc.cluster.local"
    assert logged(line(cluster="inbound|8000||", server=asked))["apiName"] == "httpbin.foo"
    assert logged(line(cluster="inbound|8000||", server="httpbin.example"))["apiName"] == "default"


def test_dashes_are_missing_values():
    found = logged(line(agent="-", forwarded="-", host="-", upstream="-", id="-", cluster="-", route="-"))
    assert (found["userAgent"], found["destination"], found["apiName"]) == ("UNKNOWN", "UNKNOWN", "UNKNOWN")
    assert (found["userIp"], found["correlationId"], found["backendLatency"]) == ("10.44.1.23", "UNKNOWN", 0)


@pytest.mark.parametrize(
    "text",
    [
        line(request="- - -", code="0"),  # a TCP connection
        line(code="abc"),
        line()[:120],
        '[2020-11-25T21:26:18.409Z] "GET / HTTP/1.1" 200',
        "",
    ],
)
def test_lines_that_cannot_be_read_are_counted_and_make_no_event(text):
    processor = apim_event()
    counted = []
    processor._dropped = type(
        "Counter", (), {"add": lambda _, rows, labels: counted.append((rows, labels["reason"]))}
    )()
    assert len(processor.process(make_logs(Record(text), Record(line()), resource={}))) == 1
    assert counted == [(1, "not an access-log record")]


def test_labels_have_names_with_underscores():
    labels = {
        "method": "GET",
        "path": "/status/418?a=b",
        "response_code": "418",
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "bytes_received": "0",
        "bytes_sent": "135",
        "duration": "14",
        "upstream_service_time": "4",
        "x_forwarded_for": "203.0.113.9,10.0.0.9",
        "user_agent": "curl/7.73.0-DEV",
        "request_id": "84961386-6d84-929d-98bd-c5aee93b5c88",
        "authority": "httpbin:8000",
        "upstream_host": "127.0.0.1:80",
        "upstream_cluster": "outbound|8000||httpbin.foo.svc.cluster.local",
    }
    assert given(event(make_logs(Record("", labels), resource={})), LINE) == LINE


def test_tags_make_an_envoy_an_istio_and_nobody_else():
    assert dialects_of(make_spans(span(), resource=ENVOY, scope="envoy")) == ["istio"]
    alone = make_spans(
        One(attributes=TAGS), resource={"service.name": "app"}
    )  # an application that copies them
    assert dialects_of(alone) == ["semconv"]
    assert dialects_of(make_spans(One(), resource=ENVOY, scope="envoy")) == ["envoy"]

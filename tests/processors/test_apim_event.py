"""Spans in, events out: what counts as response and fault, latencies, identity, defaults."""

from __future__ import annotations

import base64
import json
import logging
import uuid
from pathlib import Path

import polars as pl
import pytest
from google.protobuf import json_format
from opentelemetry.metrics import get_meter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context
from otel_moesif.errors import ConfigError
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings

MS = 1_000_000
START = 1_750_000_000_000 * MS
FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"


def processor(**options) -> ApimEvent:
    context = Context(ComponentId("apim_event"), logging.getLogger(), get_meter("t"), otel_moesif_dialects())
    return ApimEvent(ApimEventSettings(**options), context)


def spans(*specs, trace=1, service="shop"):
    """Each spec: (kind, id, parent, start ms, end ms, attributes)."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_spans.add()
    for kind, id_, parent, start, end, attributes in specs:
        one = scope.spans.add(
            trace_id=trace.to_bytes(16, "big"),
            span_id=id_.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            kind=kind,
            start_time_unix_nano=START + start * MS,
            end_time_unix_nano=START + end * MS,
        )
        for key, value in attributes.items():
            target = one.attributes.add(key=key).value
            if isinstance(value, int):
                target.int_value = value
            else:
                target.string_value = value
    return decode_spans([message.SerializeToString()])


def server(status, **more):
    attributes = {"http.request.method": "GET", "http.response.status_code": status, **more}
    return (Span.SPAN_KIND_SERVER, 1, 0, 0, 100, attributes)


def client(status=None, start=10, end=90, id_=2, **more):
    attributes = {
        "http.request.method": "GET",
        **({"http.response.status_code": status} if status else {}),
        **more,
    }
    return (Span.SPAN_KIND_CLIENT, id_, 1, start, end, attributes)


def event(*specs, **options):
    (found,) = processor(**options).process(spans(*specs)).frame.to_dicts()
    return found


@pytest.mark.parametrize(
    ("specs", "kind", "target", "error"),
    [
        ([server(200), client(200)], "response", 200, None),
        ([server(404), client(404)], "response", 404, None),
        ([server(500), client(500)], "response", 500, None),
        ([server(301)], "response", -1, None),
        ([server(401)], "fault", -1, ("AUTH", "AUTHENTICATION_FAILURE", 401)),
        ([server(403)], "fault", -1, ("AUTH", "AUTHORIZATION_FAILURE", 403)),
        ([server(429)], "fault", -1, ("THROTTLED", "OTHER", 429)),
        ([server(404)], "fault", -1, ("OTHER", "RESOURCE_NOT_FOUND", 404)),
        ([server(503), client(**{"error.type": "timeout"})], "fault", -1,
         ("TARGET_CONNECTIVITY", "OTHER", 503)),
        ([server(504), client(**{"error.type": "timeout"})], "fault", -1,
         ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 504)),
        ([server(502), client(200)], "fault", 200, ("TARGET_CONNECTIVITY", "OTHER", 502)),
        ([server(200), client(503, 10, 40), client(200, 50, 90, 3)], "response", 200, None),
    ],
)  # fmt: skip
def test_response_or_fault(specs, kind, target, error):
    found = event(*specs)
    assert (found["eventType"], found["targetResponseCode"]) == (kind, target)
    given = (found["errorType"], found["errorMessage"], found["errorCode"])
    assert given == (error or (None, None, None))


def test_latencies_are_those_of_the_last_attempt():
    found = event(server(200), client(503, 5, 30), client(200, 40, 95, 3))
    parts = ("responseLatency", "backendLatency", "requestMediationLatency", "responseMediationLatency")
    assert [found[part] for part in parts] == [100, 55, 40, 5]


def test_latencies_are_never_negative():
    found = event(server(200), client(200, -3, 104))
    assert (found["requestMediationLatency"], found["responseMediationLatency"]) == (0, 0)


def test_a_fault_has_no_latencies():
    assert event(server(401))["responseLatency"] is None


@pytest.mark.parametrize(
    "names",
    [
        {"http.request.method": "POST", "url.path": "/a/b", "url.query": "c=d", "url.scheme": "https",
         "server.address": "shop.example", "http.response.status_code": 201, "client.address": "192.0.2.7",
         "user_agent.original": "curl/8"},
        {"http.method": "POST", "http.target": "/a/b?c=d", "http.scheme": "https",
         "http.host": "shop.example", "http.status_code": "201", "http.client_ip": "192.0.2.7:1234",
         "http.user_agent": "curl/8"},
        {"http.method": "POST", "url.full": "https://shop.example/a/b?c=d", "http.status_code": 201,
         "net.sock.peer.addr": "192.0.2.7", "http.request.header.user_agent": "curl/8"},
    ],
    ids=["stable", "legacy", "mixed"],
)  # fmt: skip
def test_stable_and_legacy_names_give_the_same_event(names):
    found = event((Span.SPAN_KIND_SERVER, 1, 0, 0, 1, names))
    assert found["requestUri"] == "https://shop.example/a/b?c=d"
    given = (
        found["apiMethod"],
        found["apiResourceTemplate"],
        found["apiContext"],
        found["proxyResponseCode"],
    )
    assert given == ("POST", "/a/b", "/a", 201)
    assert (found["userIp"], found["userAgent"], found["apiName"]) == ("192.0.2.7", "curl/8", "shop")


def test_identity_and_defaults():
    found = event(server(200))
    assert found["transactionId"] == str(
        uuid.uuid5(uuid.UUID(bytes=b"otel-moesif/call"), f"{1:032x}:{1:016x}")
    )
    assert (found["apiId"], found["commonName"], found["regionId"]) == ("UNKNOWN", "N/A", "default")


def test_spans_that_are_no_calls_make_no_events():
    database = (Span.SPAN_KIND_CLIENT, 3, 1, 1, 2, {"db.system": "redis"})
    inner = (Span.SPAN_KIND_INTERNAL, 4, 1, 1, 2, {"http.request.method": "GET"})
    queue = (Span.SPAN_KIND_SERVER, 5, 0, 1, 2, {"messaging.system": "kafka"})
    found = event(server(401), database, inner, queue)
    assert found["eventType"] == "fault"  # and the database is not the backend


def test_a_backend_span_may_come_in_an_earlier_batch():
    mine = processor()
    first = mine.process_held(spans(client(500)), None)
    assert (len(first.batch), first.held.height) == (0, 1)
    second = mine.process_held(spans(server(500)), first.held)
    assert second.batch.frame["eventType"].to_list() == ["response"]
    assert second.held.height == 0


def test_what_waits_is_bounded_in_time_and_number():
    mine = processor(assembly={"timeout": "10s", "max_rows": 2})
    held = mine.process_held(spans(*(client(200, id_=n) for n in range(2, 7))), None).held
    assert held.height == 2
    old = held.with_columns(pl.col("since") - 11_000 * MS)
    assert mine.process_held(spans(server(200), trace=2), old).held.height == 0


def test_further_properties_keep_their_types():
    found = event(server(200, **{"plan.level": 3, "tenant": 'a"b'}),
                  properties={"level": "plan.level", "who": ["nobody", "tenant"], "none": "x"})  # fmt: skip
    assert json.loads(found["customProperties"]) == {"level": 3, "who": 'a"b'}


def test_captured_headers_without_secrets():
    found = event(
        server(200, **{"http.request.header.accept": "a/b", "http.request.header.authorization": "s3cret"})
    )
    assert found["requestHeaders"] == [{"key": "accept", "value": "a/b"}]


def test_the_dialect_can_be_chosen():
    assert event(server(200), gateway="semconv")["gatewayType"] == "OTEL"
    with pytest.raises(ConfigError, match='no dialect "enovy"'):
        processor(gateway="enovy")
    with pytest.raises(ValueError, match="apiName"):
        processor(properties={"apiName": "x"})


def test_a_real_envoy_span():
    file = FIXTURES / "gateways/kgateway-envoy/envoy-1.34.1-kgateway.traces.json"
    if not file.exists():
        pytest.skip("../shared/fixtures is not here")
    document = json.loads(file.read_text())
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for one in scope["spans"]:
                for key in one.keys() & {"traceId", "spanId", "parentSpanId"}:
                    one[key] = base64.b64encode(bytes.fromhex(one[key])).decode()
    message = json_format.ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    (found,) = processor().process(decode_spans([message.SerializeToString()])).frame.to_dicts()
    given = (found["gatewayType"], found["apiMethod"], found["proxyResponseCode"], found["eventType"])
    assert given == ("ENVOY", "GET", 200, "response")
    assert found["requestUri"] == "http://www.example.com/status/200"
    assert found["correlationId"] == "b5fa5226-ad2f-90a1-bd3a-e02d834301cd"

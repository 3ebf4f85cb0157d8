"""Spans in, events out: what counts as response and fault, latencies, identity, defaults."""

from __future__ import annotations

import base64
import json
import logging
import uuid
from dataclasses import replace
from pathlib import Path

import jwt
import polars as pl
import pytest
from google.protobuf import json_format
from opentelemetry.metrics import get_meter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context, Held
from otel_moesif.errors import ConfigError
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings
from otel_moesif.spans import SCHEMA as SPANS
from otel_moesif.spans import Spans

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
            if isinstance(value, bool):
                target.bool_value = value
            elif isinstance(value, int):
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
    """The event of one call, of a sender that was seen to report its backend calls."""
    seen = processor(**options)
    seen.process(spans(server(200), client(200)))
    (found,) = seen.process(spans(*specs)).frame.to_dicts()
    return found


@pytest.mark.parametrize(
    ("specs", "kind", "target", "error"),
    [
        ([server(200), client(200)], "response", 200, None),
        ([server(404), client(404)], "response", 404, None),
        ([server(500), client(500)], "response", 500, None),
        ([server(301)], "response", -1, None),
        ([server(401)], "fault", -1, ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        ([server(403)], "fault", -1, ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        ([server(429)], "fault", -1, ("THROTTLED", "OTHER", 900800)),
        ([server(404)], "fault", -1, ("OTHER", "RESOURCE_NOT_FOUND", 404)),
        ([server(503), client(**{"error.type": "timeout"})], "fault", -1,
         ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        ([server(504), client(**{"error.type": "timeout"})], "fault", -1,
         ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 101504)),
        ([server(502), client(200)], "fault", 200, ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        ([server(200), client(503, 10, 40), client(200, 50, 90, 3)], "response", 200, None),
    ],
)  # fmt: skip
def test_response_or_fault(specs, kind, target, error):
    found = event(*specs)
    assert (found["eventType"], found["targetResponseCode"]) == (kind, target)
    given = (found["errorType"], found["errorMessage"], found["errorCode"])
    assert given == (error or (None, None, None))


@pytest.mark.parametrize("status", [200, 401, 404, 429, 500, 503])
def test_where_no_backend_call_is_ever_reported_its_absence_proves_nothing(status):
    (found,) = processor().process(spans(server(status))).frame.to_dicts()
    assert (found["eventType"], found["proxyResponseCode"]) == ("response", status)
    assert found["targetResponseCode"] == status
    assert found["errorType"] is None


def test_a_caller_that_left_was_answered_by_nobody():
    (found,) = processor().process(spans(server(499))).frame.to_dicts()
    assert (found["eventType"], found["proxyResponseCode"]) == ("response", 499)
    assert found["targetResponseCode"] == -1


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
    assert (found["userIp"], found["userAgentHeader"], found["apiName"]) == ("192.0.2.7", "curl/8", "shop")


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


S = 1_000_000_000


def held(processed=None, now=0, since=None, ending=False):
    """What a processor gave back, as the converter gives it again."""
    own = [
        pl.lit(since if since is not None else now, pl.Int64).alias("since"),
        pl.lit(1, pl.Int64).alias("piece"),
    ]
    rows = {name: frame.with_columns(own) for name, frame in (processed.held if processed else {}).items()}
    return Held(rows, now, ending)


def test_a_backend_span_may_come_in_an_earlier_batch():
    mine = processor()
    first = mine.process_held(spans(client(500)), held())
    assert (len(first.batch), first.held["children"].height, first.due) == (0, 1, 30 * S)
    second = mine.process_held(spans(server(500)), held(first))
    assert second.batch.frame["eventType"].to_list() == ["response"]
    assert not any(rows.height for rows in second.held.values())


def test_a_backend_span_may_come_in_a_later_batch():
    mine = processor()
    mine.process_held(
        spans(server(200), client(200), trace=9), held()
    )  # this sender reports its backend calls
    first = mine.process_held(spans(server(500)), held(now=S))
    assert (len(first.batch), first.held["calls"].height, first.due) == (0, 1, 2 * S)
    second = mine.process_held(spans(client(500)), held(first, S, since=S))
    assert second.batch.frame.select("eventType", "backendLatency").rows() == [("response", 80)]
    assert not any(rows.height for rows in second.held.values())
    assert second.due is None


def test_a_call_whose_backend_span_never_comes_leaves_in_time():
    mine = processor(assembly={"wait": "3s"})
    mine.process_held(spans(server(200), client(200), trace=9), held())
    first = mine.process_held(spans(server(401)), held(now=S))
    waits = mine.process_held(spans(server(200), client(200), trace=8), held(first, 3 * S, since=S))
    assert (len(waits.batch), waits.due) == (1, 4 * S)
    last = mine.process_held(Spans(SPANS.to_frame(), {}, (), 0), held(waits, 4 * S, since=S))
    assert last.batch.frame["errorType"].to_list() == ["AUTH"]
    assert (last.held["calls"].height, last.due) == (0, None)


def test_a_call_does_not_wait_where_backend_spans_come_first_or_never():
    mine = processor(assembly={"wait": "0s"})
    mine.process_held(spans(server(200), client(200), trace=9), held())
    assert len(mine.process_held(spans(server(500)), held()).batch) == 1
    assert (
        len(processor().process_held(spans(server(500)), held()).batch) == 1
    )  # nobody saw a CLIENT span yet


def test_what_waits_is_bounded_in_time_and_number():
    mine = processor(assembly={"timeout": "10s", "max_rows": 2})
    first = mine.process_held(spans(*(client(200, id_=n) for n in range(2, 7))), held())
    assert first.held["children"].height == 2
    later = mine.process_held(spans(server(200), trace=2), held(first, 11 * S, since=0))
    assert later.held["children"].height == 0


def test_calls_beyond_the_bound_leave_early_instead_of_getting_lost():
    mine = processor(assembly={"max_rows": 2})
    mine.process_held(spans(server(200), client(200), trace=9), held())
    one = mine.process_held(spans(*((*server(200)[:1], n, *server(200)[2:]) for n in range(11, 16))), held())
    assert (len(one.batch), one.held["calls"].height) == (3, 2)


def test_at_the_end_nothing_waits():
    mine = processor()
    mine.process_held(spans(server(200), client(200), trace=9), held())
    first = mine.process_held(spans(server(500)), held())
    last = mine.process_held(Spans(SPANS.to_frame(), {}, (), 0), held(first, ending=True))
    assert (len(last.batch), last.due) == (1, None)


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


@pytest.mark.parametrize(
    ("state", "weight"),
    [("ot=th:8", 2), ("a=b,ot=rv:1;th:c", 4), ("ot=th:0", 1), ("ot=th:fd70a4", 100), ("ot=rv:1", 1), ("", 1)],
)
def test_a_sampled_call_stands_for_as_many_as_its_trace_state_says(state, weight):
    batch = spans(server(200))
    rows = batch.frame.with_columns(trace_state=pl.lit(state))
    assert processor().process(replace(batch, frame=rows)).frame["weight"].item() == weight


def internal(id_, parent, **attributes):
    return (Span.SPAN_KIND_INTERNAL, id_, parent, 5, 95, attributes)


def test_a_backend_span_is_found_through_the_spans_between():
    through = (*client(404, id_=9)[:2], 8, *client(404)[3:])
    found = event(server(404), internal(7, 1), internal(8, 7), through)
    assert (found["eventType"], found["targetResponseCode"], found["backendLatency"]) == ("response", 404, 80)


def test_spans_that_stand_in_a_ring_stop_nobody():
    ring = [internal(7, 8), internal(8, 7)]
    below = (*client(404, id_=9)[:2], 8, *client(404)[3:])
    assert event(server(200), *ring, below)["eventType"] == "response"


def test_spans_between_may_come_in_another_batch_than_those_below_them():
    mine = processor()
    below = (*client(404, id_=9)[:2], 8, *client(404)[3:])
    first = mine.process_held(spans(below), held())
    second = mine.process_held(spans(internal(8, 7)), held(first))
    third = mine.process_held(spans(internal(7, 1), server(404)), held(second))
    assert third.batch.frame["targetResponseCode"].to_list() == [404]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [(0, 200, "response"), (5, 404, "response"), ("UNAUTHENTICATED", 401, "response"), (14, 503, "response")],
)
def test_a_grpc_status_counts_under_the_http_status_that_it_amounts_to(code, status, kind):
    key = "rpc.grpc.status_code" if isinstance(code, int) else "rpc.response.status_code"
    rpc = {"rpc.system": "grpc", key: code}
    found = event((Span.SPAN_KIND_SERVER, 1, 0, 0, 100, rpc), (Span.SPAN_KIND_CLIENT, 2, 1, 10, 90, rpc))
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == (status, status)
    assert (found["eventType"], found["apiType"]) == (kind, "GRPC")


def test_a_websocket_has_no_latencies_worth_the_name():
    found = event(server(101), client(101))
    parts = ("responseLatency", "backendLatency", "requestMediationLatency", "responseMediationLatency")
    assert (found["apiType"], [found[part] for part in parts]) == ("WS", [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("priority", "weight"), [(1, 1), ("1", 1), ("0.5", 1), (0, 4), ("0", 4), (-1, 4), ("high", 4), (None, 4)]
)
def test_a_call_that_was_kept_whatever_the_rate_stands_for_itself_alone(priority, weight):
    more = {} if priority is None else {"sampling.priority": priority}
    batch = spans(server(200, **more))
    rows = batch.frame.with_columns(trace_state=pl.lit("ot=th:c"))
    assert processor().process(replace(batch, frame=rows)).frame["weight"].item() == weight


@pytest.mark.parametrize(
    ("status", "code"),
    [(-1, 0), (1, 0), (99999999999, 0), ("2xx", 0), ("200", 200), ("200.0", 200), (0, 0), (999, 999)],
)
def test_what_is_no_status_is_none(status, code):
    found = event(server(status))
    assert (found["proxyResponseCode"], found["eventType"]) == (code, "response" if code < 400 else "fault")


@pytest.mark.parametrize(("start", "end"), [(START + 5, START), (START, 0), (0, START)])
def test_an_answer_never_ends_before_its_call(start, end):
    batch = spans(server(200))
    rows = batch.frame.with_columns(start=pl.lit(start), end=pl.lit(end))
    (found,) = processor().process(replace(batch, frame=rows)).frame.to_dicts()
    assert found["responseLatency"] == 0
    assert found["requestTimestamp"] == found["responseTimestamp"]
    assert found["requestTimestamp"].year == 2025


def test_a_websocket_is_answered_at_once_however_long_it_lasts():
    found = event(server(101))
    assert found["apiType"] == "WS"
    assert found["requestTimestamp"] == found["responseTimestamp"]


@pytest.mark.parametrize("header", ["authorization", "x-jwt-assertion", "x-user-token", "X_User_Token"])
def test_a_header_with_the_token_goes_no_further(header):
    token = jwt.encode({"sub": "alice"}, "k" * 32)
    key = f"http.request.header.{header}"
    call = server(200, **{key: token, "http.request.header.accept": "a/b"})
    found = event(call, jwt={"attributes": [key], "claims": {"userName": "sub"}})
    assert found["userName"] == "alice"
    assert found["requestHeaders"] == [{"key": "accept", "value": "a/b"}]

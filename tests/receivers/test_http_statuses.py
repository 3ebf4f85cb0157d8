"""OTLP/HTTP against the specification: a status for everything, and a Status to read with it."""

from __future__ import annotations

import json
import logging
import socket

import pytest
from google.protobuf import json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_moesif import InvalidData, Receipt, Refused, Signal, StartError, TooLarge
from tests.receivers.doors import Password, spans
from tests.receivers.http_doors import JSON, PROTOBUF, HttpDoor, HttpRecorder

JSON_SPAN = json.dumps(
    {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "01" * 16, "spanId": "02" * 8}]}]}]}
).encode()


def raising(error: Exception):
    def answer(_: bytes) -> Receipt:
        raise error

    return HttpRecorder(answer)


def status(response) -> Status:
    """The body of a failure, in the encoding that it claims."""
    if response.headers["content-type"] == PROTOBUF:
        return Status.FromString(response.content)
    assert response.headers["content-type"] == JSON
    return json_format.ParseDict(response.json(), Status())


# What the client does, what it is told, and the number of google.rpc.Code in the body.
TABLE = [
    ("POST", "/v1/traces", {}, b"", 200, None),
    ("POST", "/v1/traces", {}, spans(), 200, None),
    ("POST", "/v1/traces?a=b", {}, spans(), 200, None),
    ("POST", "/v1/logs", {}, spans(), 200, None),
    ("POST", "/v1/traces", {"content-type": "Application/X-Protobuf; charset=utf-8"}, spans(), 200, None),
    ("POST", "/v1/traces", {"content-type": "application/json;charset=UTF-8"}, JSON_SPAN, 200, None),
    ("POST", "/v1/traces", {"content-type": JSON}, b"{}", 200, None),
    ("POST", "/v1/traces", {"content-type": JSON}, b"{", 400, 3),
    ("POST", "/v1/traces", {"content-type": JSON}, b"", 400, 3),
    ("POST", "/v1/traces", {"content-type": JSON}, b'{"resourceLogs": []}', 400, 3),
    ("POST", "/v1/logs", {"content-type": JSON}, JSON_SPAN, 400, 3),
    ("POST", "/v1/traces", {"content-encoding": "gzip"}, b"nothing of the sort", 400, 3),
    ("POST", "/v1/metrics", {}, spans(), 404, 5),
    ("POST", "/", {}, spans(), 404, 5),
    ("POST", "/v1/traces/", {}, spans(), 404, 5),
    ("GET", "/v1/traces", {}, b"", 405, 12),
    ("PUT", "/v1/traces", {}, spans(), 405, 12),
    ("OPTIONS", "/v1/traces", {}, b"", 405, 12),
    ("HEAD", "/v1/traces", {}, b"", 405, None),
    ("POST", "/v1/traces", {}, bytes(3 << 10), 413, 8),
    ("POST", "/v1/traces", {"content-type": "text/plain"}, spans(), 415, 3),
    ("POST", "/v1/traces", {"content-type": "application/grpc"}, spans(), 415, 3),
    ("POST", "/v1/traces", {"content-type": ""}, spans(), 415, 3),
    ("POST", "/v1/traces", {"content-encoding": "br"}, spans(), 415, 3),
    ("POST", "/v1/traces", {"content-encoding": "gzip, gzip"}, spans(), 415, 3),
    ("POST", "/v1/traces", {"x": "y" * (40 << 10)}, spans(), 431, 8),
]


@pytest.fixture(scope="module")
def door():
    with HttpDoor(max_request_body_size="2KiB") as opened:
        yield opened


@pytest.mark.parametrize(("method", "path", "headers", "body", "expected", "code"), TABLE)
def test_every_request_has_its_status(door, method, path, headers, body, expected, code):
    response = door.client.request(method, path, content=body, headers={"content-type": PROTOBUF, **headers})
    assert response.status_code == expected
    assert "server" not in response.headers
    if code:
        told = status(response)
        assert told.code == code
        assert told.message
        assert "\n" not in told.message
    if expected == 405:
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (InvalidData("malformed"), 400, 3),
        (TooLarge("attributes too long"), 413, 8),
        (Refused("intake is full", 2.5), 503, 14),
        (Refused("at once", 0), 503, 14),
    ],
)
@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
def test_what_the_intake_says_is_passed_on(error, expected, code, encoding):
    with HttpDoor(raising(error)) as door:
        body = JSON_SPAN if encoding == JSON else spans()
        response = door.post(body, headers={"content-type": encoding})
        assert response.status_code == expected
        assert response.headers["content-type"] == encoding
        told = status(response)
        assert (told.code, told.message) == (code, str(error))
        if expected == 503:
            assert response.headers["retry-after"] == ("3" if error.retry_after else "1")
            retry = RetryInfo()
            assert told.details[0].Unpack(retry)
            assert retry.retry_delay.ToMilliseconds() == error.retry_after * 1000
        else:
            assert "retry-after" not in response.headers
        assert door.counters.denied() == {}  # the intake has counted it


def test_a_bug_is_an_overload_and_its_text_stays_inside(caplog):
    with HttpDoor(raising(RuntimeError("s3cret"))) as door:
        response = door.post(spans())
    assert response.status_code == 503
    assert b"s3cret" not in response.content
    assert door.counters.denied() == {"bug": 1}
    assert "cannot take a request" in caplog.text


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    ("path", "response", "field"),
    [
        ("/v1/traces", ExportTraceServiceResponse, "rejected_spans"),
        ("/v1/logs", ExportLogsServiceResponse, "rejected_log_records"),
    ],
)
def test_what_could_not_be_taken_is_a_partial_success(encoding, path, response, field):
    with HttpDoor(HttpRecorder(lambda _: Receipt(2, "ids of 3 bytes"))) as door:
        answer = door.post(b"{}" if encoding == JSON else spans(), path, {"content-type": encoding})
    assert answer.status_code == 200
    if encoding == JSON:
        told = json_format.ParseDict(answer.json(), response())
        assert (
            answer.json()["partialSuccess"]["rejectedSpans" if "spans" in field else "rejectedLogRecords"]
            == "2"
        )
    else:
        told = response.FromString(answer.content)
    assert getattr(told.partial_success, field) == 2
    assert told.partial_success.error_message == "ids of 3 bytes"


def test_full_success_says_nothing():
    with HttpDoor() as door:
        assert door.post(spans()).content == b""
        assert door.post(JSON_SPAN, headers={"content-type": JSON}).content == b"{}"


def test_one_bad_span_in_json_does_not_cost_its_neighbours():
    good = {"traceId": "01" * 16, "spanId": "02" * 8}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [good, {"traceId": "s3cret"}, good]}]}]}
    with HttpDoor(HttpRecorder(lambda _: Receipt(1, "and one more"))) as door:
        told = door.post(json.dumps(document).encode(), headers={"content-type": JSON}).json()[
            "partialSuccess"
        ]
        assert told["rejectedSpans"] == "2"
        assert "traceId: is not hex; and one more" in told["errorMessage"]
        assert "s3cret" not in told["errorMessage"]
        document["resourceSpans"][0]["scopeSpans"][0]["spans"] = [{"traceId": "s3cret"}]
        assert door.post(json.dumps(document).encode(), headers={"content-type": JSON}).status_code == 400
        assert door.counters.denied() == {"malformed": 1}


def test_a_bad_resource_in_json_does_not_cost_the_others():
    good, bad = {"scopeSpans": [{"spans": [{}]}]}, {"resource": {"attributes": "s3cret"}}
    with HttpDoor() as door:
        for lost, scopes in (("3", [{"spans": [{}, {}]}, {"spans": [{}]}]), ("0", [])):
            document = json.dumps({"resourceSpans": [{**bad, "scopeSpans": scopes}, good]}).encode()
            told = door.post(document, headers={"content-type": JSON}).json()["partialSuccess"]
            assert told.get("rejectedSpans", "0") == lost
            assert told["errorMessage"].endswith("resourceSpans.resource.attributes: must be a list")
        assert len(door.recorder.requests) == 2
        assert door.counters.denied() == {}


def test_requests_reach_the_intake_as_protobuf():
    with HttpDoor() as door:
        door.post(spans())
        door.post(JSON_SPAN, headers={"content-type": JSON})
        door.post(b"x", "/v1/logs")
    one, two, three = door.recorder.requests
    assert (one, three) == (spans(), b"x")
    assert bytes.fromhex("01" * 16) in two
    assert door.recorder.taken == [Signal.TRACES, Signal.TRACES, Signal.LOGS]


def test_a_signal_without_a_pipeline_is_not_found():
    with HttpDoor(HttpRecorder(signals=frozenset({Signal.LOGS}))) as door:
        response = door.post(spans())
        assert response.status_code == 404
        assert status(response).message == "no pipeline takes traces from here"
        assert door.post(spans(), "/v1/logs").status_code == 200


def test_metrics_are_told_why_not():
    with HttpDoor() as door:
        response = door.post(b"", "/v1/metrics")
        assert status(response).message.startswith("metrics are not analytics events")
        assert door.counters.denied() == {"metrics": 1}


def test_paths_can_be_chosen():
    with HttpDoor(traces_url_path="/in/traces", logs_url_path="/in/logs") as door:
        assert door.post(spans(), "/in/traces").status_code == 200
        assert door.post(spans(), "/v1/traces").status_code == 404


def test_who_may_not_send_is_told_before_the_body_is_read():
    with (
        HttpDoor(extensions={"word": Password()}, auth={"authenticator": "word"}) as door,
        door.connect() as raw,
    ):
        raw.send(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n")
        raw.send(b"content-length: 1000000\r\n\r\n")  # of which nothing comes
        assert raw.status() == 401
        assert "www-authenticate: bearer" in raw.head
        assert Status.FromString(raw.body).code == 16
        assert door.post(spans(), headers={"authorization": "guess"}).status_code == 401
        assert door.recorder.requests == []
        assert door.post(spans(), headers={"authorization": "sesame"}).status_code == 200
        assert door.counters.denied() == {"unauthenticated": 2}


def test_metadata_says_who_it_was():
    with HttpDoor(
        extensions={"word": Password()}, auth={"authenticator": "word"}, include_metadata=True
    ) as door:
        door.post(spans(), headers={"authorization": "sesame"})
    (metadata,) = door.recorder.metadata
    assert metadata["otel_moesif.client.address"] == "127.0.0.1"
    assert metadata["otel_moesif.auth.subject"] == "ali"


ORIGIN = "https://shop.example.com"


@pytest.mark.parametrize(
    ("allowed", "origin", "granted"),
    [
        ([ORIGIN], ORIGIN, ORIGIN),
        (["https://*.example.com"], ORIGIN, ORIGIN),
        (["*"], ORIGIN, "*"),
        (["https://*.example.com"], "https://example.com.evil.net", None),
        ([ORIGIN], "https://other.example.com", None),
    ],
)
def test_pages_are_let_in_by_origin(allowed, origin, granted):
    with HttpDoor(cors={"allowed_origins": allowed, "allowed_headers": ["X-Token"], "max_age": 60}) as door:
        asked = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type, x-token",
        }
        preflight = door.client.options("/v1/traces", headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers.get("access-control-allow-origin") == granted
        if granted:
            assert preflight.headers["access-control-allow-headers"] == "content-type, x-token"
            assert preflight.headers["access-control-max-age"] == "60"
        else:
            assert "access-control-allow-methods" not in preflight.headers
        sent = door.post(spans(), headers={"origin": origin})
        assert sent.status_code == 200
        assert sent.headers.get("access-control-allow-origin") == granted
        failed = door.post(b"", headers={"origin": origin, "content-type": "x"})
        assert failed.headers.get("access-control-allow-origin") == granted


def test_pages_may_not_send_headers_that_nobody_allowed():
    with HttpDoor(cors={"allowed_origins": [ORIGIN]}) as door:
        asked = {"origin": ORIGIN, "access-control-request-headers": "authorization"}
        assert "access-control-allow-headers" not in door.client.options("/v1/traces", headers=asked).headers


def test_a_preflight_needs_no_credentials():
    with HttpDoor(
        extensions={"word": Password()}, auth={"authenticator": "word"}, cors={"allowed_origins": [ORIGIN]}
    ) as door:
        assert door.client.options("/v1/traces", headers={"origin": ORIGIN}).status_code == 204
        assert door.client.request("GET", "/v1/traces").headers["allow"] == "POST, OPTIONS"


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        door = HttpDoor(endpoint=f"127.0.0.1:{port}")
        with pytest.raises(StartError) as said:
            door.__enter__()
        assert str(said.value) == (
            f"otlp: cannot listen on 127.0.0.1:{port} "
            "(is the port in use? set receivers::otlp::protocols::http::endpoint)"
        )
        door.run(door.server.shutdown())


def test_a_host_that_is_nowhere_is_one_line():
    with pytest.raises(StartError, match=r"cannot listen on 203\.0\.113\.1:0 \(.+; set receivers"):
        HttpDoor(endpoint="203.0.113.1:0").__enter__()


def test_localhost_is_all_addresses_of_that_name(caplog):
    caplog.set_level(logging.INFO)
    with HttpDoor(endpoint="localhost:0") as door:
        assert door.post(spans()).status_code == 200
        assert f"listening for OTLP/HTTP on localhost:{door.server.port}" in caplog.text


def test_shutdown_is_safe_unstarted_and_twice():
    door = HttpDoor()
    with door:
        door.run(door.server.shutdown())
    other = HttpDoor()
    other._loop.run_until_complete(other.server.shutdown())
    other._loop.close()

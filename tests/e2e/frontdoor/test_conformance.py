"""The OTLP specification's statuses, row by row, on both protocols of a collector as its users run it.

Source: opentelemetry-proto docs/specification.md, "OTLP/gRPC Response" and "OTLP/HTTP Response".
"""

from __future__ import annotations

import gzip
import json
import zlib

import grpc
import pytest
import zstandard

from tests.e2e.collector import Collector, sandbox
from tests.e2e.frontdoor import payloads
from tests.e2e.frontdoor.answers import JSON, GrpcDoor, doors
from tests.processes import until

MALFORMED = b"\x0a\xff\xff\xff\xff\x0fnot protobuf"
# What is beyond the receiver's bound when inflated, and not before.
LARGE = payloads.delimited(1, payloads.delimited(2, b"\0" * (2 << 20)))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("conformance")
    with sandbox(directory) as moesif:
        collector = Collector(
            directory,
            {"moesif": moesif.url},
            grpc={"max_recv_msg_size_mib": 1},
            http={"max_inflated_size": "1MiB", "max_inflation_ratio": 100_000},
        )
        with collector.run(), doors(collector) as opened:
            yield collector, moesif, opened


BOTH = pytest.mark.parametrize("protocol", ["grpc", "http"])
TABLE = [
    # What is sent; signal; gRPC's status (HTTP's body has it as well); HTTP's status.
    ("a good request", payloads.calls().body, "traces", "OK", 200),
    ("good log records", payloads.records(), "logs", "OK", 200),
    ("an empty request", b"", "traces", "OK", 200),
    ("an empty request of logs", b"", "logs", "OK", 200),
    ("no protobuf", MALFORMED, "traces", "INVALID_ARGUMENT", 400),
    ("no protobuf as logs", MALFORMED, "logs", "INVALID_ARGUMENT", 400),
    ("a field that a parser would skip", b"\x08\x01", "traces", "INVALID_ARGUMENT", 400),
    ("a request that is cut off", payloads.calls().body[:-5], "traces", "INVALID_ARGUMENT", 400),
    ("log records to the traces", payloads.records(), "traces", "INVALID_ARGUMENT", 400),
    ("spans to the logs", payloads.calls().body, "logs", "INVALID_ARGUMENT", 400),
    ("a resource without spans", payloads.calls(0).body, "traces", "OK", 200),
    ("nothing but a bad span", payloads.only_bad(), "traces", "INVALID_ARGUMENT", 400),
    ("more than may be sent", LARGE, "traces", "RESOURCE_EXHAUSTED", 413),
]


@BOTH
@pytest.mark.parametrize(("what", "body", "signal", "code", "http"), TABLE, ids=[row[0] for row in TABLE])
def test_every_request_has_the_status_of_the_specification(running, protocol, what, body, signal, code, http):
    answer = running[2][protocol].send(body, signal)
    assert answer.code == code, answer
    assert answer.retry is None, "whoever sends the same again gets the same"
    assert (answer.rejected, answer.warning) == (0, "")
    if protocol == "http":
        assert answer.http == http
        assert "retry-after" not in answer.headers
    if code == "OK":
        assert answer.body == b"", "a full success leaves partial_success unset"
    else:
        assert answer.message


@BOTH
@pytest.mark.parametrize("spoil", [payloads.BAD_ID, payloads.BAD_TEXT, payloads.TOO_DEEP])
def test_a_bad_span_costs_none_of_its_neighbours(running, protocol, spoil):
    _, moesif, opened = running
    request = payloads.calls(4, spoil)
    answer = opened[protocol].send(request.body)
    assert answer.code == "OK"
    assert answer.rejected == 1
    words = {payloads.BAD_ID: "id", payloads.BAD_TEXT: "UTF-8", payloads.TOO_DEEP: "nested"}
    assert words[spoil] in answer.warning
    assert "spoiled" not in answer.warning, "nothing of the request is repeated"
    until(lambda: set(request.good) <= set(moesif.arrived()), "the neighbours", timeout=20)


@BOTH
def test_a_bad_log_record_costs_none_of_its_neighbours(running, protocol):
    answer = running[2][protocol].send(payloads.records(5, spoil=True), "logs")
    assert (answer.code, answer.rejected) == ("OK", 1)
    assert "1 of 6 log records" in answer.warning


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_is_too_large_only_when_inflated_is_413(running, encoding):
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}[encoding](LARGE)
    assert len(packed) < 10_000
    answer = running[2]["http"].send(packed, headers={"content-encoding": encoding})
    assert (answer.http, answer.code) == (413, "RESOURCE_EXHAUSTED")


def test_what_is_too_large_only_when_inflated_exhausts_grpc_too(running):
    with grpc.insecure_channel(running[0].target) as channel:
        answer = GrpcDoor(channel, grpc.Compression.Gzip).send(LARGE)
    assert answer.code == "RESOURCE_EXHAUSTED"
    assert answer.retry is None


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "zstd", "identity", "GZIP"])
def test_bodies_may_be_compressed(running, encoding):
    _, moesif, opened = running
    request = payloads.calls()
    pack = {
        "gzip": gzip.compress,
        "x-gzip": gzip.compress,
        "deflate": zlib.compress,
        "zstd": zstandard.compress,
    }
    body = pack.get(encoding.lower(), bytes)(request.body)
    assert opened["http"].send(body, headers={"content-encoding": encoding}).http == 200
    until(lambda: set(request.good) <= set(moesif.arrived()), "the calls", timeout=20)


HTTP_TABLE = [
    ("POST", "/v1/metrics", {}, 404, "NOT_FOUND", "metrics"),
    ("POST", "/v1/profiles", {}, 404, "NOT_FOUND", "/v1/traces"),
    ("POST", "/", {}, 404, "NOT_FOUND", "/v1/traces"),
    ("GET", "/v1/traces", {}, 405, "UNIMPLEMENTED", "POST"),
    ("DELETE", "/v1/logs", {}, 405, "UNIMPLEMENTED", "POST"),
    ("POST", "/v1/traces", {"content-type": "text/plain"}, 415, "INVALID_ARGUMENT", JSON),
    ("POST", "/v1/traces", {"content-type": "application/grpc"}, 415, "INVALID_ARGUMENT", JSON),
    ("POST", "/v1/traces", {"content-type": ""}, 415, "INVALID_ARGUMENT", JSON),
    ("POST", "/v1/traces", {"content-encoding": "br"}, 415, "INVALID_ARGUMENT", "gzip"),
    ("POST", "/v1/traces", {"content-encoding": "gzip"}, 400, "INVALID_ARGUMENT", "gzip"),
    ("POST", "/v1/traces", {"content-encoding": "zstd"}, 400, "INVALID_ARGUMENT", "zstd"),
    ("POST", "/v1/traces", {"content-encoding": "deflate"}, 400, "INVALID_ARGUMENT", "deflate"),
]


@pytest.mark.parametrize(("method", "path", "headers", "http", "code", "word"), HTTP_TABLE)
@pytest.mark.parametrize("encoding", ["http", "json"])
def test_http_has_its_own_statuses(running, encoding, method, path, headers, http, code, word):
    answer = running[2][encoding].request(method, path, payloads.calls().body, headers)
    assert (answer.http, answer.code) == (http, code)
    assert word in answer.message
    if "content-type" not in headers:
        assert answer.headers["content-type"] == ("application/x-protobuf" if encoding == "http" else JSON)


def test_grpc_takes_no_metrics_and_knows_no_other_method(running):
    door = running[2]["grpc"]
    assert door.send(b"", "metrics").code == "UNIMPLEMENTED"
    assert "metrics" in door.send(b"", "metrics").message
    assert (
        door.call(b"", "/opentelemetry.proto.collector.trace.v1.TraceService/Import").code == "UNIMPLEMENTED"
    )
    assert door.call(b"", "/nowhere").code == "UNIMPLEMENTED"


@pytest.mark.parametrize("encoding", ["http", "json"])
def test_parameters_of_the_content_type_do_not_matter(running, encoding):
    kind = "application/x-protobuf" if encoding == "http" else JSON
    body = b"" if encoding == "http" else b"{}"
    door = running[2][encoding]
    assert door.request("POST", "/v1/traces", body, {"content-type": f"{kind}; charset=utf-8"}).http == 200
    assert door.request("POST", "/v1/traces", body, {"content-type": kind.upper()}).http == 200


def test_errors_in_json_are_json(running):
    answer = running[2]["json"].send(b"{")
    assert (answer.http, answer.code) == (400, "INVALID_ARGUMENT")
    assert json.loads(answer.body)["code"] == 3

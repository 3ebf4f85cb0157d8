"""A real Envoy: spans and access logs of the same calls, whatever becomes of the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.collector import Collector, Sandbox, sandbox
from tests.e2e.envoy import call_grpc, envoy, open_websocket


@dataclass(frozen=True)
class Case:
    """One call and what its event must say.

    Attributes:
        target: The backend's status; -1 when it was not reached.
        error: ``errorType`` of the fault event; empty for a response event.
        latency: Milliseconds that the backend takes at least.
        via: ``http``, ``websocket``, or the gRPC status that the caller sees; its answer is HTTP 200 then,
            and ``status`` what it amounts to.
        silent: The SERVER span alone does not tell whether the gateway or the backend refused: with neither
            CLIENT spans nor access log nobody can know.
    """

    path: str
    status: int
    target: int = -1
    error: str = ""
    latency: int = 0
    method: str = "GET"
    silent: bool = False
    via: str = "http"

    @property
    def grpc(self) -> bool:
        return self.via.isupper()

    @property
    def type(self) -> str:
        """WSO2's ``apiType``; a websocket that was refused is a call like any other."""
        return "GRPC" if self.grpc else "WS" if self.status == 101 else "HTTP"


CASES = [
    Case("/api/orders/7?page=2&sort=up", 200, target=200),
    Case("/api/orders/delay/120", 200, target=200, latency=120),
    Case("/api/orders", 200, target=200, method="POST"),
    Case("/api/status/404", 404, target=404),
    Case("/api/status/500", 500, target=500),
    Case("/api/status/401", 401, target=401, silent=True),
    Case("/retried/status/503", 503, target=503),  # flagged URX, and yet it is the backend's own answer
    Case("/retried/flaky/1", 200, target=200),  # the second attempt counts
    Case("/moved", 301),
    Case("/dead/orders", 503, error="TARGET_CONNECTIVITY"),
    Case("/impatient/delay/600", 504, error="TARGET_CONNECTIVITY"),
    Case("/denied/orders", 401, error="AUTH"),
    Case("/token", 401, error="AUTH", silent=True),
    Case("/guarded", 403, error="AUTH"),  # its CLIENT span is the call of the authorization server
    Case("/limited?first", 200, target=200),
    Case("/limited?second", 429, error="THROTTLED"),
    Case("/nowhere", 404, error="OTHER"),
    Case("/api/socket", 101, target=101, via="websocket"),
    Case("/dead/socket", 503, error="TARGET_CONNECTIVITY", via="websocket"),
    Case("/shop.Orders/Get", 200, target=200, method="POST", via="OK"),
    Case("/shop.Orders/NOT_FOUND", 404, target=404, method="POST", via="NOT_FOUND"),
    Case("/dead.Orders/Get", 503, error="TARGET_CONNECTIVITY", method="POST", via="UNAVAILABLE"),
    Case("/none.Orders/Get", 501, error="OTHER", method="POST", via="UNIMPLEMENTED"),
]


@dataclass(frozen=True)
class Seen:
    """What arrived, by path and query: the events made of spans, and those made of access logs."""

    upstream_span: bool
    by_spans: dict[str, dict[str, Any]]
    by_logs: dict[str, dict[str, Any]]


# With many spans per request, the CLIENT and the SERVER span of a call come together; with one they never do.
@pytest.fixture(
    scope="module",
    params=[(True, 100, "INBOUND"), (True, 1, "OUTBOUND"), (False, 1, "INBOUND"), (False, 1, "OUTBOUND")],
    ids=["spans-together", "spans-apart-egress", "server-span-only", "egress-span-only"],
)
def seen(request, tmp_path_factory):
    upstream_span, flush, direction = request.param
    directory = tmp_path_factory.mktemp("envoy")
    with sandbox(directory) as by_spans, sandbox(directory) as by_logs:
        # An exporter per pipeline tells which event was made of what.
        collector = Collector(directory, {"moesif/spans": by_spans.url, "moesif/logs": by_logs.url})
        pipelines = collector.config["service"]["pipelines"]
        pipelines["traces"] = {**pipelines["traces"], "exporters": ["moesif/spans"]}
        pipelines["logs"] = {**pipelines["logs"], "exporters": ["moesif/logs"]}
        gateway = envoy(
            collector.grpc_port,
            directory,
            spawn_upstream_span=upstream_span,
            direction=direction,
            min_flush_spans=flush,
        )
        with collector.run() as process, gateway as client:
            for case in CASES:
                assert _send(client, case) == (case.via if case.grpc else case.status)
            for moesif in (by_spans, by_logs):
                process.until(lambda moesif=moesif: len(moesif.events()) >= len(CASES), "all events")
            yield Seen(upstream_span, _by_path(by_spans), _by_path(by_logs))


def _send(client: httpx.Client, case: Case) -> int | str:
    """Make the call; gives the HTTP or gRPC status that the caller sees."""
    port = client.base_url.port
    if case.grpc:
        return call_grpc(port, case.path)
    if case.via == "websocket":
        return open_websocket(port, case.path)
    return client.request(case.method, case.path).status_code


def _by_path(moesif: Sandbox) -> dict[str, dict[str, Any]]:
    events = moesif.events()
    found = {"/" + event["request"]["uri"].split("/", 3)[3]: event for event in events}
    assert len(events) == len(found) == len(CASES), "one event per call, and no other"
    return found


def test_a_call_has_one_transaction_id_in_spans_and_logs(seen):
    assert {path: event["transaction_id"] for path, event in seen.by_spans.items()} == {
        path: event["transaction_id"] for path, event in seen.by_logs.items()
    }
    assert len({event["transaction_id"] for event in seen.by_logs.values()}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_an_access_log_record_becomes_the_calls_event(seen, case):
    event = seen.by_logs[case.path]
    _check_outcome(event, case)
    _check_request(event, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_the_spans_become_the_calls_event(seen, case):
    event = seen.by_spans[case.path]
    _check_request(event, case)
    if seen.upstream_span:
        _check_outcome(event, case)
    elif not case.silent:
        metadata = event["metadata"]
        assert metadata["eventType"] == ("fault" if case.error else "response")
        assert metadata["proxyResponseCode"] == case.status
        assert metadata.get("errorType") == (case.error or None)


def _check_request(event: dict[str, Any], case: Case) -> None:
    request, metadata = event["request"], event["metadata"]
    assert request["verb"] == metadata["apiMethod"] == case.method
    assert request["uri"].startswith("http://127.0.0.1:")
    assert request["ip_address"] == "127.0.0.1"
    assert request["time"].endswith("Z")
    assert metadata["apiResourceTemplate"] == case.path.partition("?")[0]
    assert metadata["requestTimestamp"] == request["time"]
    assert metadata["apiType"] == case.type
    if not case.error:  # a fault event carries neither
        # gRPC adds its own name
        assert request["headers"]["User-Agent"].split()[0] == "e2e-client/1.0"
        assert metadata["userIp"] == "127.0.0.1"


def _check_outcome(event: dict[str, Any], case: Case) -> None:
    metadata = event["metadata"]
    assert event["response"]["status"] == case.status
    assert metadata["proxyResponseCode"] == case.status
    assert metadata["targetResponseCode"] == case.target
    if case.error:
        assert metadata["eventType"] == "fault"
        assert metadata["errorType"] == case.error
        assert isinstance(metadata["errorCode"], int)
        assert metadata["errorMessage"]
        assert "backendLatency" not in metadata
        assert "responseLatency" not in metadata
    else:
        assert metadata["eventType"] == "response"
        assert not {"errorType", "errorCode", "errorMessage"} & metadata.keys()
        assert metadata["responseLatency"] >= metadata["backendLatency"] >= case.latency

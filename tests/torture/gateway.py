"""What gateways report of their calls: spans together and apart, access logs of the same calls, and noise."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.collector import transaction_id
from tests.e2e.traffic import LOGS, TRACES, Sending

# How a call ends: status, Envoy's response flags, whether a backend was asked; the good ones more often.
_ENDS = [(200, "-", True)] * 12 + [
    (201, "-", True),
    (404, "-", True),
    (500, "-", True),
    (503, "UF", True),
    (404, "NR", False),
    (429, "RL", False),
]
_ENVOY_SHARE = 0.7  # of the requests; the others speak the semantic conventions, and have no access log
_LOGGED_SHARE = 0.5  # of Envoy's requests
_APART_SHARE = 0.4  # CLIENT spans in a request of their own, before or after that of the SERVER spans
_LATE_SHARE = 0.5  # of what comes in a second request: not at once
_LATEST = 1.5  # seconds; several conversions later
_MS = 1_000_000


@dataclass(frozen=True)
class _Call:
    trace_id: bytes
    span_id: bytes
    client_id: bytes
    end: int
    status: int
    flags: str
    asked: bool

    @property
    def transaction(self) -> str:
        return transaction_id(int.from_bytes(self.trace_id, "big"), int.from_bytes(self.span_id, "big"))

    @property
    def path(self) -> str:
        return f"/orders/{self.span_id[0]}"


class Gateway:
    """Makes requests; to be given to `Traffic`, whose threads may share one.

    Args:
        seed: Of every choice; which thread meets which of them is up to the clock.
        calls: Calls per request.
        noise: Requests that are no calls, percent of all: empty, malformed, INTERNAL spans, plain records.
    """

    def __init__(self, seed: int, calls: int = 50, noise: int = 5) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._calls = calls
        self._noise = noise
        self._lock = threading.Lock()
        self._late: list[tuple[float, Sending]] = []

    def __call__(self) -> list[Sending]:
        with self._lock:
            now = time.monotonic()
            due = [sending for when, sending in self._late if when <= now]
            self._late = [entry for entry in self._late if entry[0] > now]
            first, *others = self._requests()
            for sending in others:
                if self._random.random() < _LATE_SHARE:
                    self._late.append((now + self._random.uniform(0, _LATEST), sending))
                else:
                    due.append(sending)
            noise = [self._junk()] if self._random.random() * 100 < self._noise else []
        return [first, *due, *noise]

    def _requests(self) -> list[Sending]:
        """All that is told of some calls, in any order."""
        choose = self._random
        calls = [self._call() for _ in range(self._calls)]
        ids = [call.transaction for call in calls]
        envoy = choose.random() < _ENVOY_SHARE
        asked = [call for call in calls if call.asked]
        if choose.random() < _APART_SHARE:
            servers, clients = _spans(envoy, calls, []), _spans(envoy, [], asked)
            requests = [Sending(TRACES, servers, ids), Sending(TRACES, clients, ())]
        else:
            requests = [Sending(TRACES, _spans(envoy, calls, asked), ids)]
        if envoy and choose.random() < _LOGGED_SHARE:
            requests.append(Sending(LOGS, _access_logs(calls), ids))
        choose.shuffle(requests)
        return requests

    def _call(self) -> _Call:
        bits = self._random.randbytes(32)
        ids = bits[:16], bits[16:24], bits[24:]
        return _Call(*ids, time.time_ns(), *self._random.choice(_ENDS))

    def _junk(self) -> Sending:
        kind = self._random.randrange(4)
        if kind == 0:
            return Sending(self._random.choice([TRACES, LOGS]), b"", ())
        if kind == 1:
            return Sending(TRACES, b"\x0a\xff\xff\xff\xff\x0fnot protobuf", ())
        if kind == 2:
            message: Any = ExportTraceServiceRequest()
            spans = message.resource_spans.add().scope_spans.add().spans
            for _ in range(self._calls):
                bits = self._random.randbytes(24)
                spans.add(trace_id=bits[:16], span_id=bits[16:], name="tick", kind=Span.SPAN_KIND_INTERNAL)
            return Sending(TRACES, message.SerializeToString(), ())
        message = ExportLogsServiceRequest()
        records = message.resource_logs.add().scope_logs.add().log_records
        for number in range(self._calls):
            records.add(time_unix_nano=time.time_ns()).body.string_value = f"line {number}"
        return Sending(LOGS, message.SerializeToString(), ())


def _spans(envoy: bool, servers: Iterable[_Call], clients: Iterable[_Call]) -> bytes:
    message: Any = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    _put(resource.resource.attributes, {"service.name": "edge-gateway" if envoy else "shop-gateway"})
    scope = resource.scope_spans.add()
    scope.scope.name = "envoy" if envoy else "gateway"
    for call in clients:  # a CLIENT span ends first, so that gateways report it first
        span = scope.spans.add(
            trace_id=call.trace_id,
            span_id=call.client_id,
            parent_span_id=call.span_id,
            name="router orders egress" if envoy else "GET",
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=call.end - 17 * _MS,
            end_time_unix_nano=call.end - 3 * _MS,
        )
        _put(span.attributes, _envoy_client(call) if envoy else _semconv_client(call))
    for call in servers:
        span = scope.spans.add(
            trace_id=call.trace_id,
            span_id=call.span_id,
            name="ingress" if envoy else "GET /orders/{id}",
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=call.end - 20 * _MS,
            end_time_unix_nano=call.end,
        )
        _put(span.attributes, _envoy_server(call) if envoy else _semconv_server(call))
    body: bytes = message.SerializeToString()
    return body


def _access_logs(calls: Iterable[_Call]) -> bytes:
    message: Any = ExportLogsServiceRequest()
    resource = message.resource_logs.add()
    names = {"log_name": "otel_envoy_accesslog", "node_name": "edge-1", "cluster_name": "edge"}
    _put(resource.resource.attributes, {**names, "zone_name": "zone-a"})
    records = resource.scope_logs.add().log_records
    for call in calls:
        record = records.add(time_unix_nano=call.end - 20 * _MS, trace_id=call.trace_id, span_id=call.span_id)
        _put(record.attributes, _envoy_log(call))
    body: bytes = message.SerializeToString()
    return body


def _put(attributes: Any, values: Mapping[str, str | int]) -> None:
    for key, value in values.items():
        if isinstance(value, int):
            attributes.add(key=key).value.int_value = value
        else:
            attributes.add(key=key).value.string_value = value


def _envoy_server(call: _Call) -> dict[str, str]:
    return {
        "component": "proxy",
        "http.url": f"https://api.example.org{call.path}",
        "http.method": "GET",
        "http.protocol": "HTTP/1.1",
        "http.status_code": str(call.status),
        "user_agent": "torture/1.0",
        "peer.address": "198.51.100.7",
        "guid:x-request-id": call.trace_id.hex(),
        "request_size": "0",
        "response_size": "20",
        "response_flags": call.flags,
        "zone": "zone-a",
        **({"upstream_cluster": "orders", "upstream_cluster.name": "orders"} if call.asked else {}),
    }


def _envoy_client(call: _Call) -> dict[str, str]:
    return {
        "component": "proxy",
        "upstream_cluster": "orders",
        "upstream_address": "10.0.0.9:8080",
        "http.status_code": str(call.status if call.flags == "-" else 0),
        "response_flags": call.flags,
    }


def _envoy_log(call: _Call) -> dict[str, str]:
    """Envoy Gateway's default set, as in tests/e2e/envoy.yaml."""
    answered = call.asked and call.flags == "-"
    return {
        "method": "GET",
        "x-envoy-origin-path": call.path,
        "protocol": "HTTP/1.1",
        "response_code": str(call.status),
        "response_flags": call.flags,
        "response_code_details": "via_upstream" if answered else "local_answer",
        "bytes_received": "0",
        "bytes_sent": "20",
        "duration": "20",
        "x-envoy-upstream-service-time": "14" if answered else "-",
        "user-agent": "torture/1.0",
        "x-request-id": call.trace_id.hex(),
        ":authority": "api.example.org",
        "upstream_cluster": "orders" if call.asked else "-",
        "upstream_host": "10.0.0.9:8080" if call.asked else "-",
        "downstream_remote_address": "198.51.100.7:40000",
        "route_name": "orders",
    }


def _semconv_server(call: _Call) -> dict[str, str | int]:
    return {
        "http.request.method": "GET",
        "http.route": "/orders/{id}",
        "http.response.status_code": call.status,
        "url.scheme": "https",
        "url.path": call.path,
        "server.address": "api.example.org",
        "user_agent.original": "torture/1.0",
        "client.address": "198.51.100.7",
    }


def _semconv_client(call: _Call) -> dict[str, str | int]:
    answered = {"http.response.status_code": call.status} if call.flags == "-" else {"error.type": "refused"}
    return {"http.request.method": "GET", "url.full": f"http://orders.internal{call.path}", **answered}

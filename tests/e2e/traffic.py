"""Gateway traffic that knows what was acknowledged: requests of SERVER spans, and who sends them."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.collector import transaction_id

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


def request(calls: int) -> tuple[bytes, list[str]]:
    """A serialized export request with new calls, and their transaction ids."""
    message: Any = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "gateway"
    spans = resource.scope_spans.add().spans
    now, transactions = time.time_ns(), []
    for _ in range(calls):
        trace_id, span_id = random.getrandbits(128), random.getrandbits(64)
        span = spans.add(
            trace_id=trace_id.to_bytes(16, "big"),
            span_id=span_id.to_bytes(8, "big"),
            name="GET /orders/{id}",
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=now - 20_000_000,
            end_time_unix_nano=now,
        )
        for key, text in (
            ("http.request.method", "GET"),
            ("http.route", "/orders/{id}"),
            ("url.scheme", "https"),
            ("url.path", f"/orders/{span_id % 1000}"),
            ("server.address", "api.example.org"),
            ("user_agent.original", "e2e-client/1.0"),
            ("client.address", "198.51.100.7"),
        ):
            span.attributes.add(key=key).value.string_value = text
        span.attributes.add(key="http.response.status_code").value.int_value = 200
        transactions.append(transaction_id(trace_id, span_id))
    return message.SerializeToString(), transactions


@contextlib.contextmanager
def channel(target: str) -> Iterator[grpc.Channel]:
    """A connection of its own, which comes back quickly when the server does."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
    with grpc.insecure_channel(target, options=options) as connection:
        yield connection


def call(connection: grpc.Channel, method: str, body: bytes, timeout: float = 10) -> bytes:
    """One call, bytes in and bytes out; raises `grpc.RpcError`."""
    answer: bytes = connection.unary_unary(method)(body, timeout=timeout)
    return answer


class Traffic:
    """Threads that send request after request until the context ends.

    Args:
        target: host:port of the collector.
        calls: Calls per request.
        threads: Connections, each with one request in flight.
        pause: Seconds between the answer to one request and the next one.

    Attributes:
        acknowledged: Transaction ids of the calls of every request that was answered OK.
        unanswered: The same of those that were not; the collector may have them or not.
        codes: Status codes of the latter.
        slowest: Longest time to an acknowledgement, in seconds.
    """

    def __init__(self, target: str, calls: int = 50, threads: int = 4, pause: float = 0.01) -> None:
        self.target, self.calls, self.pause = target, calls, pause
        self.acknowledged: set[str] = set()
        self.unanswered: set[str] = set()
        self.codes: set[str] = set()
        self.slowest = 0.0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with channel(self.target) as connection:
            while not self._ended.wait(self.pause):
                body, transactions = request(self.calls)
                begin = time.monotonic()
                try:
                    call(connection, TRACES, body)
                except grpc.RpcError as error:
                    self.unanswered.update(transactions)
                    self.codes.add(error.code().name)
                else:
                    self.slowest = max(self.slowest, time.monotonic() - begin)
                    self.acknowledged.update(transactions)

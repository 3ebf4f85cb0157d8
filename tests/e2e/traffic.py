"""Gateway traffic that knows what was acknowledged: requests of SERVER spans, and who sends them."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Sending:
    """One request of a gateway.

    Attributes:
        method: `TRACES` or `LOGS`.
        body: Serialized.
        transactions: Ids of the calls that are told completely enough to become events once this is accepted.
    """

    method: str
    body: bytes
    transactions: Sequence[str]


def server_spans(calls: int) -> Callable[[], list[Sending]]:
    """A gateway that reports SERVER spans and nothing else: `request` after `request`."""

    def make() -> list[Sending]:
        body, transactions = request(calls)
        return [Sending(TRACES, body, transactions)]

    return make


class Traffic:
    """Threads that send request after request until the context ends.

    Args:
        target: host:port of the collector.
        calls: Calls per request.
        threads: Connections, each with one request in flight.
        pause: Seconds between the answer to one request and the next one.
        make: Makes the next requests, instead of SERVER spans alone; called by all threads.
        repeat: Share (0 to 1) of the accepted requests that are sent once more, as if the gateway had not
            got the acknowledgement.
        persist: Share of the requests without an acknowledgement that are sent again until they have one, as
            OTLP clients do; the others are given up.
        recovery: Seconds to wait after a failure; for a collector that is away often.
        seed: Of the choices for ``repeat`` and ``persist``.

    Attributes:
        acknowledged: Transaction ids of the calls of every request that was answered OK.
        unanswered: The same of those that were not; the collector may have them or not. What is sent again
            is in both, should it be acknowledged later.
        codes: Status codes of the latter.
        slowest: Longest time to an acknowledgement, in seconds.
        requests: How many requests were sent, by what became of them: a status code, or ``repeated``.
    """

    def __init__(
        self,
        target: str,
        calls: int = 50,
        threads: int = 4,
        pause: float = 0.01,
        *,
        make: Callable[[], list[Sending]] | None = None,
        repeat: float = 0,
        persist: float = 0,
        recovery: float = 0,
        seed: int | None = None,
    ) -> None:
        self.target, self.pause = target, pause
        self.acknowledged: set[str] = set()
        self.unanswered: set[str] = set()
        self.codes: set[str] = set()
        self.slowest = 0.0
        self.requests: Counter[str] = Counter()
        self._make = make or server_spans(calls)
        self._repeat, self._persist, self._recovery = repeat, persist, recovery
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

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

    def _run(self) -> None:
        with channel(self.target) as connection:
            while not self._ended.wait(self.pause):
                for sending in self._make():
                    self._deliver(connection, sending)

    def _deliver(self, connection: grpc.Channel, sending: Sending) -> None:
        while not self._send(connection, sending):
            if self._ended.wait(self._recovery) or self._random.random() >= self._persist:
                return
        if self._random.random() < self._repeat:
            self.requests["repeated"] += 1
            self._send(connection, sending)

    def _send(self, connection: grpc.Channel, sending: Sending) -> bool:
        """One attempt; whether more of them make no sense."""
        begin = time.monotonic()
        try:
            call(connection, sending.method, sending.body)
        except grpc.RpcError as error:
            code = error.code().name
            self.requests[code] += 1
            if sending.transactions:
                self.unanswered.update(sending.transactions)
                self.codes.add(code)
            return code == "INVALID_ARGUMENT"
        self.slowest = max(self.slowest, time.monotonic() - begin)
        self.requests["OK"] += 1
        self.acknowledged.update(sending.transactions)
        return True

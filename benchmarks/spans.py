"""OTLP requests of API calls, built once and made new by patching bytes, so that the client stays cheap."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
    "okhttp/4.12.0",
    "python-httpx/0.28.1",
)
# Ids come first in a serialized span (fields 1 and 2), the two times stand together (fields 7 and 8), each
# with a tag before it; so two slices make a span new.
_IDS = b"\x0a\x10%b\x12\x08%b"
_TIMES = b"\x39%b\x41%b"


def _attributes(dice: random.Random) -> dict[str, str | int]:
    """The 20 attributes of one SERVER span, after the stable HTTP semantic conventions."""
    api, order = dice.choice(("orders", "users", "stock", "payments")), dice.randrange(1_000_000)
    host = f"{api}.example.org"
    return {
        "http.request.method": dice.choice(("GET", "GET", "GET", "POST", "PUT", "DELETE")),
        "http.response.status_code": dice.choice((200, 200, 200, 200, 201, 204, 404, 500)),
        "http.route": f"/{api}/v1/{{id}}",
        "url.scheme": "https",
        "url.path": f"/{api}/v1/{order}",
        "url.query": f"page={dice.randrange(50)}&sort=created",
        "server.address": host,
        "server.port": 443,
        "client.address": f"198.51.100.{dice.randrange(256)}",
        "client.port": dice.randrange(1024, 65536),
        "network.peer.address": f"10.0.{dice.randrange(4)}.{dice.randrange(256)}",
        "network.peer.port": dice.randrange(1024, 65536),
        "network.protocol.name": "http",
        "network.protocol.version": dice.choice(("1.1", "2")),
        "user_agent.original": dice.choice(_AGENTS),
        "user.id": f"user-{dice.randrange(5000)}",
        "http.request.body.size": dice.randrange(4096),
        "http.response.body.size": dice.randrange(65536),
        "http.response.header.content-type": "application/json",
        "http.request.header.x-request-id": dice.randbytes(16).hex(),
    }


def _add(span: Span, attributes: dict[str, str | int]) -> None:
    for key, value in attributes.items():
        pair = span.attributes.add(key=key)
        if isinstance(value, int):
            pair.value.int_value = value
        else:
            pair.value.string_value = value


class Template:
    """One serialized ``ExportTraceServiceRequest`` with ``calls`` SERVER spans.

    Args:
        calls: How many spans it carries.
        seed: Makes the attribute values; templates of different seeds differ.
    """

    def __init__(self, calls: int, seed: int) -> None:
        self._dice = random.Random(seed)
        request: Any = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "bench-gateway"
        scope = resource.scope_spans.add()
        scope.scope.name = "bench"
        marks = [(self._dice.randbytes(16), self._dice.randbytes(8)) for _ in range(calls)]
        for trace_id, span_id in marks:
            span = scope.spans.add(
                trace_id=trace_id,
                span_id=span_id,
                name="GET",
                kind=Span.SPAN_KIND_SERVER,
                start_time_unix_nano=1 << 60,
                end_time_unix_nano=(1 << 60) + 1,
            )
            _add(span, _attributes(self._dice))
        self._bytes = bytearray(request.SerializeToString())
        self._ids = [self._bytes.index(_IDS % mark) for mark in marks]
        times = _TIMES % ((1 << 60).to_bytes(8, "little"), ((1 << 60) + 1).to_bytes(8, "little"))
        self._times = [self._bytes.index(times, start) for start in self._ids]
        self.calls = calls

    def __len__(self) -> int:
        return len(self._bytes)

    def fresh(self) -> bytes:
        """The request with new ids and with times that end now."""
        end = time.time_ns()
        start = end - self._dice.randrange(1_000_000, 200_000_000)
        times = _TIMES % (start.to_bytes(8, "little"), end.to_bytes(8, "little"))
        for ids_at, times_at in zip(self._ids, self._times, strict=True):
            random_id = os.urandom(24)  # not the dice: a call that was sent before is no new one
            self._bytes[ids_at : ids_at + 28] = _IDS % (random_id[:16], random_id[16:])
            self._bytes[times_at : times_at + 18] = times
        return bytes(self._bytes)

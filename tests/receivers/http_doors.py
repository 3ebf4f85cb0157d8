"""An HTTP server in a thread of its own, so that blocking clients can be used, and plain sockets to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from otel_moesif import Receipt
from otel_moesif.receivers.otlp.access import Access
from otel_moesif.receivers.otlp.http_server import HttpServer
from otel_moesif.receivers.otlp.http_settings import HttpSettings
from tests.receivers.doors import Counters, Recorder, context

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


@dataclass
class HttpRecorder(Recorder):
    """As `Recorder`; may keep clients waiting."""

    waits: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def accept(self, signal, request, *, transport, metadata=None) -> Receipt:
        assert transport == "http"
        if self.waits:
            await self.waits()
        return await super().accept(signal, request, transport="grpc", metadata=metadata)


class HttpDoor:
    """An HTTP server that runs inside ``with``."""

    def __init__(self, recorder: HttpRecorder | None = None, extensions=None, **options) -> None:
        self.recorder = recorder or HttpRecorder()
        self.counters = Counters()
        settings = HttpSettings.model_validate({"endpoint": "127.0.0.1:0", **options})
        own = context(extensions, self.counters.meter)
        self.server = HttpServer(settings, Access.of(settings, own, "protocols::http"), own)
        self._scheme = "https" if settings.tls else "http"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.server.start(self.recorder))
        self.client = httpx.Client(base_url=self.url, timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.run(self.server.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server.port}"

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something where the server runs."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def post(self, body: bytes, path: str = "/v1/traces", headers: Mapping[str, str] | None = None):
        return self.client.post(path, content=body, headers={"content-type": PROTOBUF, **(headers or {})})

    def connect(self) -> Raw:
        return Raw(self.server.port)


class Raw:
    """A plain socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def status(self) -> int:
        """Of the next response, which must have arrived whole; 0 if the server has closed."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self._receive(1)
            if not byte:
                return 0
            head += byte
        self.head = head.decode("latin-1").lower()
        length = self.head.partition("content-length: ")[2].partition("\r")[0]
        self.body = b""
        while len(self.body) < int(length or 0):
            part = self._receive(int(length) - len(self.body))
            assert part, "the body is cut off"
            self.body += part
        return int(self.head.split()[1])

    def ended(self) -> bool:
        """Wait for the server to close, after nothing more."""
        return self._receive(1) == b""

    def _receive(self, most: int) -> bytes:
        with contextlib.suppress(ConnectionError):
            return self.socket.recv(most)
        return b""


def post(body: bytes, *headers: str, path: str = "/v1/traces", version: str = "1.1") -> bytes:
    """A request as bytes; with a length unless the headers have a Transfer-Encoding."""
    lines = [f"POST {path} HTTP/{version}", "host: x", f"content-type: {PROTOBUF}", *headers]
    if not any("transfer-encoding" in header for header in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

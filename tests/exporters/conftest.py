"""What all exporter tests need: events, a context, and a real HTTP server that answers as told."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import uvicorn
from opentelemetry import metrics
from otel_moesif_sandbox import Sandbox
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from otel_moesif import ComponentId, Context, Events
from otel_moesif.schema import SCHEMA
from tests.exporters.delivery import Delivery
from tests.exporters.servers import make_authority

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"

CALL = {
    "apiId": "43d030dc",
    "apiMethod": "GET",
    "apiName": "Pizza",
    "apiVersion": "1.0.0",
    "apiContext": "/pizza/1.0.0",
    "apiResourceTemplate": "/order/{id}",
    "backendLatency": 13,
    "eventType": "response",
    "proxyResponseCode": 200,
    "targetResponseCode": 200,
    "requestTimestamp": datetime(2022, 1, 20, 3, 34, 36, 451000, tzinfo=UTC),
    "responseTimestamp": datetime(2022, 1, 20, 3, 34, 36, 524000, tzinfo=UTC),
    "responseLatency": 73,
    "userAgent": "curl/8.5.0",
    "userIp": "203.0.113.7",
    "userName": "alice",
    "requestUri": "https://api.example.com/pizza/1.0.0/order/7?size=xl",
    "transactionId": "6f1c1b0e-4b8e-5f0a-9a54-0d7f8f3f0a11",
    "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
    "spanId": "00f067aa0ba902b7",
    "parentSpanId": "b3c3f3c3f3c3f3c3",
}
FAULT = {
    "eventType": "fault",
    "proxyResponseCode": 429,
    "targetResponseCode": -1,
    "errorCode": 900803,
    "errorMessage": "APPLICATION_LEVEL_LIMIT_EXCEEDED",
    "errorType": "THROTTLED",
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in {"SSL_CERT_FILE", "SSL_CERT_DIR"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def deliver(tmp_path):
    """Run an async test body with a sandbox and a way to it."""

    def run(body, **options):
        async def life():
            async with Sandbox("127.0.0.1:0") as sandbox, Delivery(tmp_path, sandbox, **options) as delivery:
                await body(sandbox, delivery)

        asyncio.run(life())

    return run


@pytest.fixture
def events():
    """Make events; each argument changes `CALL` for one row, ``...`` takes a value out."""

    def make(*changes):
        rows = [{**CALL, **change} for change in changes or ({},)]
        rows = [{name: None if value is ... else value for name, value in row.items()} for row in rows]
        names = dict.fromkeys(name for row in rows for name in row)
        return Events(
            pl.DataFrame(
                {name: [row.get(name) for row in rows] for name in names},
                schema_overrides={name: SCHEMA[name] for name in names},
            )
        )

    return make


@pytest.fixture
def context():
    return Context(ComponentId("test"), logging.getLogger("test.exporter"), metrics.get_meter("test"))


@pytest.fixture
def guide():
    """One of the guide's own events."""

    def read(kind):
        path = FIXTURES / "wso2" / f"apim_event_{kind}.moesif_guide.json"
        if not path.exists():
            pytest.skip("the folder with the guide's events is not here")
        return json.loads(path.read_text())

    return read


class Backend(uvicorn.Server):
    """Answers every request with the next of `answers` (status, body, headers), the last one for ever."""

    def __init__(self):
        self.answers = [(201, b"", {})]
        self.requests = []
        self.clients = set()
        self.listening = threading.Event()
        routes = [Route("/{path:path}", self.answer, methods=["POST"])]
        super().__init__(uvicorn.Config(Starlette(routes=routes), lifespan="off", log_config=None))

    async def answer(self, request):
        body = await request.body()
        self.clients.add((request.client.host, request.client.port))
        self.requests.append(SimpleNamespace(path=request.url.path, headers=request.headers, body=body))
        status, text, headers = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return Response(text, status, headers)

    def received(self):
        """Everything that came, as JSON."""
        return [json.loads(gzip.decompress(request.body)) for request in self.requests]

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.listening.set()


@pytest.fixture
def backend():
    server = Backend()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        server.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert server.listening.wait(10)
        yield server
        server.should_exit = True
        thread.join(10)

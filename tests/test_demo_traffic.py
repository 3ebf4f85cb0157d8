"""The demo: its sample traffic is what a gateway sends, and its verdict is right.

Run as a script, this file is a collector in miniature for the tests of the verdict: it takes OTLP, makes one
event per SERVER span and posts it to a sandbox of its own.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from rich.console import Console

from otel_moesif.demo.calls import APIS, OUTCOMES, make_call
from otel_moesif.demo.run import Addresses, Plan, watch
from otel_moesif.demo.traffic import SentCall, Traffic
from tests.ports import free_port

VERDICT = re.compile(r"(\d+) calls sent, (\d+) arrived as events \(0 missing\), 0 repeated")
SERVER, CLIENT = 2, 3  # opentelemetry/proto/trace/v1/trace.proto, Span.SpanKind


class Receiver(TraceServiceServicer):
    """Keeps the spans it gets, each with its service's name; or refuses them."""

    def __init__(self):
        self.spans = []
        self.refuse = False
        self.took = lambda _service, _span: None

    def Export(self, request, context):  # noqa: N802 - gRPC's name
        if self.refuse:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "told to refuse")
        for resource_spans in request.resource_spans:
            (service,) = (
                item.value.string_value
                for item in resource_spans.resource.attributes
                if item.key == "service.name"
            )
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    self.spans.append((service, span))
                    self.took(service, span)
        return ExportTraceServiceResponse()


def serve(receiver, port=0):
    server = grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


@pytest.fixture
def receiver():
    receiver = Receiver()
    server, receiver.port = serve(receiver)
    yield receiver
    server.stop(None)


@pytest.fixture
def traffic(receiver):
    traffic = Traffic(f"127.0.0.1:{receiver.port}", seed=7)
    yield traffic
    traffic.close()


def attributes(span):
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value"))
        for item in span.attributes
        if item.value
    }


def call_of(name):
    rng = random.Random(1)  # noqa: S311 - sample data
    return next(call for call in iter(lambda: make_call(rng), None) if call.outcome.name == name)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.name)
def test_a_call_is_a_server_span_and_a_client_child(receiver, traffic, outcome):
    call = call_of(outcome.name)
    sent = traffic.send(call)
    assert traffic.flush()
    by_kind = {span.kind: (service, span) for service, span in receiver.spans}
    assert set(by_kind) == ({SERVER, CLIENT} if outcome.reached else {SERVER})
    service, server = by_kind[SERVER]
    assert service == call.api.name
    assert (server.trace_id, server.span_id) == (sent.trace_id.to_bytes(16), sent.span_id.to_bytes(8))
    found = attributes(server)
    assert found["http.response.status_code"] == call.status
    assert found["url.path"].startswith(call.api.context)
    assert found["http.request.method"] == call.route.method
    duration = (server.end_time_unix_nano - server.start_time_unix_nano) / 1e6
    parts = call.before + call.after + (call.backend if outcome.reached else 0)
    assert duration == pytest.approx(parts, abs=0.01)
    assert 0 <= time.time_ns() - server.end_time_unix_nano < 60e9
    if outcome.reached:
        _, client = by_kind[CLIENT]
        assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
        assert server.start_time_unix_nano < client.start_time_unix_nano
        assert client.end_time_unix_nano < server.end_time_unix_nano
        found = attributes(client)
        assert found["url.full"].startswith(call.api.backend)
        if outcome.error:
            assert "http.response.status_code" not in found
            assert found["error.type"] == outcome.error
        else:
            assert found["http.response.status_code"] == call.backend_status == call.status


def test_the_same_seed_makes_the_same_calls():
    one, other = random.Random(3), random.Random(3)  # noqa: S311 - sample data
    assert [make_call(one) for _ in range(50)] == [make_call(other) for _ in range(50)]


def test_all_apis_and_outcomes_occur_in_their_share():
    rng = random.Random(3)  # noqa: S311 - sample data
    calls = [make_call(rng) for _ in range(10_000)]
    shares = Counter(call.outcome.name for call in calls)
    for outcome in OUTCOMES:
        assert shares[outcome.name] / 100 == pytest.approx(outcome.share, abs=1.5)
    assert {call.api for call in calls} == set(APIS)
    assert {call.status for call in calls} == {200, 201, 401, 404, 429, 500, 503}


def test_the_transaction_id_is_the_one_the_collector_gives():
    sent = SentCall(0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174)
    name = "5b8efff798038103d269b633813fc60c:eee19b7ec3c1b174"
    assert sent.transaction_id == str(uuid.uuid5(uuid.UUID(bytes=b"otel-moesif/call"), name))
    # An id that starts with zeros keeps them.
    assert SentCall(1, 2).transaction_id == str(
        uuid.uuid5(uuid.UUID(bytes=b"otel-moesif/call"), f"{'0' * 31}1:{'0' * 15}2")
    )


def test_sends_at_its_rate_until_told_to_stop(receiver, traffic):
    stop = threading.Event()
    sender = threading.Thread(target=traffic.run, args=(500, stop))
    begin = time.monotonic()
    sender.start()
    deadline = begin + 30
    while len(traffic.sent) < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    elapsed = time.monotonic() - begin
    stop.set()
    sender.join(30)
    assert len(traffic.sent) >= 100
    assert elapsed > 99 / 500
    servers = [span for _, span in receiver.spans if span.kind == SERVER]
    assert {span.span_id for span in servers} == {call.span_id.to_bytes(8) for call in traffic.sent}


def test_knows_when_nothing_was_taken(receiver, traffic):
    receiver.refuse = True
    traffic.send(call_of("throttled out"))
    assert not traffic.flush()
    assert traffic.failed_spans == 1
    assert receiver.spans == []


# --- the verdict, on a collector in miniature


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Run the demo on this file's collector: exit code and what was printed."""
    monkeypatch.setenv("MOESIF_APPLICATION_ID", "a-real-one")
    monkeypatch.setenv("MOESIF_BASE_URL", "https://api.example.com")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    otlp, sandbox = free_port(), free_port()

    def run(mode, seconds=0.5, *, terminal=False, shown=None):
        shown = shown or io.StringIO()
        console = Console(file=shown, force_terminal=terminal, width=120)
        addresses = Addresses(f"127.0.0.1:{otlp}", f"http://127.0.0.1:{sandbox}")
        command = [sys.executable, "-m", "tests.test_demo_traffic", mode, str(otlp), str(sandbox)]
        code = watch(lambda journal: [*command, str(journal)], Plan(seconds, 100, console, addresses))
        return code, shown.getvalue()

    run.otlp = otlp
    return run


@pytest.mark.parametrize("terminal", [True, False])
def test_says_that_all_arrived(demo, tmp_path, terminal):
    code, shown = demo("good", seconds=2.5, terminal=terminal)
    assert code == 0, shown
    (sent, arrived) = VERDICT.search(shown).groups()
    assert sent == arrived
    assert int(sent) > 100
    assert "PizzaShack" in shown
    assert '"transaction_id"' in shown
    assert list(tmp_path.iterdir()) == []


def test_says_what_is_missing(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("otel_moesif.demo.run.ARRIVE_SECONDS", 1)
    code, shown = demo("loses one")
    assert code == 1
    assert "(1 missing)" in shown
    assert "Failed: not every call arrived." in shown
    assert "collector in miniature is up" in shown  # the end of its log
    (log,) = tmp_path.glob("*/collector.log")
    assert str(log) in shown


def test_shows_why_the_collector_did_not_start(demo):
    code, shown = demo("dies")
    assert code == 1
    assert "Failed: the collector did not start." in shown
    assert "something is wrong" in shown


def test_takes_no_port_from_others(demo):
    with socket.create_server(("127.0.0.1", demo.otlp)):
        code, shown = demo("good")
    assert code == 1
    assert f"127.0.0.1:{demo.otlp}: in use" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_with_the_verdict_when_interrupted(demo, monkeypatch, number):
    class Shown(io.StringIO):
        def write(self, text):
            if "calls sent, " in text and "missing" not in text:
                os.kill(os.getpid(), number)
            return super().write(text)

    monkeypatch.setattr("otel_moesif.demo.view.LINE_SECONDS", 0.5)
    before = signal.getsignal(number)
    code, shown = demo("good", seconds=None, shown=Shown())
    assert code == 0, shown
    assert VERDICT.search(shown)
    assert signal.getsignal(number) is before


def event_of(service, span):
    found = attributes(span)
    start, end = (
        datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="milliseconds")
        for nanoseconds in (span.start_time_unix_nano, span.end_time_unix_nano)
    )
    status = found["http.response.status_code"]
    call = SentCall(int.from_bytes(span.trace_id), int.from_bytes(span.span_id))
    uri = f"https://{found['server.address']}{found['url.path']}"
    verb = found["http.request.method"]
    return {
        "request": {"time": start, "uri": uri, "verb": verb, "headers": {}},
        "response": {"time": end, "status": status, "headers": {}},
        "transaction_id": call.transaction_id,
        "metadata": {"apiName": service, "eventType": "fault" if status == 429 else "response"},
    }


async def collect(mode, otlp, sandbox):
    from otel_moesif_sandbox import Sandbox  # noqa: PLC0415 - only in the child

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Sandbox(f"127.0.0.1:{sandbox}") as moesif:
        headers = {"X-Moesif-Application-Id": os.environ.get("MOESIF_APPLICATION_ID", "sandbox")}
        client = httpx.Client(base_url=moesif.url, headers=headers, trust_env=False)
        lost = []

        def forward(service, span):
            if span.kind != SERVER:
                return
            if mode == "loses one" and not lost:
                lost.append(span)
                return
            client.post("/v1/events", json=event_of(service, span)).raise_for_status()

        receiver = Receiver()
        receiver.took = forward
        server, _ = serve(receiver, otlp)
        print("collector in miniature is up", flush=True)  # noqa: T201 - its log
        await stop.wait()
        server.stop(None)


if __name__ == "__main__":
    mode, otlp, sandbox, journal = sys.argv[1:]
    if mode == "dies" or {"MOESIF_APPLICATION_ID", "MOESIF_BASE_URL"} & set(os.environ):
        sys.exit("something is wrong")
    assert Path(journal).parent.is_dir()
    asyncio.run(collect(mode, int(otlp), int(sandbox)))

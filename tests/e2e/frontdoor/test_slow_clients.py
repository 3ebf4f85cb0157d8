"""Clients that take their time, or come in thousands, have an end, and honest ones are served meanwhile."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time
from collections.abc import Iterator

import grpc
import pytest

from tests.e2e.collector import Collector, sandbox
from tests.e2e.frontdoor.answers import GrpcDoor
from tests.e2e.frontdoor.payloads import calls
from tests.e2e.frontdoor.raw_grpc import RawGrpc, framed
from tests.e2e.frontdoor.watch import Honest, Memory, warm_up
from tests.processes import until

MOST_MIB = 95  # 100 MB
SECONDS = 0.5
MAX_CONNECTIONS = 512  # of http, by default
CANCELLED, DEADLINE_EXCEEDED = 1, 4
HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
# What is opened and left alone: the beginnings of what each port understands.
BEGINNINGS = {
    "http": {"nothing": b"", "half a head": HEAD, "half a body": HEAD + b"content-length: 100\r\n\r\nab"},
    "grpc": {"nothing": b"", "half a preface": b"PRI * HTTP/2.0\r\n"},
}
IDLE = [(port, what) for port, beginnings in BEGINNINGS.items() for what in beginnings]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("slow")
    soon = f"{SECONDS}s"
    with sandbox(directory) as moesif:
        collector = Collector(
            directory,
            {"moesif": moesif.url},
            grpc={"handshake_timeout": soon, "read_timeout": soon},
            http={"read_header_timeout": soon, "read_timeout": soon, "idle_timeout": soon},
        )
        with collector.run() as process:
            warm_up(collector)
            yield collector, process


@contextlib.contextmanager
def _files(wanted: int) -> Iterator[int]:
    """How many connections this process may have, up to those that are wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = wanted + 500
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, room), max(hard, room)))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, room), hard), hard))
    allowed = min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    if allowed < wanted:
        print(f"only {allowed} connections: the limit of open files does not allow {wanted}")  # noqa: T201
    try:
        yield allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("port", "what"), IDLE)
def test_thousands_of_idle_connections_keep_nobody_out(running, port, what, count):
    collector, process = running
    number = collector.http_port if port == "http" else collector.grpc_port
    with contextlib.ExitStack() as opened, _files(count) as allowed:
        with Honest(collector) as honest:
            memory = Memory(process.pid)
            for _ in range(allowed):
                with contextlib.suppress(OSError):  # closed as soon as it was open
                    client = opened.enter_context(socket.create_connection(("127.0.0.1", number), timeout=10))
                    client.sendall(BEGINNINGS[port][what])
            honest.settle()
        # Who connects just while thousands do may lose, and has to try again; now they are all there.
        with Honest(collector, anew=port == "http") as newcomers:
            newcomers.settle()
        growth = memory.growth_mib()
    assert growth < MOST_MIB, honest.summary()
    honest.check()
    newcomers.check()
    assert process.exit_code is None
    # And whoever comes when they are gone, or were made to go.
    until(lambda: _one_call(collector) == "OK", "a new client of gRPC", timeout=10)


def _one_call(collector: Collector) -> str:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(collector.target, options=options) as channel:
        return GrpcDoor(channel).send(calls(1).body).code


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("part", ["headers", "body", "between requests"])
def test_who_sends_a_byte_now_and_then_is_ended(running, part, count):
    collector, process = running
    begin, more = {
        "headers": (b"POST /v1/traces HTTP/1.1\r\n", b"a: b\r\n"),
        "body": (HEAD + b"content-length: 100000\r\n\r\n", b"\x0a"),
        "between requests": (b"", b"\r\n"),
    }[part]
    # More than there may be push each other out, and those who connect in the same moment.
    anew = count < MAX_CONNECTIONS
    with contextlib.ExitStack() as opened, Honest(collector, anew=anew) as honest:
        memory = Memory(process.pid)
        watch = opened.enter_context(selectors.DefaultSelector())
        for _ in range(count):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", collector.http_port)))
            client.sendall(begin)
            watch.register(client, selectors.EVENT_READ)
        ended = _trickle(watch, more, until_=time.monotonic() + 8 * SECONDS)
        growth = memory.growth_mib()
    assert ended == count, "all were ended"
    assert growth < MOST_MIB, honest.summary()
    honest.check()


def _trickle(watch: selectors.BaseSelector, more: bytes, until_: float) -> int:
    """Send a little, now and then, to all that are left; how many were ended by the other side."""
    ended = 0
    while watch.get_map() and time.monotonic() < until_:
        for key, _ in watch.select(timeout=0.2):
            with contextlib.suppress(OSError):
                if key.fileobj.recv(4096):
                    continue
            watch.unregister(key.fileobj)
            ended += 1
        for key in list(watch.get_map().values()):
            with contextlib.suppress(OSError):
                key.fileobj.send(more)
    return ended


@pytest.mark.parametrize("part", ["no message", "half a prefix", "half a message"])
def test_grpc_waits_for_a_message_only_so_long(running, part):
    collector, _ = running
    message = framed(calls(1).body)
    sent = {"no message": b"", "half a prefix": message[:3], "half a message": message[:50]}[part]
    with contextlib.ExitStack() as opened, Honest(collector) as honest:
        waiting = []
        for _ in range(20):
            client = opened.enter_context(RawGrpc(collector.grpc_port))
            stream = client.begin()
            client.send(stream, sent)
            waiting.append((client, stream))
        begin = time.monotonic()
        for client, stream in waiting:
            assert client.status(stream) in {CANCELLED, DEADLINE_EXCEEDED}, "both may be tried again"
        assert time.monotonic() - begin < 5 * SECONDS
    honest.check()


def test_a_client_that_takes_no_answers_costs_a_bounded_amount(running):
    collector, process = running
    request = HEAD + b"content-length: 0\r\n\r\n"
    with contextlib.ExitStack() as opened, Honest(collector) as honest:
        memory = Memory(process.pid)
        for _ in range(50):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", collector.http_port)))
            client.setblocking(False)  # noqa: FBT003 - it has no keyword
            with contextlib.suppress(OSError):
                for _ in range(200):
                    client.send(request * 500)
        honest.settle()
        growth = memory.growth_mib()
    assert growth < MOST_MIB, honest.summary()
    honest.check()
    assert process.exit_code is None


def test_calls_that_send_no_message_leave_room_for_those_that_do(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif": moesif.url}, http={})  # 30 s for each, as by default
        with collector.run() as process:
            warm_up(collector)
            memory = Memory(process.pid)
            with contextlib.ExitStack() as opened, Honest(collector) as honest:
                for _ in range(10):
                    client = opened.enter_context(RawGrpc(collector.grpc_port))
                    for _ in range(90):
                        client.send(client.begin(), b"\0\0")
                honest.settle()
            growth = memory.growth_mib()
    assert growth < MOST_MIB, honest.summary()
    honest.check()

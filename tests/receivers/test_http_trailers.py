"""What surrounds the parts of a body in chunks: has a bound, and is passed over where it is honest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from functools import partial
from pathlib import Path

import pytest
from google.rpc.status_pb2 import Status

from otel_moesif.receivers.otlp import http_parser
from otel_moesif.receivers.otlp.http_request import Disconnected, Interrupted, Request
from tests.processes import until
from tests.receivers.doors import spans
from tests.receivers.http_doors import HttpDoor, post

SPANS = spans()
MIB = 1 << 20
CHUNKED = "transfer-encoding: chunked"
HEAD = post(b"", CHUNKED)
# What has no end, by what comes before it.
ENDLESS = {
    "one trailer": (b"0\r\nx: ", b"y" * 1000),
    "the name of a trailer": (b"0\r\n", b"y" * 1000),
    "many trailers": (b"0\r\n", b"x: y\r\n" * 100),
    "an extension": (b"2;", b"y" * 1000),
    "the value of an extension": (b'2;a="', b"y" * 1000),
    "the extension of the last chunk": (b"0;", b"y" * 1000),
    "the length of a chunk": (b"", b"0" * 1000),
}


@pytest.fixture(scope="module")
def door():
    with HttpDoor() as opened:
        yield opened


@pytest.fixture
def raw(door):
    door.recorder.requests.clear()
    with door.connect() as connected:
        yield connected


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("before", [b"", b"2\r\n{}\r\n"], ids=["no body", "a body"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_has_no_end_is_refused(kind, before):
    start, more = ENDLESS[kind]
    with HttpDoor() as door, door.connect() as raw:
        raw.send(HEAD + before + start)
        with contextlib.suppress(OSError):
            for _ in range(3000):
                raw.send(more)
        assert raw.status() == 431
        assert Status.FromString(raw.body).message == (
            "the trailers, or the extensions of a chunk, are larger than 32 KiB"
        )
        assert raw.ended()
        assert door.recorder.requests == []
        assert door.counters.denied() == {"too large headers": 1}


def test_trailers_without_end_take_no_memory_and_keep_nobody_waiting():
    with HttpDoor() as door, contextlib.ExitStack() as stack:
        door.post(SPANS)
        before = resident()
        hostile = [stack.enter_context(door.connect()) for _ in range(8)]
        for one in hostile:
            one.send(HEAD + b"0\r\nx: ")
        slowest = 0.0
        for _ in range(20):
            for one in hostile:
                one.socket.settimeout(0)
                with contextlib.suppress(OSError):
                    one.socket.send(b"y" * MIB)
            began = time.monotonic()
            assert door.post(SPANS).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        until(lambda: door.counters.denied() == {"too large headers": 8})
        assert slowest < 5
        assert resident() - before < 50 * MIB


def test_it_comes_behind_another_request_that_is_answered_first(door, raw):
    with contextlib.suppress(OSError):
        raw.send(post(SPANS) + HEAD + b"0\r\nx: " + b"y" * 100_000)
        for _ in range(100):
            raw.send(b"y" * 1000)
    assert [raw.status(), raw.status()] == [200, 431]
    assert door.recorder.requests == [SPANS]


def test_it_comes_where_the_answer_was_given_already(door, raw):
    """Then it is thrown away."""
    raw.send(post(b"", CHUNKED, path="/nowhere") + b"0\r\nx: ")
    assert raw.status() == 404
    with contextlib.suppress(OSError):
        for _ in range(200):
            raw.send(b"y" * 1000)
    assert raw.ended()


def test_honest_trailers_are_passed_over(door, raw):
    trailers = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 200) for number in range(100))
    assert len(trailers) < http_parser.MOST_HEAD_BYTES < len(trailers) + len(SPANS) + 100 * 200
    body = HEAD + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(SPANS), SPANS, trailers)
    for _ in range(2):
        assert raw.send(body).status() == 200
    for start in range(0, len(body), 1009):
        raw.send(body[start : start + 1009])
    assert raw.status() == 200
    assert raw.send(post(SPANS)).status() == 200
    assert door.recorder.requests == [SPANS] * 4


def test_large_headers_leave_room_for_trailers(door, raw):
    raw.send(post(b"", CHUNKED, f"x: {'y' * 30_000}") + b"0\r\nx: " + b"y" * 30_000 + b"\r\n\r\n")
    assert raw.status() == 200


def test_a_body_in_the_smallest_pieces_has_no_other_bound_than_its_size(door, raw):
    """One byte in each chunk, and nine around it, all of them by themselves."""
    body = spans(count=1, text="x" * 6000)
    encoded = b"".join(b"0001;a\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert len(encoded) > 2 * http_parser.MOST_HEAD_BYTES
    parser = Parsed()
    parser.feed(HEAD)
    for byte in encoded:
        parser.feed(bytes([byte]))
    assert parser.bodies == [body]
    assert raw.send(HEAD + encoded).status() == 200
    assert door.recorder.requests == [body]


@pytest.mark.parametrize("size", [1, 7, 100, 40_000, 1 << 20])
def test_however_it_is_cut_it_is_the_same(size):
    body = bytes(range(256)) * 500
    extended = b"".join(b"10;name=value\r\n%s\r\n" % body[at : at + 16] for at in range(0, len(body), 16))
    stream = (
        post(body)
        + HEAD + b"%x\r\n%s\r\n0\r\nx: y\r\n\r\n" % (len(body), body)
        + post(b"", "connection: upgrade", "upgrade: h2c", CHUNKED)
        + extended + b"0\r\nx: y\r\n\r\n"
        + post(body, "connection: upgrade", "upgrade: h2c")
        + post(b"", "connection: upgrade", "upgrade: h2c")
        + post(b"last")
    )  # fmt: skip
    parser = Parsed()
    for start in range(0, len(stream), size):
        parser.feed(stream[start : start + size])
    assert parser.bodies == [body] * 4 + [b"", b"last"]


def test_of_several_reasons_the_first_is_told():
    request = Request("POST", "/", {}, "")
    request.interrupt(partial(Interrupted, 431, "too large", "too large headers"))
    request.interrupt(partial(Interrupted, 400, "the body ends too early", "malformed HTTP"))
    request.interrupt(Disconnected)
    with pytest.raises(Interrupted, match="too large"):
        asyncio.run(request.read())


def test_headers_are_not_charged_for_what_came_before_them():
    """The start of a request in one packet, its rest and the start of the next one in another."""
    parser = Parsed()
    first, second = post(bytes(100_000)), post(b"x")
    parser.feed(first[:20])
    parser.feed(first[20:] + second[:20])
    parser.feed(second[20:])
    assert parser.bodies == [bytes(100_000), b"x"]


class Parsed:
    """An owner of a parser that keeps what it is told."""

    def __init__(self) -> None:
        self.parser = http_parser.RequestParser(self, "", lambda: None, lambda _: None)
        self.requests = []
        self.complete = 0

    @property
    def bodies(self) -> list[bytes]:
        assert self.complete == len(self.requests)
        return [b"".join(request._parts) for request in self.requests]

    def feed(self, data: bytes) -> None:
        self.parser.feed(memoryview(data))

    def may_begin(self) -> bool:
        return True

    def head_complete(self, request) -> None:
        self.requests.append(request)

    def request_complete(self) -> None:
        self.complete += 1

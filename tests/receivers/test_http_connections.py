"""One connection: what comes half, in pieces, ahead of its time, or is no HTTP at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket

import pytest
from google.rpc.status_pb2 import Status

from otel_moesif import Receipt
from tests.processes import until
from tests.receivers.doors import spans
from tests.receivers.http_doors import HttpDoor, HttpRecorder, post

SPANS = spans()
FAST = {"read_header_timeout": "200ms", "read_timeout": "300ms", "idle_timeout": "400ms"}
CHUNKED = "transfer-encoding: chunked"


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def door():
    with HttpDoor() as opened:
        yield opened


@pytest.fixture
def raw(door):
    door.recorder.requests.clear()
    with door.connect() as connected:
        yield connected


def test_a_connection_is_kept(door, raw):
    for _ in range(3):
        assert raw.send(post(SPANS)).status() == 200
        assert "connection: keep-alive" in raw.head
        assert "date: " in raw.head
    assert door.recorder.requests == [SPANS] * 3


def test_a_client_may_end_it(door, raw):
    assert raw.send(post(SPANS, "connection: close")).status() == 200
    assert "connection: close" in raw.head
    assert raw.ended()


@pytest.mark.parametrize(("headers", "kept"), [((), False), (("connection: keep-alive",), True)])
def test_http_1_0(door, raw, headers, kept):
    assert raw.send(post(SPANS, *headers, version="1.0")).status() == 200
    if kept:
        assert raw.send(post(SPANS, version="1.0")).status() == 200
    assert raw.ended()


def test_requests_sent_ahead_are_answered_in_order(door, raw):
    raw.send(
        post(SPANS) + post(b"", path="/nowhere") + post(SPANS, CHUNKED).replace(SPANS, chunked(SPANS, 7))
    )
    assert [raw.status() for _ in range(3)] == [200, 404, 200]
    assert door.recorder.requests == [SPANS, SPANS]


def test_who_sends_too_far_ahead_has_to_come_back(door, raw):
    raw.send(post(b"") * 500)
    answered = 0
    while raw.status():
        answered += 1
    assert 1 < answered < 100


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_bodies_in_chunks(door, raw, size):
    body = spans(20)
    raw.send(post(b"", CHUNKED, "trailer: x") + chunked(body, size).removesuffix(b"\r\n") + b"x: y\r\n\r\n")
    assert raw.status() == 200
    assert door.recorder.requests == [body]


def test_requests_byte_by_byte(door, raw):
    for byte in post(SPANS):
        raw.send(bytes([byte]))
    assert raw.status() == 200


def test_whoever_asks_whether_to_go_on_is_told_so(door, raw):
    head, _, body = post(SPANS, "expect: 100-continue").partition(b"\r\n\r\n")
    assert raw.send(head + b"\r\n\r\n").status() == 100
    assert raw.send(body).status() == 200


def test_whoever_asks_in_vain_is_told_at_once(door, raw):
    head = post(SPANS, "expect: 100-continue", path="/nowhere").partition(b"\r\n\r\n")[0]
    assert raw.send(head + b"\r\n\r\n").status() == 404
    assert "connection: close" in raw.head


@pytest.mark.parametrize("cut", [-1, -20, 70, 10_000])
def test_an_upgrade_is_passed_over(door, raw, cut):
    """As Java's HttpClient proposes it with every request."""
    proposal = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAB")
    request = post(SPANS, *proposal)
    for _ in range(2):
        assert raw.send(request[:cut]).send(request[cut:]).status() == 200
    assert raw.send(post(SPANS)).status() == 200
    assert door.recorder.requests == [SPANS] * 3


@pytest.mark.parametrize("cut", [-1, -20, 70, 10_000])
@pytest.mark.parametrize("size", [1, 9, 10_000])
def test_an_upgrade_with_a_body_in_chunks_is_passed_over(door, raw, cut, size):
    """As curl proposes it (--http2) with a body whose length it does not know."""
    request = post(b"", "connection: upgrade", "upgrade: h2c", CHUNKED) + chunked(SPANS, size)
    for _ in range(2):
        assert raw.send(request[:cut]).send(request[cut:]).status() == 200
    assert [raw.send(request + post(SPANS)).status(), raw.status()] == [200, 200]
    assert door.recorder.requests == [SPANS] * 4


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((CHUNKED,), b"zz\r\n"),
        (("transfer-encoding: gzip",), b"2\r\n{}\r\n0\r\n\r\n"),
        (("transfer-encoding: gzip", "transfer-encoding: identity"), b"2\r\n{}\r\n0\r\n\r\n"),
    ],
)
def test_an_upgrade_with_a_body_that_is_none(door, raw, headers, body):
    raw.send(post(b"", "connection: upgrade", "upgrade: h2c", *headers) + body)
    assert raw.status() == 400
    assert Status.FromString(raw.body).message == "not valid HTTP/1.1"
    assert raw.ended()
    assert door.recorder.requests == []


def test_a_whole_address_is_a_target_as_well(door, raw):
    assert raw.send(post(SPANS, path="http://x/v1/traces?a=b")).status() == 200


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",  # gRPC
        post(SPANS).replace(b"HTTP/1.1", b"HTTP/9.9"),
        post(SPANS, "content-length: 1"),
        post(SPANS, CHUNKED, "content-length: 5"),
        post(SPANS, "x y: z"),
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\nanything",
    ],
)
def test_what_is_no_request_is_told_so_and_left(door, raw, data):
    assert raw.send(data).status() in {400, 404}
    assert Status.FromString(raw.body).message if raw.body[:1] != b"{" else b'"message"' in raw.body
    with contextlib.suppress(OSError):
        raw.socket.shutdown(socket.SHUT_WR)
    assert raw.ended()


def test_chunks_that_are_none(door, raw):
    assert raw.send(post(b"", CHUNKED) + b"zz\r\n").status() == 400
    assert Status.FromString(raw.body).message == "not valid HTTP/1.1"


@pytest.mark.parametrize("data", [b"", post(SPANS)[:20], post(SPANS)[:60]])
def test_whoever_leaves_within_the_headers_is_forgotten(door, raw, data):
    raw.send(data).socket.shutdown(socket.SHUT_WR)
    assert raw.ended()


def test_whoever_leaves_within_the_body_is_told(door, raw):
    raw.send(post(SPANS)[:-5]).socket.shutdown(socket.SHUT_WR)
    assert raw.status() == 400
    assert door.recorder.requests == []


def test_whoever_says_nothing_more_still_gets_the_answer(door, raw):
    raw.send(post(SPANS)).socket.shutdown(socket.SHUT_WR)
    assert raw.status() == 200


@pytest.mark.parametrize(
    "head", [b"x: " + b"y" * 40_000, b"a: b\r\n" * 2000, b"z" * 400_000], ids=["long", "many", "endless"]
)
def test_headers_have_a_bound(door, raw, head):
    with contextlib.suppress(OSError):
        raw.send(b"POST /v1/traces HTTP/1.1\r\n" + head + b"\r\n\r\n")
    assert raw.status() == 431


def test_a_body_that_nobody_wants_is_thrown_away_and_the_answer_arrives(door):
    """The client sends all of it before it looks."""
    with HttpDoor(max_request_body_size="1MiB") as small, small.connect() as raw:
        raw.send(post(bytes(20 << 20)))
        assert raw.status() == 413
        assert "connection: close" in raw.head
    assert small.counters.denied() == {"too large": 1}


def test_a_large_body_is_taken_no_faster_than_it_is_used(door):
    gate = asyncio.Event()

    async def shut() -> None:
        await gate.wait()

    with HttpDoor(HttpRecorder(waits=shut)) as slow, slow.connect() as raw:
        raw.send(post(SPANS))
        raw.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # the next request stays in the client
            raw.send(post(bytes(16 << 20)))
        slow._loop.call_soon_threadsafe(gate.set)
        raw.socket.settimeout(10)
        assert raw.status() == 200


def test_any_garbage_is_survived(caplog):
    """Mutated requests and noise: the server answers or closes, reports nothing, and goes on."""
    caplog.set_level(logging.WARNING)
    dice = random.Random(6)  # noqa: S311 - the same every time
    with HttpDoor(**FAST) as door:
        for _ in range(150):
            data = bytearray(
                post(SPANS, CHUNKED) + chunked(SPANS, 9) if dice.random() < 0.5 else post(SPANS) * 2
            )
            for _ in range(dice.randrange(1, 6)):
                place = dice.randrange(len(data))
                action = dice.randrange(3)
                if action == 0:
                    data[place] = dice.randrange(256)
                elif action == 1:
                    del data[place : place + dice.randrange(20)]
                else:
                    data[place:place] = dice.randbytes(dice.randrange(20))
                data = data or bytearray(b"x")
            with door.connect() as raw, contextlib.suppress(OSError):
                raw.send(bytes(data)).socket.shutdown(socket.SHUT_WR)
                while status := raw.status():
                    assert status in {100, 200, 400, 404, 405, 413, 415, 431}
        assert door.post(SPANS).status_code == 200
        until(lambda: len(door.server._connections._open) == 1, "connections are gone")
    assert not caplog.records


def test_the_answer_to_nobody_is_no_error(caplog):
    left = asyncio.Event()

    async def until_left() -> None:
        await left.wait()

    with HttpDoor(HttpRecorder(lambda _: Receipt(), waits=until_left)) as door:
        with door.connect() as raw:
            raw.send(post(SPANS))
            until(lambda: door.server._connections._serving)
        door._loop.call_soon_threadsafe(left.set)
        until(lambda: not door.server._connections._open)
        assert door.recorder.requests
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

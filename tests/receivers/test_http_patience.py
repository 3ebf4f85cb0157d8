"""Clients that take their time, and more of them than there is room for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from google.rpc.status_pb2 import Status

from otel_moesif import Receipt
from tests.processes import until
from tests.receivers.doors import spans
from tests.receivers.http_doors import HttpDoor, HttpRecorder, post

SPANS = spans()
FAST = {"read_header_timeout": "200ms", "read_timeout": "300ms", "idle_timeout": "400ms"}


def test_slow_headers_have_an_end():
    with HttpDoor(**FAST) as door, door.connect() as raw:
        raw.send(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n")
        for _ in range(40):  # a byte now and then gives no more time
            with contextlib.suppress(OSError):
                raw.send(b"x")
            time.sleep(0.02)
        assert raw.status() == 408
        assert raw.ended()
        assert door.counters.denied() == {"slow headers": 1}


def test_slow_bodies_have_an_end():
    with HttpDoor(**FAST) as door, door.connect() as raw:
        raw.send(post(SPANS)[:-5])
        assert raw.status() == 408
        assert Status.FromString(raw.body).message == "the body did not come within 0.3 s"
        assert door.recorder.requests == []
        assert door.counters.denied() == {"slow body": 1}


def test_whoever_says_nothing_is_forgotten():
    with HttpDoor(**FAST) as door, door.connect() as silent, door.connect() as idle:
        assert idle.send(post(SPANS)).status() == 200
        assert silent.ended()
        assert idle.ended()


def test_time_runs_for_clients_only_not_while_we_store():
    async def longer() -> None:
        await asyncio.sleep(0.8)

    with HttpDoor(HttpRecorder(waits=longer), **FAST) as door, door.connect() as raw:
        raw.send(post(SPANS) + post(SPANS)[:-1])
        assert raw.status() == 200
        assert raw.send(SPANS[-1:]).status() == 200


def test_whoever_takes_no_answer_is_left():
    long = HttpRecorder(lambda _: Receipt(1, "x" * 50_000))
    with HttpDoor(long, write_timeout="300ms") as door, door.connect() as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sent = 0
        while not door.counters.denied():
            with contextlib.suppress(ConnectionError):
                raw.send(post(SPANS) * 20)
            sent += 20
            until(lambda all_=sent: len(door.recorder.requests) == all_ or door.counters.denied())
        assert door.counters.denied() == {"answer not taken": 1}


def test_a_connection_gets_old():
    with HttpDoor(max_connection_age="100ms") as door, door.connect() as raw:
        assert raw.send(post(SPANS)).status() == 200
        time.sleep(0.15)
        assert raw.send(post(SPANS)).status() == 200
        assert "connection: close" in raw.head
        assert raw.ended()


def test_who_keeps_us_waiting_longest_makes_room():
    with HttpDoor(max_connections=3) as door, contextlib.ExitStack() as stack:
        silent, half, busy = (stack.enter_context(door.connect()) for _ in range(3))
        half.send(post(SPANS)[:-5])
        assert busy.send(post(SPANS)).status() == 200
        newcomer = stack.enter_context(door.connect())
        assert newcomer.send(post(SPANS)).status() == 200
        assert silent.ended()
        assert half.send(SPANS[-5:]).status() == 200
        assert door.counters.denied() == {"made room for another connection": 1}


def test_where_everybody_is_being_answered_there_is_no_room():
    gate = asyncio.Event()

    async def shut() -> None:
        await gate.wait()

    with HttpDoor(HttpRecorder(waits=shut), max_connections=1) as door:
        with door.connect() as first:
            first.send(post(SPANS))
            until(lambda: door.server._connections._serving)
            with door.connect() as second:
                assert second.ended()
            door._loop.call_soon_threadsafe(gate.set)
            assert first.status() == 200
        assert door.counters.denied() == {"too many connections": 1}


def test_a_flood_of_silent_connections_does_not_shut_out_honest_ones():
    with HttpDoor(max_connections=50) as door, contextlib.ExitStack() as stack:
        slowest = 0.0
        for _ in range(20):
            for _ in range(25):
                stack.enter_context(door.connect())
            began = time.monotonic()
            assert door.post(SPANS).status_code == 200  # on a connection that is kept
            with door.connect() as new:
                assert new.send(post(SPANS)).status() == 200
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        assert len(door.server._connections._open) <= 50


def test_more_requests_at_once_than_allowed_are_told_to_come_back():
    gate = asyncio.Event()

    async def shut() -> None:
        await gate.wait()

    with HttpDoor(HttpRecorder(waits=shut), max_requests_in_flight=1) as door:
        with door.connect() as first, door.connect() as second:
            first.send(post(SPANS))
            until(lambda: door.server._connections._serving)
            assert second.send(post(SPANS)).status() == 503
            assert "retry-after: 1" in second.head
            door._loop.call_soon_threadsafe(gate.set)
            assert first.status() == 200
        assert door.counters.denied() == {"too many requests": 1}


def test_a_stop_answers_what_has_come_and_ends_what_has_not():
    gate = asyncio.Event()

    async def shut() -> None:
        await gate.wait()

    door = HttpDoor(HttpRecorder(waits=shut))
    with door, door.connect() as idle, door.connect() as busy:
        busy.send(post(SPANS))
        until(lambda: len(door.server._connections._open) == 2 and door.server._connections._serving)
        stop = asyncio.run_coroutine_threadsafe(door.server.shutdown(), door._loop)
        assert idle.ended()
        with pytest.raises(OSError, match="refused"):
            door.connect()
        door._loop.call_soon_threadsafe(gate.set)
        assert busy.status() == 200
        assert "connection: close" in busy.head
        stop.result(10)

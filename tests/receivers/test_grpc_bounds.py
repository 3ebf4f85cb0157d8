"""Bounds of OTLP/gRPC: each over-run has a status, and honest clients are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import struct
import threading
import time
import zlib

import grpc
import httpx
import psutil
import pytest

from tests.receivers.doors import TRACES, Door, Recorder, spans

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, PING, GOAWAY = 1, 4, 6, 7
MAX_CONCURRENT_STREAMS = 3
MIB = 1 << 20


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_request_is_measured_as_it_is_once_inflated(compression):
    async def run():
        async with Door(recorder := Recorder(), max_recv_msg_size_mib=1) as door:
            assert await door.call(bytes(MIB), compression=compression) == b""
            failure = await door.failure(bytes(MIB + 1), compression=compression)
            assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "grpc-status-details-bin" not in dict(failure.trailing_metadata() or ())
            assert [len(x) for x in recorder.requests] == [MIB]
            await asyncio.sleep(0.05)  # our side learns of it after the client
            why = "too large inflated" if compression else "too large or broken off"
            assert door.counters.denied() == {why: 1}

    asyncio.run(run())


def bomb(name: str, mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31 if name == "gzip" else 15)
    pieces = [packer.compress(bytes(MIB)) for _ in range(mebibytes)]
    return b"".join([*pieces, packer.flush()])


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_bomb_is_refused_while_it_inflates(name):
    """256 MiB of zeros in 256 KB: what is refused must not have been inflated first."""
    message = bomb(name, 256)

    async def run():
        async with Door(recorder := Recorder(), max_recv_msg_size_mib=8) as door:
            honest = door.channel()
            assert await door.call(b"", channel=honest) == b""
            with Memory() as memory:
                answer = await post(door, b"\1" + struct.pack(">I", len(message)) + message, name)
                await door.call(b"", channel=honest, timeout=1)
            await honest.close()
            # httpx shows no trailers, and under load the status comes in some
            resource_exhausted = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
            assert answer.headers.get("grpc-status", resource_exhausted) == resource_exhausted
            assert recorder.requests == [b"", b""]
            assert memory.growth < 100 * MIB

    asyncio.run(run())


@pytest.mark.parametrize(
    "body",
    [b"\x1f\x8bnot gzip at all", gzip.compress(spans())[:-9], b"\x1f\x8b\x08"],
    ids=["no gzip", "cut off", "a head alone"],
)
def test_what_cannot_be_inflated_is_refused_and_never_decoded(body):
    async def run():
        async with Door(recorder := Recorder()) as door:
            answer = await post(door, b"\1" + struct.pack(">I", len(body)) + body, "gzip")
            assert answer.headers.get("grpc-status") != "0"
            assert recorder.requests == []
            assert await door.call(spans()) == b""

    asyncio.run(run())


async def post(door: Door, framed: bytes, encoding: str) -> httpx.Response:
    """A gRPC call made by hand, so that client libraries cannot spare us anything."""
    headers = {"content-type": "application/grpc", "te": "trailers", "grpc-encoding": encoding}
    async with httpx.AsyncClient(http1=False, http2=True, timeout=20) as client:
        return await client.post(f"http://{door.address}{TRACES}", headers=headers, content=framed)


class Memory:
    """Resident memory of this process at its highest, against what it was in the beginning."""

    def __enter__(self):
        self._process = psutil.Process()
        self._before = self._most = self._process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._ended.wait(0.002):
            self._most = max(self._most, self._process.memory_info().rss)

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self._most - self._before


def test_memory_that_grows_is_seen():
    with Memory() as memory:
        held = b"x" * (200 * MIB)
        time.sleep(0.05)
    assert len(held)
    assert memory.growth > 150 * MIB


def test_more_requests_than_allowed_are_told_to_try_again():
    async def run():
        go, here = asyncio.Event(), asyncio.Semaphore(0)

        class Slow(Recorder):
            async def accept(self, *arguments, **options):
                here.release()
                await go.wait()
                return await super().accept(*arguments, **options)

        async with Door(recorder := Slow(), max_requests_in_flight=2) as door:
            calls = [asyncio.create_task(door.call(spans())) for _ in range(2)]
            for _ in calls:
                await here.acquire()
            failure = await door.failure(spans())
            assert failure.code() is grpc.StatusCode.UNAVAILABLE
            assert "grpc-status-details-bin" in dict(failure.trailing_metadata())
            assert door.counters.denied() == {"too many requests": 1}
            go.set()
            assert await asyncio.gather(*calls) == [b"", b""]
            assert await door.call(spans()) == b""  # both places are free again
            assert len(recorder.requests) == 3

    asyncio.run(run())


def test_a_request_that_does_not_come_gives_its_place_back():
    async def run():
        async with Door(recorder := Recorder(), read_timeout="500ms", max_requests_in_flight=1) as door:
            channel = door.channel()
            call = channel.stream_unary(TRACES)()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.CANCELLED  # which clients try again
            assert door.counters.denied() == {"too slow": 1}
            async with asyncio.timeout(30):
                while not recorder.requests:  # the caller hears of it a moment before its place is free
                    try:
                        assert await door.call(spans(), channel=channel) == b""
                    except grpc.aio.AioRpcError as error:
                        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - then one tries again
                        await asyncio.sleep(0.01)
            await channel.close()
            assert len(recorder.requests) == 1

    asyncio.run(run())


def test_a_call_without_a_message_is_malformed():
    async def run():
        async with Door(recorder := Recorder()) as door:
            channel = door.channel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.stream_unary(TRACES)(iter(()))
            await channel.close()
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert recorder.requests == []

    asyncio.run(run())


class Wire:
    """HTTP/2 by hand."""

    def __init__(self, reader, writer) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, door: Door, first: bytes = PREFACE) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.server.port)
        wire = cls(reader, writer)
        if first == PREFACE:
            first += wire.frame(SETTINGS)
        writer.write(first)
        return wire

    @staticmethod
    def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload

    def send(self, frame: bytes) -> None:
        self._writer.write(frame)

    async def until(self, kind: int, seconds: float = 5) -> bytes:
        """The payload of the first frame of that kind."""
        async with asyncio.timeout(seconds):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == kind:
                    return payload

    async def ended(self, seconds: float = 5) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while await self._reader.read(4096):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self._writer.close()


def test_clients_are_told_how_many_calls_a_connection_may_have():
    async def run():
        async with Door(Recorder(), max_concurrent_streams=7) as door:
            wire = await Wire.open(door)
            payload = await wire.until(SETTINGS)
            settings = dict(struct.unpack_from(">HI", payload, at) for at in range(0, len(payload), 6))
            assert settings[MAX_CONCURRENT_STREAMS] == 7
            wire.close()

    asyncio.run(run())


def test_connections_beyond_the_bound_are_closed_and_the_others_served():
    async def run():
        async with Door(Recorder(), max_connections=3) as door:
            honest = door.channel()
            assert await door.call(spans(), channel=honest) == b""
            held = [await Wire.open(door) for _ in range(2)]
            for wire in held:
                await wire.until(SETTINGS)
            extra = [await Wire.open(door, b"") for _ in range(5)]
            assert all([await wire.ended() for wire in extra])
            assert await door.call(spans(), channel=honest, timeout=1) == b""
            held.pop().close()
            later = door.channel()
            assert await door.call(spans(), channel=later, wait_for_ready=True) == b""
            for channel in (honest, later):
                await channel.close()
            held.pop().close()

    asyncio.run(run())


@pytest.mark.parametrize("first", [b"", PREFACE[:10]])
def test_who_does_not_speak_http2_in_time_is_disconnected(first):
    async def run():
        async with Door(Recorder(), handshake_timeout="200ms") as door:
            wire = await Wire.open(door, first)
            assert await wire.ended()
            wire.close()

    asyncio.run(run())


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01" * 100])
def test_garbage_is_disconnected(garbage):
    async def run():
        async with Door(Recorder()) as door:
            wire = await Wire.open(door, garbage)
            assert await wire.ended()
            wire.close()
            assert await door.call(spans()) == b""

    asyncio.run(run())


@pytest.mark.parametrize("bound", ["max_connection_age", "max_connection_idle"])
def test_connections_end_by_age_and_idleness(bound):
    async def run():
        life = {"server_parameters": {bound: "500ms", "max_connection_age_grace": "100ms"}}
        async with Door(Recorder(), keepalive=life) as door:
            wire = await Wire.open(door)
            await wire.until(GOAWAY)
            assert await wire.ended()
            wire.close()

    asyncio.run(run())


def test_pings_without_end_are_disconnected():
    async def run():
        async with Door(Recorder(), keepalive={"enforcement_policy": {"min_time": "1m"}}) as door:
            wire = await Wire.open(door)
            wire.send(wire.frame(PING, bytes(8)) * 6)
            assert b"too_many_pings" in await wire.until(GOAWAY)
            wire.close()

    asyncio.run(run())


def test_a_dead_client_is_noticed():
    async def run():
        life = {"server_parameters": {"time": "1s", "timeout": "1s"}}
        async with Door(Recorder(), keepalive=life) as door:
            wire = await Wire.open(door)  # never answers a ping
            await wire.until(PING)
            assert await wire.ended()
            wire.close()

    asyncio.run(run())


def call_headers(path: bytes) -> bytes:
    """A HEADERS frame, its fields without compression (RFC 7541 section 6.2.2)."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"x"}
    fields |= {b"te": b"trailers", b"content-type": b"application/grpc"}
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields.items()
    )
    return struct.pack(">I", len(block))[1:] + b"\x01\x05" + (1).to_bytes(4, "big") + block


@pytest.mark.parametrize("path", [b"/a\xffb", b"/\xc3\x28/Export", b"", b"/", b"/" + b"a" * 200])
def test_no_path_ends_the_server(path):
    """grpc.aio of 1.85 ends at the first that is not UTF-8."""

    async def run():
        async with Door(Recorder()) as door:
            honest = door.channel()
            assert await door.call(spans(), channel=honest) == b""
            wire = await Wire.open(door)
            wire.send(call_headers(path))
            with contextlib.suppress(asyncio.IncompleteReadError):
                await wire.until(HEADERS)  # it is answered, or disconnected
            assert await door.call(spans(), channel=honest, timeout=2) == b""
            wire.close()
            await honest.close()

    asyncio.run(run())

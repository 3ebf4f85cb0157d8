"""Encoded bodies: understood in every form that senders use, and never inflated beyond the bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif import InvalidData, TooLarge
from otel_moesif.receivers.otlp.http_body import Room, read_body
from otel_moesif.receivers.otlp.http_settings import HttpSettings
from tests.processes import until
from tests.receivers.doors import spans
from tests.receivers.http_doors import JSON, HttpDoor, post

MIB = 1 << 20


def bare(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_unsized(data: bytes) -> bytes:
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(data) + stream.flush()


ENCODERS = [
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("x-gzip", gzip.compress),
    ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    ("deflate", zlib.compress),
    ("deflate", bare),
    ("zstd", zstd),
    ("zstd", zstd_unsized),
    ("zstd", lambda data: zstd(data[:9]) + zstd(data[9:])),
]


class Pieces:
    """A body that comes in pieces of some size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self.left = len(data)

    async def read(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        self.left -= len(piece)
        return piece


def inflate(data: bytes, encoding: str, size: int = 1 << 18, **options) -> bytes:
    bounds = HttpSettings.model_validate(options)
    with Room(bounds.max_bytes_in_flight).hold() as held:
        return asyncio.run(read_body(Pieces(data, size), encoding, bounds, bounds.max_inflated_size, held))


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
@pytest.mark.parametrize("size", [1, 7, 1 << 18])
def test_a_body_is_what_was_encoded(encoding, encode, size):
    body = spans(30, "text")
    assert inflate(encode(body), encoding, size) == body


@pytest.mark.parametrize(("encoding", "encode"), [one for one in ENCODERS if one[0] not in {"", "identity"}])
def test_nothing_is_missing_and_nothing_follows(encoding, encode):
    data = encode(spans(30, "text"))
    for cut in (0, 1, 2, len(data) // 2, len(data) - 1):
        if cut or encoding != "identity":
            with pytest.raises(InvalidData):
                inflate(data[:cut], encoding)
    with pytest.raises(InvalidData):
        inflate(data + b"something else", encoding)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ENCODERS), st.binary(max_size=2000), st.integers(0, 3000), st.binary(max_size=5),
    st.sampled_from([1, 100, 10_000]),
)  # fmt: skip
def test_damage_is_invalid_or_harmless(encoder, body, place, noise, size):
    encoding, encode = encoder
    data = encode(body)
    place = min(place, len(data))
    with contextlib.suppress(InvalidData):
        inflate(data[:place] + noise + data[place:], encoding, size)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def zeros(compress: Callable[[bytes], bytes], flush: Callable[[], bytes], mib: int) -> bytes:
    part = bytes(MIB)
    return b"".join([compress(part) for _ in range(mib)]) + flush()


def gzip_bomb(mib: int) -> bytes:
    stream = zlib.compressobj(9, wbits=31)
    return zeros(stream.compress, stream.flush, mib)


def deflate_bomb(mib: int) -> bytes:
    stream = zlib.compressobj(9)
    return zeros(stream.compress, stream.flush, mib)


def zstd_bomb(mib: int) -> bytes:
    stream = zstandard.ZstdCompressor().compressobj()
    return zeros(stream.compress, stream.flush, mib)


BOMBS = [("gzip", gzip_bomb), ("deflate", deflate_bomb), ("zstd", zstd_bomb)]


@pytest.mark.parametrize(("encoding", "bomb"), BOMBS)
@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "inflation ratio"), ({"max_inflation_ratio": 1_000_000}, "too large inflated")],
)
def test_a_bomb_goes_off_in_a_small_room(encoding, bomb, options, reason):
    """Half a GiB of zeros: neither its size nor the time of it shows."""
    data = bomb(512)
    with HttpDoor(**options) as door:
        door.post(spans())
        before, began = resident(), time.monotonic()
        response = door.post(data, headers={"content-encoding": encoding})
        assert time.monotonic() - began < 5
        assert resident() - before < 100 * MIB
        assert response.status_code == 413
        assert Status.FromString(response.content).code == 8
        assert door.counters.denied() == {reason: 1}
        assert door.recorder.requests == [spans()]


def test_many_bombs_at_once_do_not_keep_honest_clients_waiting():
    data = gzip_bomb(256)
    with HttpDoor(max_inflation_ratio=1_000_000) as door, contextlib.ExitStack() as stack:
        before = resident()
        bombers = [stack.enter_context(door.connect()) for _ in range(8)]
        for bomber in bombers:
            bomber.send(post(data, "content-encoding: gzip"))
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert door.post(spans()).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert {bomber.status() for bomber in bombers} <= {413, 503}
        assert slowest < 1
        assert resident() - before < 150 * MIB


def test_the_bounds_are_those_of_the_configuration():
    body = spans(1, "x" * 4000)
    bounds = {"max_request_body_size": "1KiB", "max_inflated_size": "2KiB"}
    with pytest.raises(TooLarge, match="the body is larger than 1KiB"):
        inflate(body, "", **bounds)
    with pytest.raises(TooLarge, match="the body is larger than 2KiB once inflated"):
        inflate(gzip.compress(body), "gzip", **bounds)
    assert inflate(gzip.compress(body[:2048]), "gzip", **bounds) == body[:2048]


def test_a_length_that_is_too_large_is_not_waited_for():
    with HttpDoor(max_request_body_size="1KiB") as door, door.connect() as raw:
        raw.send(post(b"x" * 5000).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        assert raw.status() == 413


def test_empty_streams_in_a_row_are_no_work():
    data = gzip.compress(b"") * 100_000
    began = time.monotonic()
    with pytest.raises(InvalidData, match="something follows"):
        inflate(data, "gzip")
    assert time.monotonic() - began < 1


def test_a_zstd_window_has_a_bound():
    wide = zstandard.ZstdCompressionParameters(window_log=27)
    data = zstandard.ZstdCompressor(compression_params=wide).compress(os.urandom(9 * MIB))
    with pytest.raises(InvalidData, match="a window of more than 8 MiB"):
        inflate(data, "zstd")


def test_large_bodies_share_a_room_and_small_ones_need_none():
    with HttpDoor(max_bytes_in_flight="1MiB") as door, door.connect() as large:
        held = post(bytes(MIB))
        large.send(held[:-1])
        room = door.server._connections.answer.__self__._room
        until(lambda: room._used > MIB // 2, "the first has been read")
        answer = door.post(bytes(MIB // 2))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert door.post(spans()).status_code == 200
        assert large.send(held[-1:]).status() == 200
        assert door.post(bytes(MIB // 2)).status_code == 200  # it was given back
        assert door.counters.denied() == {"too many bytes": 1}


@pytest.mark.parametrize(
    "text",
    [
        b'{"resourceSpans": [' + b"{}," * 700_000 + b"{}]}",
        b'{"a": ' + b"[" * 600_000 + b"]" * 600_000 + b"}",
        b'{"resourceSpans": "' + b"x" * (9 << 20) + b'"}',
    ],
    ids=["many", "deep", "long"],
)
def test_json_has_bounds_of_its_own(text):
    with HttpDoor() as door:
        before = resident()
        response = door.post(text, headers={"content-type": JSON})
        assert response.status_code == 413
        assert resident() - before < 100 * MIB
        assert sum(door.counters.denied().values()) == 1


def test_bodies_in_json_that_are_json_themselves_are_no_values():
    """A hundred calls whose bodies of 20 KiB were captured."""
    body = json.dumps([{"id": 1, "tags": ["a", "b", "c"]}] * 600)
    attributes = [{"key": "http.response.body", "value": {"stringValue": body}}]
    one = {"traceId": "01" * 16, "spanId": "02" * 8, "attributes": attributes}
    text = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one] * 100}]}]}).encode()
    assert sum(map(text.count, (b"{", b"[", b","))) > (4 * MIB) // 16
    with HttpDoor() as door:
        answer = door.post(text, headers={"content-type": JSON})
        assert (answer.status_code, answer.json()) == (200, {})
        assert door.recorder.requests[0].count(body.encode()) == 100


def test_the_most_json_that_is_taken_does_not_stop_others():
    values = b"{}," * ((4 * MIB) // 16 // 2 - 10)
    text = b'{"resourceSpans": [{"scopeSpans": [' + values + b'{"spans": [{"name": "x"}]}]}]}'
    with HttpDoor() as door, door.connect() as large:
        before = resident()
        large.send(post(text).replace(b"application/x-protobuf", b"application/json"))
        slowest = 0.0
        for _ in range(10):
            began = time.monotonic()
            assert door.post(spans()).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert large.status() == 200
        assert slowest < 1
        assert resident() - before < 100 * MIB

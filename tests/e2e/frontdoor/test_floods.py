"""Header lists without end, and the floods that HTTP/2 is known for."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.collector import Collector, sandbox
from tests.e2e.frontdoor.payloads import calls
from tests.e2e.frontdoor.raw_grpc import RawGrpc
from tests.e2e.frontdoor.watch import Honest, Memory, warm_up

MOST_MIB = 95  # 100 MB
# gRPC's library keeps up to 27 MiB of a list of headers that does not end (measured with 1.85.1), whatever
# grpc.max_metadata_size says.
AT_ONCE = 2
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 1, 3, 4, 6, 8, 9
END_HEADERS = 4
RESOURCE_EXHAUSTED = 8
# A whole head by RFC 7541's static table: POST, http, a path and an authority that are not indexed.
HEAD = b"\x83\x86\x04\x02/x\x01\x01a"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("floods")
    with sandbox(directory) as moesif:
        collector = Collector(directory, {"moesif": moesif.url}, http={})
        with collector.run() as process:
            warm_up(collector)
            yield collector, process


@pytest.mark.parametrize(
    "headers",
    [{f"x-{number}": "y" * 100 for number in range(2000)}, {"x": "y" * 200_000}, {"y" * 200_000: "x"}],
    ids=["many", "a long value", "a long name"],
)
def test_http_refuses_long_lists_of_headers(running, headers):
    with httpx.Client(base_url=running[0].url, trust_env=False) as client:
        sent = {"content-type": "application/x-protobuf", **headers}
        assert client.post("/v1/traces", content=calls().body, headers=sent).status_code == 431


@pytest.mark.parametrize("count", [1, 1000])
def test_grpc_refuses_long_lists_of_headers(running, count):
    headers = [(f"x-{number}", "y" * (200_000 // count)) for number in range(count)]
    with RawGrpc(running[0].grpc_port) as client:
        assert client.call(calls().body, headers) == RESOURCE_EXHAUSTED


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _continuations() -> Iterator[bytes]:
    """CVE-2024-27316 and its kin: a list of headers that does not end."""
    yield _frame(HEADERS, 0, 1, HEAD)
    filler = b"".join(b"\x00\x04x-%02d\x7f\x10" % number + b"y" * 143 for number in range(99))[:16000]
    for _ in range(2000):
        yield _frame(CONTINUATION, 0, 1, filler)


def _empty_continuations() -> Iterator[bytes]:
    yield _frame(HEADERS, 0, 1, HEAD)
    for _ in range(100):
        yield _frame(CONTINUATION, 0, 1) * 1000


def _resets() -> Iterator[bytes]:
    """CVE-2023-44487: calls that are taken back as soon as they are made."""
    for stream in range(1, 100_000, 2):
        yield _frame(HEADERS, END_HEADERS, stream, HEAD) + _frame(RST_STREAM, 0, stream, bytes(4))


def _streams() -> Iterator[bytes]:
    """Calls without end, none of which sends a message."""
    for stream in range(1, 20_000, 2):
        yield _frame(HEADERS, END_HEADERS, stream, HEAD)


def _pings() -> Iterator[bytes]:
    for _ in range(100):
        yield _frame(PING, 0, 0, bytes(8)) * 1000


def _settings() -> Iterator[bytes]:
    for _ in range(100):
        yield _frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)) * 1000


def _windows() -> Iterator[bytes]:
    for _ in range(100):
        yield _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 1000


def _unknown_frames() -> Iterator[bytes]:
    for _ in range(2000):
        yield _frame(0xEE, 0, 0, bytes(16_000))


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "headers without end": _continuations,
    "empty continuations": _empty_continuations,
    "calls taken back": _resets,
    "calls without message": _streams,
    "pings": _pings,
    "settings": _settings,
    "window updates": _windows,
    "unknown frames": _unknown_frames,
}


@pytest.mark.parametrize("what", FLOODS)
def test_floods_of_http2_are_bounded(running, what):
    collector, process = running

    def flood(_: int) -> None:
        address = ("127.0.0.1", collector.grpc_port)
        # Until it is ended by the other side, or that takes no more.
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1) as client:
            client.sendall(PREFACE + _frame(SETTINGS, 0, 0))
            for part in FLOODS[what]():
                client.sendall(part)

    with Honest(collector) as honest, ThreadPoolExecutor(AT_ONCE) as flooders:
        memory = Memory(process.pid)
        list(flooders.map(flood, range(AT_ONCE)))
        honest.settle()
        growth = memory.growth_mib()
    assert growth < MOST_MIB, honest.summary()
    honest.check()
    assert process.exit_code is None

"""Whoever is not let in is answered before anything of the body is read, let alone understood."""

from __future__ import annotations

import gzip
import socket
import threading

import grpc
import httpx
import pytest

from tests.e2e.frontdoor.answers import GrpcDoor, HttpDoor
from tests.e2e.frontdoor.payloads import calls
from tests.e2e.frontdoor.secured import secured
from tests.e2e.frontdoor.watch import Memory
from tests.e2e.traffic import TRACES

MALFORMED = b"\x0a\xff\xff\xff\xff\x0fnot protobuf"
INTAKE = tuple(f"otelcol_receiver_{what}" for what in ("accepted", "refused", "rejected"))
KINDS = pytest.mark.parametrize("kind", ["bearer", "bearer file", "basic", "oidc"])
PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http"])
HEADERS = ["missing", "wrong", "empty", "another scheme", "long"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with secured(tmp_path_factory.mktemp("unauthenticated")) as opened:
        yield opened


def _headers(entrance, what: str) -> dict[str, str]:
    return {
        "missing": {},
        "wrong": dict(entrance.wrong),
        "empty": {"authorization": ""},
        "another scheme": {"authorization": "Digest username=ali"},
        "long": {"authorization": "Bearer " + "x" * 5000},
    }[what]


@pytest.fixture
def door(running, kind, protocol):
    entrance = running.entrances[kind]
    if protocol == "grpc":
        with grpc.insecure_channel(entrance.target, options=[("grpc.enable_retries", 0)]) as channel:
            yield GrpcDoor(channel)
    else:
        with httpx.Client(base_url=entrance.url, trust_env=False, default_encoding="latin-1") as client:
            yield HttpDoor(client)


def _intake(running) -> list[str]:
    """All that the intake counts."""
    return [line for line in running.collector.metrics().splitlines() if line.startswith(INTAKE)]


@KINDS
@PROTOCOLS
@pytest.mark.parametrize("what", HEADERS)
def test_credentials_come_before_the_body(running, door, kind, protocol, what):
    headers = _headers(running.entrances[kind], what)
    before = _intake(running)
    for body in (MALFORMED, calls().body, b""):
        answer = door.send(body, headers=headers)
        assert answer.code == "UNAUTHENTICATED", body
        assert answer.http in {0, 401}
        for value in filter(None, headers.values()):
            assert value.encode() not in answer.message.encode() + answer.body
        if protocol == "http":
            assert answer.headers["www-authenticate"].partition(" ")[0] in {"Bearer", "Basic"}
    assert _intake(running) == before, "nothing came as far as the intake"


@KINDS
@pytest.mark.parametrize("value", ["Bearer größer".encode(), b"Bearer \xff\xfe", b"Basic \x80"])
def test_credentials_that_are_no_ascii_are_wrong_ones(running, kind, value):
    with httpx.Client(base_url=running.entrances[kind].url, trust_env=False) as client:
        assert HttpDoor(client).send(calls().body, headers={"authorization": value}).http == 401


@KINDS
@PROTOCOLS
def test_with_good_credentials_the_same_body_is_looked_at(running, door, kind, protocol):
    headers = running.entrances[kind].headers
    assert door.send(MALFORMED, headers=headers).code == "INVALID_ARGUMENT"
    assert door.send(calls().body, headers=headers).code == "OK"


@KINDS
@pytest.mark.parametrize("expect", ["", "expect: 100-continue\r\n"])
def test_http_answers_401_although_the_body_never_comes(running, kind, expect):
    entrance = running.entrances[kind]
    (wrong,) = entrance.wrong.values()
    head = (
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
        f"authorization: {wrong}\r\n{expect}content-length: 10000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", entrance.http_port), timeout=5) as client:
        client.sendall(head.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 401 "), "and no 100 Continue before it"


@KINDS
def test_grpc_answers_although_the_message_never_comes(running, kind):
    entrance = running.entrances[kind]
    ended = threading.Event()

    def nothing():
        ended.wait(10)
        yield from ()

    with grpc.insecure_channel(entrance.target) as channel:
        call = channel.stream_unary(TRACES).future(
            nothing(), timeout=8, metadata=tuple(entrance.wrong.items())
        )
        try:
            assert call.exception(timeout=5).code() is grpc.StatusCode.UNAUTHENTICATED
        finally:
            ended.set()


def test_a_bomb_of_a_stranger_is_not_inflated(running):
    entrance = running.entrances["bearer"]
    bomb = gzip.compress(bytes(60 << 20))
    memory = Memory(running.process.pid)
    with httpx.Client(base_url=entrance.url, trust_env=False) as client:
        for _ in range(5):
            answer = HttpDoor(client).send(bomb, headers={"content-encoding": "gzip", **entrance.wrong})
            assert answer.http == 401
    assert memory.growth_mib() < 40, "a fraction of one bomb"


def test_credentials_of_another_receiver_do_not_open(running):
    for kind, other in (("bearer", "bearer file"), ("bearer file", "bearer"), ("oidc", "basic")):
        with httpx.Client(base_url=running.entrances[kind].url, trust_env=False) as client:
            headers = running.entrances[other].headers
            assert HttpDoor(client).send(calls().body, headers=headers).http == 401

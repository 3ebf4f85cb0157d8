"""Bombs cost the collector little memory and its honest clients little time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from tests.e2e.collector import Collector, sandbox
from tests.e2e.frontdoor import bombs
from tests.e2e.frontdoor.answers import JSON, PROTOBUF, HttpDoor
from tests.e2e.frontdoor.bombs import MIB
from tests.e2e.frontdoor.raw_grpc import RawGrpc
from tests.e2e.frontdoor.watch import Honest, Memory, warm_up
from tests.e2e.traffic import TRACES
from tests.processes import until

MOST_MIB = 95  # 100 MB
AT_ONCE = 4
# Their conversion is what costs, for these are taken; or they are as large as all requests may be together.
FEW_AT_ONCE = {"a million values in a list", "19 MiB of one string", "19 MiB of noise"}
# gRPC's library collects messages by itself, and bounds nothing over all of them: see the last test.
ALONE_OVER_GRPC = {"19 MiB of one string", "19 MiB of noise"}
RARE = {"a million span events", "a million resources", "groups in groups", "brackets"}
RARE |= {"19 MiB of noise", "a million digits", "8 MiB of one string"}
# gRPC's numbers.
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE = 3, 8, 14


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bombs")
    with sandbox(directory) as moesif:
        collector = Collector(directory, {"moesif": moesif.url}, http={})
        with collector.run() as process:
            warm_up(collector)
            yield collector, process


def _client(collector: Collector) -> httpx.Client:
    return httpx.Client(base_url=collector.url, trust_env=False, timeout=60)


def _over_http(
    running, body: bytes, headers: dict[str, str], expected: set[int], at_once: int = AT_ONCE
) -> None:
    collector, process = running

    def throw(_: int) -> int:
        with _client(collector) as client:
            return HttpDoor(client).send(body, headers=headers).http

    _check(collector, process, throw, expected, at_once)


def _over_grpc(
    running, body: bytes, expected: set[int], at_once: int = AT_ONCE, *, compressed: bool = False
) -> None:
    collector, process = running

    def throw(_: int) -> int:
        with RawGrpc(collector.grpc_port, timeout=60) as connection:
            return connection.call(body, compressed=compressed)

    _check(collector, process, throw, expected, at_once)


def _check(collector, process, throw, expected: set[int], at_once: int) -> None:
    with Honest(collector) as honest, ThreadPoolExecutor(at_once) as throwers:
        memory = Memory(process.pid)
        answers = set(throwers.map(throw, range(at_once)))
        honest.settle()
        growth = memory.growth_mib()
    assert answers <= expected
    assert growth < MOST_MIB
    honest.check()
    assert process.exit_code is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_bombs_of_nothing_are_413(running, encoding):
    body = bombs.zeros(encoding, 128 * MIB)
    assert len(body) < MIB
    # 503: the others have the room for large bodies just now.
    _over_http(running, body, {"content-encoding": encoding}, {413, 503})


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_what_inflates_just_as_far_as_allowed_is_bounded_too(running, kind):
    content = bombs.long_string(60 * MIB, repeats=8)
    body = bombs.packed(content)
    assert len(body) * 200 > 60 * MIB
    # Another one may begin while the last one's 60 MiB are just being freed.
    _over_http(running, body, {"content-encoding": "gzip", "content-type": kind}, {200, 400, 413}, 1)


def test_many_gzip_streams_in_a_row_are_400(running):
    _over_http(running, bombs.many_members(500_000), {"content-encoding": "gzip"}, {400})


def _each(names: Iterable[str]) -> pytest.MarkDecorator:
    """All of them; those that teach nothing beside their neighbours only among the slow tests."""
    return pytest.mark.parametrize(
        "what", [pytest.param(name, marks=[pytest.mark.slow] if name in RARE else []) for name in names]
    )


@_each(bombs.PROTOBUF)
def test_bombs_of_protobuf_over_http(running, what):
    at_once = 2 if what in FEW_AT_ONCE else AT_ONCE
    _over_http(running, bombs.PROTOBUF[what](), {}, {200, 400, 413, 503}, at_once)


@_each(bombs.JSON)
def test_bombs_of_json(running, what):
    _over_http(running, bombs.JSON[what](), {"content-type": JSON}, {200, 400, 413, 503})


REFUSALS = {INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE}


@_each(bombs.PROTOBUF)
def test_bombs_of_protobuf_over_grpc(running, what):
    at_once = 1 if what in ALONE_OVER_GRPC else 2 if what in FEW_AT_ONCE else AT_ONCE
    _over_grpc(running, bombs.PROTOBUF[what](), {0, *REFUSALS}, at_once)


def test_a_bomb_of_gzip_over_grpc_exhausts(running):
    _over_grpc(running, bombs.zeros("gzip", 128 * MIB), {RESOURCE_EXHAUSTED}, compressed=True)


def test_63_mib_of_one_string_zipped_over_grpc(running):
    body = bombs.packed(bombs.long_string(63 * MIB, repeats=8))
    _over_grpc(running, body, REFUSALS, compressed=True)


def test_65_mib_of_one_string_are_more_than_may_be_sent(running):
    body = bombs.long_string(65 * MIB)
    _over_http(running, body, {}, {413})
    _over_grpc(running, body, {RESOURCE_EXHAUSTED})


def test_65_mib_of_one_string_zipped_are_more_than_may_come_out(running):
    body = bombs.packed(bombs.long_string(65 * MIB, repeats=8))
    _over_http(running, body, {"content-encoding": "gzip"}, {413, 503})
    _over_grpc(running, body, {RESOURCE_EXHAUSTED}, compressed=True)


def test_63_mib_of_one_string_over_grpc(running):
    _over_grpc(running, bombs.long_string(63 * MIB), REFUSALS)


def test_sixteen_messages_of_19_mib_over_grpc_cost_what_they_weigh_and_most_is_given_back(running):
    """It is the one door where the bound is that of one message times that of calls in flight."""
    collector, process = running
    body, count = bombs.long_string(19 * MIB), 16
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with contextlib.ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(collector.target, options)) for _ in range(count)
        ]
        honest = stack.enter_context(Honest(collector))
        memory = Memory(process.pid)
        answers = [channel.unary_unary(TRACES).future(body, timeout=60) for channel in channels]
        codes = {answer.code().value[0] for answer in answers}
        left = memory.left_mib()  # two seconds later it is given back
        honest.settle()
    assert codes <= REFUSALS
    assert memory.growth_mib() < 2 * count * 19
    honest.check(slowest=2.0)
    # By itself glibc gives back some 45, of 300.
    until(lambda: memory.left_mib() < left - 100, "the memory given back", timeout=20)

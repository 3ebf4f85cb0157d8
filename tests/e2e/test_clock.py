"""A wall clock that jumps: spans still find each other, nothing stalls, nothing is lost or comes twice."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.collector import sandbox, transaction_id
from tests.e2e.traffic import TRACES, Traffic, call, channel
from tests.faults.shim import Clock, FaultyCollector
from tests.processes import until

HOUR = 3600
# Where the clock stands, one after the other, in seconds beside the true time.
STEPS = [5 * HOUR, -5 * HOUR, 0]
# No answer may take longer than this, however the clock jumps.
PATIENCE = 5
# What the backend answers, so that an event tells whether its CLIENT span was found.
BACKEND_STATUS = 207


@pytest.fixture
def moesif(tmp_path):
    with sandbox(tmp_path) as running:
        yield running


def test_spans_find_each_other_and_nothing_stalls_when_the_clock_jumps(tmp_path, moesif):
    collector = FaultyCollector(tmp_path / "collector", {"moesif": moesif.url})
    clock, joined = Clock(collector, tmp_path / "offset"), set()
    with (
        collector.run() as process,
        Traffic(collector.target, calls=20) as traffic,
        channel(collector.target) as connection,
    ):
        for offset in STEPS:
            joined |= step_between_the_spans(connection, clock, offset)
            begin, so_far = time.monotonic(), len(traffic.acknowledged)
            process.until(lambda n=so_far: len(traffic.acknowledged) > n + 500, "acknowledgements")
            assert time.monotonic() - begin < PATIENCE
            newest = set(traffic.acknowledged)
            process.until(lambda new=newest: moesif.arrived().keys() >= new, "delivery", timeout=4 * PATIENCE)
        traffic.stop()
        wanted = traffic.acknowledged | joined
        until(lambda: moesif.arrived().keys() >= wanted, "every acknowledged call")
        assert "Traceback" not in process.output()
    assert not traffic.codes, "a clock is no reason to refuse anything"
    assert traffic.slowest < PATIENCE
    assert max(moesif.arrived().values()) == 1
    assert_joined(moesif, joined)


@pytest.mark.slow
def test_a_kill_while_the_clock_is_wrong_loses_nothing(tmp_path, moesif):
    collector = FaultyCollector(tmp_path / "collector", {"moesif": moesif.url})
    clock, acknowledged, joined = Clock(collector, tmp_path / "offset"), set(), set()
    for offset in STEPS:  # each time it starts on a journal that was written at another time of day
        clients, servers, transactions = exchange()
        with collector.run() as process, Traffic(collector.target, calls=20) as traffic:
            send(collector, clients)
            process.until(lambda t=traffic: len(t.acknowledged) >= 300, "acknowledgements")
            clock.set(offset)
            process.until(lambda t=traffic: len(t.acknowledged) >= 600, "acknowledgements after the step")
            process.kill()
            traffic.stop()
        with collector.run():
            send(collector, servers)  # their CLIENT spans came in an earlier life, at another time of day
            joined |= transactions
            acknowledged |= traffic.acknowledged | joined
            wanted = frozenset(acknowledged)
            until(lambda x=wanted: moesif.arrived().keys() >= x, "every acknowledged call", timeout=15)
    assert_joined(moesif, joined)


def test_backoff_goes_by_no_wall_clock(tmp_path, moesif):
    collector = FaultyCollector(tmp_path / "collector", {"moesif": moesif.url})
    clock = Clock(collector, tmp_path / "offset")
    with collector.run() as process, Traffic(collector.target, calls=20) as traffic:
        for offset in STEPS:
            failures = failed(moesif)
            moesif.behave(status=503)
            process.until(lambda n=failures: failed(moesif) > n, "a failed attempt")
            clock.set(offset)
            failures = failed(moesif)
            process.until(lambda n=failures: failed(moesif) > n + 2, "further attempts", timeout=4 * PATIENCE)
            moesif.behave()
            newest = set(traffic.acknowledged)
            process.until(lambda new=newest: moesif.arrived().keys() >= new, "delivery", timeout=4 * PATIENCE)


@pytest.mark.slow
def test_a_date_to_retry_after_is_no_reason_to_wait_for_hours(tmp_path, moesif):
    """Retry-After may be a date (RFC 9110 section 10.2.3), by the clock of a backend that is right."""
    collector = FaultyCollector(tmp_path / "collector", {"moesif": moesif.url})
    clock = Clock(collector, tmp_path / "offset")
    clock.set(-5 * HOUR)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    moesif.behave(status=429, retry_after=soon, times=1)
    with collector.run() as process, Traffic(collector.target, calls=20) as traffic:
        process.until(lambda: len(traffic.acknowledged) >= 100, "acknowledgements")
        traffic.stop()
        process.until(
            lambda: moesif.arrived().keys() >= traffic.acknowledged, "delivery", timeout=4 * PATIENCE
        )


# -- spans of calls, in two requests ----------------------------------------------------------------------


def exchange(calls=20):
    """The CLIENT spans of some calls, their SERVER spans, both as a request, and the transaction ids."""
    requests = ExportTraceServiceRequest(), ExportTraceServiceRequest()
    scopes = []
    for request in requests:
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "gateway"
        scopes.append(resource.scope_spans.add())
    transactions, now = set(), time.time_ns()
    for _ in range(calls):
        trace, server, client = random.getrandbits(128), random.getrandbits(64), random.getrandbits(64)
        transactions.add(transaction_id(trace, server))
        for scope, kind, span_id, parent, status in (
            (scopes[0], Span.SPAN_KIND_CLIENT, client, server, BACKEND_STATUS),
            (scopes[1], Span.SPAN_KIND_SERVER, server, 0, 200),
        ):
            span = scope.spans.add(
                trace_id=trace.to_bytes(16, "big"),
                span_id=span_id.to_bytes(8, "big"),
                parent_span_id=parent.to_bytes(8, "big") if parent else b"",
                name="GET",
                kind=kind,
                start_time_unix_nano=now - 20_000_000,
                end_time_unix_nano=now,
            )
            span.attributes.add(key="http.request.method").value.string_value = "GET"
            span.attributes.add(key="http.response.status_code").value.int_value = status
    return *(request.SerializeToString() for request in requests), transactions


def send(collector, body):
    with channel(collector.target) as connection:
        call(connection, TRACES, body, timeout=PATIENCE)


def step_between_the_spans(connection, clock, offset):
    """CLIENT spans, then a step of the clock, then their SERVER spans; gives the transaction ids."""
    clients, servers, transactions = exchange()
    call(connection, TRACES, clients, timeout=PATIENCE)
    clock.set(offset)
    call(connection, TRACES, servers, timeout=PATIENCE)
    return transactions


def assert_joined(moesif, joined):
    found = {x["transaction_id"]: x["metadata"].get("targetResponseCode") for x in moesif.events()}
    assert {found.get(transaction) for transaction in joined} == {BACKEND_STATUS}


def failed(moesif):
    return moesif.stats()["requests"]["by_status"].get("503", 0)
